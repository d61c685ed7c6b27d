"""The documents of an EmptyDir's volume and of what holds it. Pure."""

from dataclasses import dataclass

from claude_sandbox.backends.docker.documents.hardening import companion_host
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Manifest
from claude_sandbox.backends.docker.names import HOLDER, Names, labels_of
from claude_sandbox.backends.docker.relay.relays import USER
from claude_sandbox.blueprint.model import Blueprint, Identity, Image

PROGRAM = ("sleep", "infinity")
NO_NETWORK = "none"
_MIB = 1 << 20
MEMORY = 16 * _MIB
"""The program takes less than one; an engine's runtime some six while it starts it."""
PIDS = 8
_CPU = 50_000_000
"""A twentieth of a CPU, in the engine's NanoCpus."""
_OOM_SCORE_ADJUSTMENT = 400
"""Before the sandbox itself others are ended: with it the files would be lost."""


@dataclass(frozen=True)
class Holder:
    """The document of a container that holds a volume, and of what image it is."""

    image: Image
    container: Manifest


def size_of(workspace: int, memory: int) -> int:
    """How many bytes an EmptyDir has: in memory, it may not take what the agent itself needs."""
    return min(workspace, memory // 2)


def options_of(blueprint: Blueprint, capabilities: EngineCapabilities) -> dict[str, str]:
    """What the volume is made with: never on a disk, of a size, and what is built in it can be run.

    Where an engine remaps users, the number that the agent has on the host is not known; then anyone may enter, but
    only the engine's own root comes that far on the host, and no one else's container has it for writing.
    """
    size = size_of(blueprint.workspace.size, blueprint.limits.memory)
    user = blueprint.user
    owner = "mode=1777" if capabilities.remaps_users else f"uid={user.uid},gid={user.gid},mode=0755"
    noswap = ",noswap" if capabilities.keeps_from_swap else ""
    return {"type": "tmpfs", "device": "tmpfs", "o": f"nosuid,nodev,size={size},{owner}{noswap}"}


def holder_of(
    identity: Identity, cluster: str, called: Names, image: Image, held: Manifest, capabilities: EngineCapabilities
) -> Holder:
    """What holds a volume: of the operator's image, on no network, with the volume read-only and nothing else.

    `held`: the volume as a mount of it.
    """
    host = companion_host(
        NO_NETWORK,
        memory=MEMORY,
        cpu=_CPU,
        pids=PIDS,
        open_files=64,
        logs={"max-size": "1m", "max-file": "2"},
        limits_swap=capabilities.limits_swap,
    )
    return Holder(
        image,
        {
            "Hostname": "holder",
            "Image": image.reference,
            "User": USER,
            "WorkingDir": "/",
            "Env": [],
            "Labels": labels_of(cluster, identity, HOLDER),
            "Healthcheck": {"Test": ["NONE"]},
            # Nothing in it has to be brought to an end.
            "StopSignal": "SIGKILL",
            "StopTimeout": 1,
            "Entrypoint": list(PROGRAM),
            "Cmd": [],
            "HostConfig": {**host, "Mounts": [{**held, "ReadOnly": True}], "OomScoreAdj": _OOM_SCORE_ADJUSTMENT},
            "NetworkingConfig": {"EndpointsConfig": {}},
        },
    )
