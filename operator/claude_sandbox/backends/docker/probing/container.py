"""The container that probes. Pure."""

from collections.abc import Mapping

from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents.hardening import limited_memory, told_by_input
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Manifest, Object
from claude_sandbox.backends.docker.names import labels_of
from claude_sandbox.backends.docker.relay.relays import USER
from claude_sandbox.blueprint.model import Identity, Image

PROGRAM = ("python3", "-I", "-m", "claude_sandbox.probe")
"""Isolated: neither the working directory nor a variable decides what is imported."""
_MEMORY = 64 << 20
_PIDS = 32
"""The interpreter, and a thread for each attempt under way."""


_CONFINEMENT = ("CapAdd", "CapDrop", "SecurityOpt", "CgroupnsMode", "UsernsMode", "Runtime")
"""Of a HostConfig, what the kernel goes by when it decides on a call, but for the user. None of it opens a way to the
host's files or processes, which those of the sandbox's container would."""
_MORE = {"Privileged": "it is privileged", "Devices": "it has devices", "DeviceRequests": "it has devices"}


def unlike(sandbox: Object) -> str:
    """Why what a probe may do says nothing of a container, as the engine tells it; empty where it does."""
    host = sandbox.get("HostConfig")
    if not isinstance(host, Mapping):
        return "the document does not tell how its container is confined"
    return next((f"{why}, and a probe never is or has" for key, why in _MORE.items() if host.get(key)), "")


def document(
    identity: Identity, cluster: str, image: Image, sandbox: Object, capabilities: EngineCapabilities
) -> Manifest:
    """`sandbox`: the container whose network it has, and as which it is confined, as the engine tells it. Its user is
    another than the agent's, who could take a port with it together otherwise."""
    theirs = {} if unlike(sandbox) else sandbox["HostConfig"]
    host: Manifest = {
        "AutoRemove": True,
        "NetworkMode": f"container:{sandbox['Id']}",
        **{key: theirs[key] for key in _CONFINEMENT if theirs.get(key)},
        **limited_memory(_MEMORY, limits_swap=capabilities.limits_swap),
        "PidsLimit": _PIDS,
        "LogConfig": {"Type": "none"},
        "Mounts": [],
    }
    return told_by_input(image.reference, PROGRAM, (), USER, host) | {
        "Labels": labels_of(cluster, identity, names.PROBE)
    }
