"""What the kernel of a pod's node has counted of the sandbox's own container. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from claude_sandbox.backends.base import CpuUse
from claude_sandbox.backends.kubernetes.objects import CONTAINER
from claude_sandbox.backends.pressure import NOTHING_SHORT, Pressure, pressure_of
from claude_sandbox.kubernetes_api.unstructured import Object
from claude_sandbox.procfs.counters import NOTHING, Counters


@dataclass(frozen=True)
class Counted:
    """Of a pod's containers, by the runtime's identifiers of them; under an empty one that of the whole pod."""

    containers: Mapping[str, Counters]
    at: datetime


def cpu_use(pod: Object, counted: Counted | None) -> CpuUse | None:
    """How much CPU time the agent's container has used; None where that is not known of the one that runs now."""
    container = agents_container(pod)
    if counted is None or not container:
        return None
    used = counted.containers.get(container, NOTHING).cpu_microseconds
    return None if used is None else CpuUse(used / 1e6, container, counted.at)


def pressure_in(pod: Object, counted: Counted | None) -> Pressure:
    """What the agent's container is short of; nothing where that is not known of the one that runs now."""
    container = agents_container(pod)
    if counted is None or not container or container not in counted.containers:
        return NOTHING_SHORT
    told = counted.containers[container]
    # The limit of processes is the pod's, and kernels from 6.11 on count where the limit is (cgroup-v2.rst).
    whole = counted.containers.get("", NOTHING)
    return pressure_of(replace(told, refused=(told.refused or 0) + (whole.refused or 0)))


def agents_container(pod: Object) -> str:
    """The runtime's identifier of the container in which the agent is; empty where there is none yet."""
    statuses: list[Object] = (pod.get("status") or {}).get("containerStatuses") or []
    of = (one for one in statuses if one.get("name") == CONTAINER)
    return next((str(one.get("containerID") or "").rpartition("://")[2] for one in of), "")
