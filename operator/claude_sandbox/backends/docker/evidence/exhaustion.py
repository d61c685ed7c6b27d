"""What a running sandbox ran out of, as far as this machine or its engine tells: memory, room for files, processes,
CPU time.

A process that is killed for want of memory is nobody's but the kernel's to tell, unless it is the container's first. Of
an engine on this machine the control group counts them, as it counts processes that could not be started and how often
what runs was held back, and the file systems say how full they are; any engine tells an
event of the first. What is said of it: `backends/pressure.py`.

Theory of operation. Holds, of each sandbox, what was said last, and the containers that an engine told of; in memory
only: after a restart of the operator the control group still knows, an event does not come again. From the event loop
alone.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from claude_sandbox.backends.docker.engine.documents import Object, started_at
from claude_sandbox.backends.docker.evidence.proc import group_of, own_group
from claude_sandbox.backends.docker.objects import PIDS
from claude_sandbox.backends.pressure import LastSaid, Pressure, pressure_of
from claude_sandbox.backends.pressure import clauses as said_of
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.procfs.counters import Counters, counters
from claude_sandbox.procfs.files import CGROUPS, PROC

_FULL = 100
"""A file system with less than this part of it free is full."""
_REMEMBERED = 4096
"""Containers of the engine, not all of sandboxes: the oldest is forgotten first."""


def look(container: Object, places: Iterable[str], proc: Path = PROC, cgroups: Path = CGROUPS) -> Pressure:
    """What this machine's kernel says of a container; nothing where it is on another, or may not be looked at.

    Blocks. Never raises: it is a hint, and no evidence.
    """
    membership = None
    with suppress(OSError, ValueError):
        membership = own_group(container, proc)
    if membership is None:
        return Pressure()
    root, told = proc / str(container["State"]["Pid"]) / "root", Counters()
    with suppress(ValueError):
        told = counters(group_of(membership, controller, cgroups) for controller in ("memory", "pids", "cpu"))
    return replace(pressure_of(told), full=tuple(place for place in places if _is_full(root, place)))


class Pressures:
    """Of all sandboxes of one engine."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._last = LastSaid(clock)
        self._killed_in: dict[str, None] = {}

    def note(self, event: Object) -> None:
        """An event of the engine's."""
        told = Document(event)
        identifier, action = told.text("Actor.ID"), told.text("Action")
        if told.text("Type") != "container" or not identifier:
            return
        if action == "oom":
            self._killed_in[identifier] = None
            if len(self._killed_in) > _REMEMBERED:
                del self._killed_in[next(iter(self._killed_in))]
        elif action in ("start", "destroy"):
            self._killed_in.pop(identifier, None)

    def said(self, identity: Identity, container: Object, seen: Pressure) -> Pressure:
        """What is to be said now, given what was seen."""
        told = Document(container)
        killed = seen.out_of_memory or told.text("Id") in self._killed_in or told.flag("State.OOMKilled") is True
        found = replace(seen, out_of_memory=killed)
        return self._last.said(identity, (told.text("Id") or "", started_at(container)), found)

    def forget(self, identity: Identity) -> None:
        """The sandbox is gone."""
        self._last.forget(identity)


def clauses(pressure: Pressure, blueprint: Blueprint, sized: Collection[str] = ()) -> tuple[str, ...]:
    """What is said of it, each a clause with its remedy. `sized`: paths of volumes whose size the engine enforces."""
    return said_of(pressure, _full(pressure, blueprint, sized), str(PIDS))


def _full(pressure: Pressure, blueprint: Blueprint, sized: Collection[str]) -> Iterator[str]:
    in_memory = [scratch.path for scratch in blueprint.scratch if scratch.path in pressure.full]
    if in_memory:
        which = f"{' and '.join(in_memory)} {'are' if len(in_memory) > 1 else 'is'} full"
        yield f"{which}: remove files there, or raise spec.resources.memory, of which they take a part"
    kept = () if blueprint.kept_home is None else (blueprint.kept_home.path,)
    for place in (blueprint.workspace.path, *kept):
        if place not in pressure.full:
            continue
        remedy = "have room made on the host's disk"
        if place in sized:
            remedy = "make a sandbox with a larger one, since no engine changes the size of a volume"
        elif place == blueprint.workspace.path and blueprint.workspace.volume is None:
            remedy = "raise spec.workspace.size, and spec.resources.memory, of which it takes half at most"
        yield f"{place} is full: remove files there, or {remedy}"


def _is_full(root: Path, place: str) -> bool:
    """Whether a directory of the container is known to have no room left.

    Each step is taken by itself and follows no link: in the container's files, one could lead anywhere on the host.
    """
    with suppress(OSError), ExitStack() as opened:
        here = os.open(root, os.O_PATH | os.O_DIRECTORY)
        opened.callback(os.close, here)
        for part in place.strip("/").split("/"):
            here = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=here)
            opened.callback(os.close, here)
        told = os.fstatvfs(here)
        no_room = told.f_blocks > 0 and told.f_bavail * _FULL < told.f_blocks
        return no_room or (told.f_files > 0 and told.f_favail == 0)
    return False
