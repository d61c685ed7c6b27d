"""What an agent answers, read. Pure. It is a program of our own, and is read as if it were not: its node may be lost.

What is only beginning is told apart from what is there. A runtime that starts a process in a container, for a probe or
for somebody's `exec`, is for a moment in the container's group with all that it has itself. So a kind of process counts
when one of it has been there for SETTLED seconds, or when it was seen at each of LOOKS looks in a row. So does what has
more than those have, when there was such a one at each of LOOKS looks in a row, of whatever kind: who has more than the
container was given gains nothing by always becoming another process, nor another kind of one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any

from claude_sandbox.backends.kubernetes.node_agents.exceeding import has_more
from claude_sandbox.compliance.evidence import mountinfo
from claude_sandbox.compliance.evidence.pod_processes import ContainerProcesses, KeptLog, PodLogs, PodProcesses
from claude_sandbox.compliance.evidence.process import SYSTEM_FILES, Process, ranges
from claude_sandbox.node_agent import MOST_CONTAINERS, MOST_KINDS, VERSION
from claude_sandbox.procfs.counters import NOTHING, Counters
from claude_sandbox.procfs.limits import Limits
from claude_sandbox.procfs.listeners import MOST_LISTENERS, Listener

SETTLED = 15.0
LOOKS = 5
LEAST_KEPT = 64 << 20
"""Bytes: the kubelet's defaults, five files of 10 MiB, and what is written until it looks."""
_MOST_TEXT = 1 << 20
_MORE = "more"


class MisunderstoodError(Exception):
    """An answer that is none. The message quotes none of it."""


@dataclass(frozen=True)
class Kind:
    """Processes of a container that are the same. `mark` tells one kind of a container's from another."""

    mark: str
    process: Process
    count: int
    seconds: float


@dataclass(frozen=True)
class Container:
    """One container; its identifier is empty for what is in the pod, and in none."""

    identifier: str
    kinds: tuple[Kind, ...]
    whole: bool
    counters: Counters = NOTHING


@dataclass(frozen=True)
class Answer:
    """Of one pod. Without containers it is not on the node."""

    containers: tuple[Container, ...]
    whole: bool
    listeners: tuple[Listener, ...] | None = None
    logs: PodLogs | None = None


def read(text: bytes, uid: str) -> Answer:
    """The answer about the pod with this UID. Raises MisunderstoodError."""
    try:
        return _read(json.loads(text), uid)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise MisunderstoodError(type(error).__name__) from None


def settled(answer: Answer, before: Mapping[str, int]) -> tuple[PodProcesses, dict[str, int], bool]:
    """What of it counts, after at how many looks in a row each kind was seen `before`; how many that are now; and
    whether something of it does not count yet."""
    looks: dict[str, int] = {}
    young, containers = False, []
    for container in answer.containers:
        for kind in container.kinds:
            mark = f"{container.identifier} {kind.mark}"
            looks[mark] = before.get(mark, 0) + 1
        there = [one for one in container.kinds if _is_there(one, looks[f"{container.identifier} {one.mark}"])]
        given = [one.process for one in there]
        more = [one for one in container.kinds if one not in there and has_more(one.process, given)]
        # No kind's mark: that is JSON.
        mark = f"{container.identifier} {_MORE}"
        if more:
            looks[mark] = before.get(mark, 0) + 1
        those = [*there, *(more if looks.get(mark, 0) >= LOOKS else ())]
        counted = [one for one in container.kinds if one in those]
        young = young or len(counted) < len(container.kinds)
        containers.append(
            ContainerProcesses(
                container.identifier,
                tuple(kind.process for kind in counted),
                sum(kind.count for kind in counted),
                container.whole,
            )
        )
    told = PodProcesses(tuple(containers), answer.whole, answer.listeners, answer.logs)
    return told, looks, young


def _is_there(kind: Kind, looks: int) -> bool:
    return kind.seconds >= SETTLED or looks >= LOOKS


def _read(found: Any, uid: str) -> Answer:
    # What is said of another pod must not be taken for this one's.
    if _typed(found["version"], int) != VERSION or found["pod"] != uid:
        raise ValueError("another answer")
    # No name of an answer's own goes any further.
    shared = frozenset(found["systemFiles"]) & frozenset(SYSTEM_FILES), found["mapsAreTheHosts"] is True
    containers = _typed(found["containers"], list)
    if len(containers) > MOST_CONTAINERS:
        raise ValueError("too many containers")
    return Answer(
        tuple(_container(one, *shared) for one in containers),
        found["whole"] is True,
        _listeners(found.get("listeners")),
        _logs(found.get("logs")),
    )


