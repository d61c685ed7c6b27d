"""What all containers of a sandbox have in common, whatever they are for: the agent's, the key's helper, the relay."""

from collections.abc import Sequence

from claude_sandbox.backends.docker.engine.documents import Manifest

ICC = "com.docker.network.bridge.enable_icc"
"""Whether those on a bridge can connect to each other."""

NO_RESOLVER = "192.0.2.1"
"""An address for documentation (RFC 5737), which nothing answers at.

Older engines forward what a container asks their resolver from the host's own network, an open way out of an internal
network (CVE-2024-29018).
"""

NO_NEW_PRIVILEGES = "no-new-privileges:true"
APP_ARMOR = "apparmor="
"""Before the name of a profile, among the security options; without, an engine uses its own."""


def confined() -> Manifest:
    """Of a HostConfig: no capability, and namespaces of its own."""
    return {"CapDrop": ["ALL"], "IpcMode": "private", "CgroupnsMode": "private"}


def companion_host(
    network: str, *, memory: int, cpu: int, pids: int, open_files: int, logs: dict[str, str], limits_swap: bool
) -> Manifest:
    """The HostConfig of what stands beside a sandbox, on an outer network and on the sandbox's: nothing is mounted
    by itself.

    `memory` in bytes, `cpu` in the engine's NanoCpus.
    """
    return {
        **confined(),
        "Privileged": False,
        "SecurityOpt": [NO_NEW_PRIVILEGES],
        "ReadonlyRootfs": True,
        "Mounts": [],
        "ShmSize": 1 << 20,
        **limited_memory(memory, limits_swap=limits_swap),
        "NanoCpus": cpu,
        "PidsLimit": pids,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "Ulimits": [no_core_dump(), {"Name": "nofile", "Soft": open_files, "Hard": open_files}],
        "LogConfig": {"Type": "local", "Config": logs},
        # Of two networks it is to be no router.
        "Sysctls": {"net.ipv4.ip_forward": "0"},
        "NetworkMode": network,
    }


def told_by_input(image: str, program: Sequence[str], arguments: Sequence[str], user: str, host: Manifest) -> Manifest:
    """The document of a short-lived container of the operator's own image that is told by its standard input what to
    do, and says by its output what came of it. `host`: its HostConfig."""
    return {
        "Image": image,
        "User": user,
        "Entrypoint": list(program),
        "Cmd": list(arguments),
        "WorkingDir": "/",
        "Env": [],
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGKILL",
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "HostConfig": {
            **confined(),
            "SecurityOpt": [NO_NEW_PRIVILEGES],
            "ReadonlyRootfs": True,
            "Ulimits": [no_core_dump()],
            "RestartPolicy": {"Name": "no"},
            **host,
        },
    }


def no_core_dump() -> Manifest:
    """One of a HostConfig's Ulimits: a dump of the agent's memory would put its key on the disk."""
    return {"Name": "core", "Soft": 0, "Hard": 0}


def limited_memory(amount: int, *, limits_swap: bool) -> Manifest:
    """Of a HostConfig: so many bytes, none of them swap. Where the kernel doesn't account for swap it stores -1."""
    return {"Memory": amount, "MemorySwap": amount if limits_swap else -1}
