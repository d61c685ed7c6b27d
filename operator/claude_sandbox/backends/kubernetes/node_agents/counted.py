"""What the kernel of a pod's node has counted of the sandbox's own container. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from claude_sandbox.backends.base import CpuUse
from claude_sandbox.backends.kubernetes.objects import CONTAINER
from claude_sandbox.kubernetes_api.unstructured import Object
from claude_sandbox.procfs.counters import Counters


@dataclass(frozen=True)
class Counted:
    """Of a pod's containers, by the runtime's identifiers of them; under an empty one that of the whole pod."""

    containers: Mapping[str, Counters]
    at: datetime


def cpu_use(pod: Object, counted: Counted | None) -> CpuUse | None:
    """How much CPU time the agent's container has used; None where that is not known of the one that runs now."""
    container = agents_container(pod)
    told = None if counted is None else counted.containers.get(container)
    if counted is None or told is None or told.cpu_microseconds is None or not container:
        return None
    return CpuUse(told.cpu_microseconds / 1e6, container, counted.at)


def agents_container(pod: Object) -> str:
    """The runtime's identifier of the container in which the agent is; empty where there is none yet."""
    statuses: list[Object] = (pod.get("status") or {}).get("containerStatuses") or []
    of = (one for one in statuses if one.get("name") == CONTAINER)
    return next((str(one.get("containerID") or "").rpartition("://")[2] for one in of), "")
