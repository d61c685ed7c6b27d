"""A real Docker Engine for a machine that has none, in namespaces of its own: dockerd, containerd, runc."""

from claude_sandbox.localcluster.engine.images import load_image
from claude_sandbox.localcluster.engine.lifecycle import (
    ComponentStatus,
    EngineStatus,
    down,
    kill,
    pid,
    start,
    status,
    stop,
    up,
)
from claude_sandbox.localcluster.engine.record import EngineDescription, Tcp
from claude_sandbox.localcluster.engine.releases import COMPONENTS, DEFAULT_RELEASE, RELEASES, build
from claude_sandbox.localcluster.engine.run import run_in

__all__ = [
    "COMPONENTS",
    "DEFAULT_RELEASE",
    "RELEASES",
    "ComponentStatus",
    "EngineDescription",
    "EngineStatus",
    "Tcp",
    "build",
    "down",
    "kill",
    "load_image",
    "pid",
    "run_in",
    "start",
    "status",
    "stop",
    "up",
]
