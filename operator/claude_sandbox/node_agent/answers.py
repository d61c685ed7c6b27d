"""What is answered of a pod: its containers' limits, and each kind of process in them once.

Ever so many processes that are the same are told as one, with how many there are and for how long the oldest of them
has been there: so a thousand of them cost a line, and who asks can wait for what is only beginning.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from claude_sandbox.node_agent import MOST_CONTAINERS, MOST_KINDS, MOST_PROCESSES, VERSION
from claude_sandbox.node_agent.cgroups import Group, Kubelets
from claude_sandbox.node_agent.logs import Logs
from claude_sandbox.node_agent.processes import GoneError, Told, read, seconds
from claude_sandbox.procfs.files import text
from claude_sandbox.procfs.listeners import listeners

SYSTEM_FILES = ("kcore", "keys", "latency_stats", "sched_debug", "timer_list")
"""Those of /proc that every runtime masks. Which of them there are depends on the kernel."""
_ALL_USERS = "0 0 4294967295"


def answer(uid: str, kubelets: Kubelets, proc: Path, logs: Logs | None = None) -> dict[str, Any]:
    """Of one pod; without containers where it is not on this node. Takes a while where there is much to look at."""
    groups = kubelets.groups(uid)
    left, containers = MOST_PROCESSES, []
    for group in groups[:MOST_CONTAINERS]:
        found = _container(group, proc, left)
        left -= sum(one["count"] for one in found["processes"])
        containers.append(found)
    return {
        "version": VERSION,
        "pod": uid,
        "systemFiles": [name for name in SYSTEM_FILES if (proc / name).exists()],
        "mapsAreTheHosts": text(proc / "self/uid_map").split() == _ALL_USERS.split(),
        "whole": len(groups) <= MOST_CONTAINERS,
        "containers": containers,
        "listeners": _listeners(groups[:MOST_CONTAINERS], proc),
        "logs": None if logs is None else logs.of(uid),
    }


def _listeners(groups: Iterable[Group], proc: Path) -> list[list[Any]] | None:
    """Protocol, port and address of each; None where that can't be told."""
    pids = sorted({pid for group in groups for pid in group.processes()} - {os.getpid()})
    if len(pids) > MOST_PROCESSES:
        return None
    try:
        found = listeners((proc / str(pid) for pid in pids), proc / "1")
    except (OSError, ValueError):
        return None
    return [[one.protocol, one.port, one.address] for one in found]


def _container(group: Group, proc: Path, most: int) -> dict[str, Any]:
    pids = sorted(group.processes() - {os.getpid()})
    kinds, whole = _kinds(pids[:most], proc)
    # A number may have become another process' while it was read: what is in the group no more does not count.
    still = group.processes()
    told = []
    for kind, those in kinds.items():
        ages = [age for pid, age in those if pid in still]
        if ages:
            told.append({**kind.document(), "count": len(ages), "seconds": round(max(ages), 1)})
    limits = group.limits
    return {
        "id": group.container,
        "limits": {name: _limit(value) for name, value in vars(limits).items()},
        "counters": vars(group.counters()),
        "whole": whole and len(pids) <= most,
        "processes": told,
    }


def _kinds(pids: Iterable[int], proc: Path) -> tuple[dict[Told, list[tuple[int, float]]], bool]:
    """Which processes are of which kind; and whether that is all."""
    kinds: dict[Told, list[tuple[int, float]]] = {}
    whole = True
    for pid in pids:
        with suppress(GoneError):
            try:
                kind, age = read(pid, proc), seconds(pid, proc)
            except (ValueError, IndexError):
                # Not understood is not nothing.
                whole = False
                continue
            if kind in kinds or len(kinds) < MOST_KINDS:
                kinds.setdefault(kind, []).append((pid, age))
            else:
                whole = False
    return kinds, whole


def _limit(value: float | None) -> float | str | None:
    return "max" if value == float("inf") else value
