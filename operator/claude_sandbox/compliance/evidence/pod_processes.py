"""What the kernel of a pod's node says of the pod's processes, and of the groups that they are in."""

from collections.abc import Mapping
from dataclasses import dataclass

from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.procfs.listeners import Listener


@dataclass(frozen=True)
class ContainerProcesses:
    """Of one container, by the runtime's identifier of it; empty for what is in the pod, and in no container.

    `processes` has each kind once, `count` is how many there are. `whole`: whether that is all that there is.
    """

    container: str
    processes: tuple[Process, ...]
    count: int
    whole: bool = True


@dataclass(frozen=True)
class KeptLog:
    """Of one container's output: bytes that are kept, rounded up by far, so that they rarely change while it writes;
    and whether some of it was rotated."""

    size: int
    rotated: bool


@dataclass(frozen=True)
class PodLogs:
    """What the node keeps of a pod's output, by the names of its containers. `rotates`: whether any output on the node
    was rotated, this pod's or another's."""

    containers: Mapping[str, KeptLog]
    rotates: bool


@dataclass(frozen=True)
class PodProcesses:
    """Of one pod. What was there for a moment only is not among them."""

    containers: tuple[ContainerProcesses, ...]
    whole: bool = True
    listeners: tuple[Listener, ...] | None = None
    """What listens in its networks, but for the node's own; None where that is not told."""
    logs: PodLogs | None = None
    """None where that is not told."""