def _listeners(told: Any) -> tuple[Listener, ...] | None:
    """An agent of an earlier version does not tell them."""
    if told is None:
        return None
    if len(_typed(told, list)) > MOST_LISTENERS + 1:
        raise ValueError("too many listeners")
    found = [(_text(protocol), _typed(port, int), ip_address(_text(address))) for protocol, port, address in told]
    if any(protocol not in ("tcp", "udp") or not 0 < port < 1 << 16 for protocol, port, _ in found):
        raise ValueError("no listener")
    return tuple(Listener(protocol, port, str(address)) for protocol, port, address in found)


def _logs(told: Any) -> PodLogs | None:
    """An agent of an earlier version does not tell them, nor one that was not given where they are."""
    if told is None:
        return None
    containers = _typed(told["containers"], dict)
    if len(containers) > MOST_CONTAINERS:
        raise ValueError("too many containers")
    kept = {
        _text(name): KeptLog(_rounded(one["bytes"]), _count(one["rotated"]) > 0) for name, one in containers.items()
    }
    return PodLogs(kept, _typed(told["rotates"], bool))


def _rounded(size: Any) -> int:
    """Up to twice as much as before, and to what the kubelet lets grow by default at least."""
    return max(LEAST_KEPT, 1 << max(_count(size) - 1, 0).bit_length())


def _count(value: Any) -> int:
    if _typed(value, int) < 0:
        raise ValueError("no count")
    return int(value)


def _container(told: Mapping[str, Any], system_files: frozenset[str], maps: bool) -> Container:
    limits = told["limits"]
    bounds = Limits(*(_figure(limits[name]) for name in ("memory", "cpus", "processes")))
    kinds = _typed(told["processes"], list)
    if len(kinds) > MOST_KINDS:
        raise ValueError("too many kinds of processes")
    read = tuple(_kind(one, bounds, system_files, maps) for one in kinds)
    return Container(_text(told["id"]), read, told["whole"] is True, _counters(told.get("counters")))


def _counters(told: Any) -> Counters:
    """An agent of an earlier version does not tell them."""
    if told is None:
        return NOTHING
    named = {one.name: told.get(one.name) for one in fields(Counters)}
    if any(type(value) is int and value >> 64 for value in named.values()):
        raise ValueError("more than any kernel counts to")
    return Counters(**{name: None if value is None else _count(value) for name, value in named.items()})


def _kind(told: Mapping[str, Any], limits: Limits, system_files: frozenset[str], maps: bool) -> Kind:
    mounts, confinement = told["mounts"], told["confinement"]
    namespaces = {_text(name): _typed(shared, bool) for name, shared in told["namespaces"].items()}
    uid_map, gid_map = _text(told["uidMap"]), _text(told["gidMap"])
    # Parsed here, where a mistake makes the answer none, and not by a judge.
    ranges(uid_map), ranges(gid_map)
    process = Process(
        status=_text(told["status"]),
        uid_map=uid_map,
        gid_map=gid_map,
        limits=limits,
        open_files=_figure(told["openFiles"]),
        mounts=None if mounts is None else mountinfo.parse(_text(mounts)),
        system_files=system_files,
        confinement=None if confinement is None else _text(confinement),
        namespaces=namespaces,
        maps_are_the_hosts=maps,
    )
    # All the rest: two processes are of one kind only where the kernel says the same of both.
    same = {name: value for name, value in told.items() if name not in ("count", "seconds")}
    count, seconds = _typed(told["count"], int), _figure(told["seconds"])
    if count < 1 or seconds is None:
        raise ValueError("a kind without processes")
    return Kind(json.dumps(same, sort_keys=True), process, count, seconds)


def _figure(value: Any) -> float | None:
    if value is None or value == "max":
        return None if value is None else float("inf")
    # JSON as Python reads it has NaN and Infinity; NaN fails every comparison.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError("no figure")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise ValueError("no text")
    return value


def _typed(value: Any, kind: type) -> Any:
    # Not isinstance: for Python a bool is an int.
    if type(value) is not kind:
        raise ValueError("another type")
    return value


def said(found: PodProcesses) -> object:
    """What tells one answer from another, whoever and how many they are of that the same is said of."""
    containers = [(one.container, one.processes, one.whole, one.count > 1) for one in found.containers]
    return containers, found.listeners, found.logs
