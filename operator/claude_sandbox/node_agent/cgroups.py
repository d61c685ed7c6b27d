"""Where the kubelet has a pod's processes among the control groups, and which container each is of.

The kubelet makes a group for each pod below one of its own, `kubepods`, and the container runtime one in there for each
container. Who is in a container may make groups within its own at most, whatever their names: so a pod is looked for
only right below a kubelet's group, and of what lies deeper in a container's nothing but the processes counts.

Theory of operation. `Kubelets` holds where the kubelets' groups were when they were looked for last; of pods it holds
nothing, so that what is told is always of now. A place that is gone has no pods, and so leads to a new search.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.node_agent import MOST_CONTAINERS
from claude_sandbox.procfs.counters import Counters, counters
from claude_sandbox.procfs.files import number, share, text, words
from claude_sandbox.procfs.limits import Limits

_QUALITIES = ("burstable", "besteffort")
_DEEPEST = 5
"""Directories between the top and a kubelet's group: on a node that is itself a container there are some."""
_MOST_GROUPS = 20_000
"""Groups that are gone through to find the kubelet's."""
_MOST_INNER = 512
"""Groups that are gone through within one container's."""
_CONTAINER = re.compile(r"(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?")
_MONITOR = re.compile(r"crio-conmon-[0-9a-f]{64}(?:\.scope)?")
"""Of CRI-O, for each container: a program of the node's own."""
UID = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")
"""Of a pod. Those of files on the node's disk have no dashes."""


@dataclass(frozen=True)
class Group:
    """What the runtime made for one container, in each hierarchy. `container`: its identifier; empty for what is in the
    pod, and in no container. `alone`: without what lies deeper."""

    container: str
    places: tuple[Path, ...]
    alone: tuple[Path, ...]
    limits: Limits

    def processes(self) -> set[int]:
        """Of the group and of those within it, as the kernel has them now."""
        found: set[int] = set()
        for one in (*self.alone, *(inner for place in self.places for inner in _within(place))):
            # A group that is gone has none.
            with suppress(OSError):
                found |= _pids(one)
        return found

    def counters(self) -> Counters:
        """What was counted since it was made; of what is in no container, that of the whole pod."""
        return counters(self.alone or self.places)


class Kubelets:
    """The groups of this node's kubelets; looked for when a pod is in none of those that are known."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._known: dict[Path, tuple[Path, ...]] = {}

    def groups(self, uid: str) -> tuple[Group, ...]:
        """The pod's, by its UID; empty where it is not on this node."""
        pods = self._pods(uid)
        # A kubelet's groups stay where they are, so they are looked for anew only when a pod is in none of them.
        if not pods:
            self._known = {one: tuple(_kubelets(one)) for one in _hierarchies(self._top)}
            pods = self._pods(uid)
        by_container: dict[str, list[Path]] = {"": []}
        for pod in pods:
            for name in _names(pod):
                if not _MONITOR.fullmatch(name):
                    known = _CONTAINER.fullmatch(name)
                    by_container.setdefault(known[1] if known else "", []).append(pod / name)
        found = [
            Group(container, tuple(places), () if container else tuple(pods), _limits((*pods, *places)))
            for container, places in sorted(by_container.items())
        ]
        return tuple(found[: MOST_CONTAINERS + 1]) if pods else ()

    def _pods(self, uid: str) -> list[Path]:
        kubelets = (one for found in self._known.values() for one in found)
        return [pod for kubelet in kubelets for pod in _of_pod(kubelet, uid) if pod.is_dir()]


def _of_pod(kubelet: Path, uid: str) -> Iterator[Path]:
    """Where a pod may be, by each of the kubelet's two drivers."""
    if not kubelet.name.endswith(".slice"):
        yield from (kubelet / quality / f"pod{uid}" for quality in ("", *_QUALITIES))
        return
    base, name = kubelet.name.removesuffix(".slice"), uid.replace("-", "_")
    yield kubelet / f"{base}-pod{name}.slice"
    for quality in _QUALITIES:
        yield kubelet / f"{base}-{quality}.slice" / f"{base}-{quality}-pod{name}.slice"


def _hierarchies(top: Path) -> tuple[Path, ...]:
    """Version 2 is one; of version 1 those that limit or count something here."""
    if (top / "cgroup.controllers").exists():
        return (top,)
    return tuple(
        one for one in (top / "pids", top / "memory", top / "cpu", top / "cpuacct", top / "blkio") if one.is_dir()
    )


def _kubelets(top: Path) -> Iterator[Path]:
    """None is looked for within another, where pods are."""
    left, seen = [(top, 0)], 0
    while left and seen < _MOST_GROUPS:
        place, depth = left.pop(0)
        for name in _names(place):
            seen += 1
            if name == "kubepods" or name.endswith("kubepods.slice"):
                yield place / name
            elif depth < _DEEPEST:
                left.append((place / name, depth + 1))


def _names(place: Path) -> list[str]:
    """Of the groups right below one."""
    try:
        with os.scandir(place) as entries:
            return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _within(place: Path) -> Iterator[Path]:
    left, seen = [place], 0
    while left and seen < _MOST_INNER:
        one = left.pop()
        seen += 1
        yield one
        left += [one / name for name in _names(one)]


def _pids(place: Path) -> set[int]:
    return {int(line) for line in text(place / "cgroup.procs").split()}


def _limits(places: tuple[Path, ...]) -> Limits:
    """The least of what the groups of a container and of its pod allow: each of them binds. What the kubelet's own
    allows, for all pods together, bounds no single one."""
    return Limits(
        memory=_least(number(one / name) for one in places for name in ("memory.max", "memory.limit_in_bytes")),
        cpus=_least(
            told
            for one in places
            for told in (
                share(*words(one / "cpu.max")),
                share(*words(one / "cpu.cfs_quota_us"), *words(one / "cpu.cfs_period_us")),
            )
        ),
        processes=_least(number(one / "pids.max") for one in places),
    )


def _least(told: Iterable[float | None]) -> float | None:
    return min((one for one in told if one is not None), default=None)
