"""FS on Docker: which files of the host the container can reach, and where it can write."""

import re
from collections.abc import Callable

from claude_sandbox.compliance.containers.container import Container, doubts_of, untold
from claude_sandbox.compliance.containers.credential_files import is_home
from claude_sandbox.compliance.containers.mounts import Mount, asked_mounts, holds, normal
from claude_sandbox.compliance.control import Verdict, failed, passed, unknown
from claude_sandbox.compliance.docker.measure import decided, shared
from claude_sandbox.compliance.sockets import engine

SYSTEM = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib",
    "/var/log",
    "/var/spool",
)
"""Directories that belong to the host's system and not to a user's work."""

_UNSHARED = ("", "private", "rprivate")


def read_only_root(container: Container) -> Verdict:
    """Nothing of the image can be changed."""
    read_only = container.flag("HostConfig.ReadonlyRootfs")
    if read_only is None:
        return unknown(untold("HostConfig.ReadonlyRootfs"))
    return passed("ReadonlyRootfs: true") if read_only else failed("it can write to its root file system")


def host_paths(container: Container) -> Verdict:
    """Nothing of the host's system and nobody's home, not even to be read; and else only what is declared."""
    problems, doubts, seen = [], [], []
    for mount in container.mounts:
        if mount.is_vague or mount.is_veiled:
            doubts.append(mount.doubt)
        if mount.host is None:
            continue
        seen.append(mount.host)
        if any(holds(mount.host, one) for one in SYSTEM) or is_home(mount.host):
            problems.append(f"{mount.destination} is the host's {mount.host}")
        elif _is_declared(container, mount) and (mount.writable is False or not _is_system(mount.host)):
            continue
        elif _is_system(mount.host):
            problems.append(f"{mount.destination} is the host's {mount.host}")
        else:
            doubts.append(
                f"nothing declares that {mount.destination} is to be the host's {mount.host} (--mount, --workspace)"
            )
    return decided(problems, [*container.mount_doubts, *doubts], ", ".join(dict.fromkeys(seen)))


def runtime_socket(container: Container) -> Verdict:
    """Who can speak to the engine is root on the host. A directory above a socket holds the socket."""
    problems, doubts = [], []
    clients = [path for path in map(_socket_of, container.environment or ()) if path]
    for mount in container.mounts:
        if mount.is_vague or mount.is_veiled:
            doubts.append(mount.doubt)
        if mount.kind == "npipe":
            problems.append(f"{mount.destination} is a named pipe of the host")
        if mount.host is None:
            continue
        if found := engine(mount.host, mount.place):
            problems.append(f"{mount.destination} {found}")
        elif any(holds(normal(mount.place), client) for client in clients):
            problems.append(f"{mount.destination} is what DOCKER_HOST names as an engine's socket")
        elif any(name.endswith(".sock") for name in (mount.host, mount.place)) and not _is_declared(container, mount):
            doubts.append(f"whose socket {mount.destination} is, the host's {mount.host}, is not declared (--mount)")
    doubts += doubts_of(("Config.Env", container.environment))
    return decided(problems, [*container.mount_doubts, *doubts])


def devices(container: Container) -> Verdict:
    """No device of the host, whichever way it would come."""
    privileged = container.flag("HostConfig.Privileged")
    passed_through = container.objects("HostConfig.Devices")
    rules = container.strings("HostConfig.DeviceCgroupRules")
    requests = container.objects("HostConfig.DeviceRequests")
    problems = ["it is privileged, and has all of the host's devices"] if privileged else []
    problems += [f"it has the host's device {one.get('PathOnHost')}" for one in passed_through or ()]
    problems += ["it may use devices by rule (DeviceCgroupRules)"] if rules else []
    problems += [f"it asks for devices of {one.get('Driver') or 'a driver'}" for one in requests or ()]
    doubts = [
        *doubts_of(
            ("HostConfig.Privileged", privileged),
            ("HostConfig.Devices", passed_through),
            ("HostConfig.DeviceCgroupRules", rules),
            ("HostConfig.DeviceRequests", requests),
        ),
        *container.mount_doubts,
    ]
    for mount in container.mounts:
        if mount.is_vague or mount.is_veiled:
            doubts.append(mount.doubt)
        if mount.host is not None and holds("/dev", mount.host):
            problems.append(f"{mount.destination} is the host's {mount.host}")
    return decided(problems, doubts)


def propagation(container: Container) -> Verdict:
    """Mounts made on one side stay unseen on the other."""
    problems, doubts = [], list(container.mount_doubts)
    for mount in container.mounts:
        if mount.propagation is None:
            doubts.append(mount.doubt)
        elif mount.propagation not in _UNSHARED:
            problems.append(f"{mount.place} is mounted with propagation {mount.propagation}")
    return decided(problems, doubts)


