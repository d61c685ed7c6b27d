"""The container in which another image is tried beside a sandbox, and what is seen of it. Pure."""

from claude_sandbox.backends.base import Trial
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents import health
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Manifest, Object, running
from claude_sandbox.backends.docker.holding.holder import NO_NETWORK, size_of
from claude_sandbox.backends.docker.images import tools
from claude_sandbox.backends.docker.names import labels_of, names_of
from claude_sandbox.backends.docker.objects import container
from claude_sandbox.blueprint.model import Blueprint
from claude_sandbox.blueprint.tools import DIRECTORY, NO_SHELL, UNUSABLE

_SECOND = 1_000_000_000
_EVERY, _FAILURES = 5, 3
"""Seconds between two checks, and failures after which what was ready is no more: it is there for minutes only."""
_FROM_OUTSIDE = frozenset({137, 143, 255})
"""Exit codes of what was killed, or told to end: by the time that it has, or with its host."""


def document(canary: Blueprint, cluster: str, capabilities: EngineCapabilities) -> Manifest:
    """On no network, and with nothing mounted but Claude Code and its settings: its workspace is in memory."""
    made = container(canary, cluster, capabilities)
    host, alive, user = made["HostConfig"], canary.liveness, canary.user
    size = size_of(canary.workspace.size, canary.limits.memory)
    room = f"rw,nosuid,nodev,exec,size={size},uid={user.uid},gid={user.gid},mode=0755"
    shared = {names_of(cluster, canary.identity).settings}
    if canary.tools is not None:
        shared.add(tools.volume_of(cluster, canary.tools))
    kept = [one for one in host["Mounts"] if one["Source"] in shared]
    without = {name: value for name, value in host.items() if name != "Dns"}
    tmpfs = {**host["Tmpfs"], canary.workspace.path: room}
    return {
        **{name: value for name, value in made.items() if name != "NetworkingConfig"},
        "Labels": labels_of(cluster, canary.identity, names.CANARY),
        "Healthcheck": {
            "Test": ["CMD", *alive.command],
            "Interval": _EVERY * _SECOND,
            "Timeout": alive.timeout * _SECOND,
            "Retries": _FAILURES,
        },
        "HostConfig": {**without, "NetworkMode": NO_NETWORK, "Mounts": kept, "Tmpfs": tmpfs},
    }


def is_new(live: Object) -> bool:
    """Whether nobody has tried yet to start it."""
    state = live.get("State") or {}
    return state.get("Status") == "created" and not state.get("Error")


def trial_of(live: Object) -> Trial:
    """What is seen of it. Of one that was ended from outside, which says nothing of its image, nothing; nor of one that
    was not started yet, which who begins it does."""
    uid, state = str(live["Id"]), live.get("State") or {}
    if running(live):
        ready = health.status(live) == "healthy" and not state.get("Paused")
        return Trial(uid, ready=ready, message="Claude Code does not answer in it")
    if why := state.get("Error"):
        return Trial(uid, failed=f"it can't be started: {why}")
    if is_new(live):
        return Trial()
    if state.get("OOMKilled"):
        return Trial(uid, failed="it needed more memory than spec.resources.memory")
    code = state.get("ExitCode")
    if code in _FROM_OUTSIDE:
        return Trial()
    brought = any(mount.get("Destination") == DIRECTORY for mount in live.get("Mounts") or ())
    if code == NO_SHELL and brought:
        return Trial(uid, failed=UNUSABLE.format(image=(live.get("Config") or {}).get("Image")))
    return Trial(uid, failed=f"it ended with exit code {code}")