def scratch(container: Container) -> Verdict:
    """Nothing can fill the host's memory, and no file in it has a privilege or is a device.

    Without other options an engine mounts a tmpfs nosuid, nodev and noexec, and as large as half of the memory.
    """
    problems, doubts, seen = [], list(container.mount_doubts), []
    asked = container.mapping("HostConfig.Tmpfs", omissible=True)
    doubts += doubts_of(("HostConfig.Tmpfs", asked))
    for path, options in (asked or {}).items():
        if not isinstance(options, str):
            doubts.append(f"the document does not tell the options of the tmpfs {path}")
            continue
        given = dict(_key_value(option) for option in options.split(","))
        if not _is_bound(given.get("size")):
            problems.append(f"the tmpfs {path} has no size")
        problems += [f"the tmpfs {path} is mounted {flag}" for flag in ("suid", "dev") if flag in given]
        seen.append(f"{path} {given.get('size', '')}".rstrip())
    wanted = asked_mounts(container.objects("HostConfig.Mounts", omissible=True) or ())
    sizes = {mount.destination: mount.size for mount in wanted if mount.kind == "tmpfs"}
    for mount in container.mounts:
        if mount.is_vague:
            doubts.append(mount.doubt)
        elif mount.kind == "tmpfs" and normal(mount.place) not in map(normal, asked or {}):
            size = sizes.get(mount.destination)
            if size is None:
                doubts.append(f"the document does not tell the size of the tmpfs {mount.destination}")
            elif size == 0:
                problems.append(f"the tmpfs {mount.destination} has no size")
            else:
                seen.append(f"{mount.destination} {size}")
    return decided(problems, doubts, ", ".join(dict.fromkeys(seen)))


def writable(container: Container) -> Verdict:
    """Only the workspaces and scratch space, of what outlives the container or is the host's."""
    workspaces = container.declared.workspaces
    problems, doubts = [], list(container.mount_doubts)
    found = set(map(normal, container.mapping("HostConfig.Tmpfs", omissible=True) or {}))
    for mount in container.mounts:
        found.add(normal(mount.place))
        if mount.kind in ("tmpfs", "image"):
            continue
        if mount.is_vague or mount.writable is None:
            doubts.append(mount.doubt)
        elif not mount.writable or mount.destination in workspaces:
            continue
        elif not workspaces:
            doubts.append(f"nothing declares that it may write to {mount.destination} (--workspace)")
        else:
            problems.append(f"it can write to {mount.destination}")
    problems += [f"the workspace is not mounted at {one}" for one in sorted(workspaces) if normal(one) not in found]
    return decided(problems, doubts)


def each_bind(container: Container, problem: Callable[[str, str], str | None]) -> tuple[list[str], list[str]]:
    """What `problem` says of each path of the host and its place in the container, and what can't be told."""
    problems, doubts = [], list(container.mount_doubts)
    for mount in container.mounts:
        if mount.is_vague or mount.is_veiled:
            doubts.append(mount.doubt)
        if mount.host is not None and (found := problem(mount.host, mount.place)):
            problems.append(found)
    return problems, doubts


def _is_declared(container: Container, mount: Mount) -> bool:
    declared = container.declared
    return mount.destination is not None and (
        mount.destination in declared.workspaces or mount.destination in declared.mounts
    )


def _is_system(path: str) -> bool:
    return any(holds(one, path) for one in SYSTEM)


def _socket_of(variable: tuple[str, str]) -> str | None:
    name, value = variable
    if name != "DOCKER_HOST" or not value.startswith("unix://"):
        return None
    return normal(value.removeprefix("unix://"))


def _key_value(option: str) -> tuple[str, str]:
    key, _, value = option.strip().partition("=")
    return key, value


def _is_bound(size: str | None) -> bool:
    """The kernel takes a size of 0 for none."""
    return size is not None and re.fullmatch(r"0*[1-9]\d*[kKmMgG%]?", size) is not None


MEASURES = (
    shared("FS-01", read_only_root, "Run it with --read-only."),
    shared("FS-02", host_paths, "Mount a named volume instead of the host's path: -v workspace:/workspace."),
    shared("FS-03", runtime_socket, "Run it without the mount that is or holds an engine's socket."),
    shared("FS-05", devices, "Run it without --device, --device-cgroup-rule, --gpus and mounts of /dev."),
    shared("FS-06", propagation, "Mount it without shared or slave propagation."),
    shared("FS-07", scratch, "Give each tmpfs a size and no suid or dev: --tmpfs /tmp:size=256m."),
    shared("FS-08", writable, "Mount everything but the workspace read-only: -v NAME:/PATH:ro."),
)
