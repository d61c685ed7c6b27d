"""What a running sandbox ran out of, as far as this machine or its engine tells: memory, room for files, processes,
CPU time.

A process that is killed for want of memory is nobody's but the kernel's to tell, unless it is the container's first. Of
an engine on this machine the control group counts them, as it counts processes that could not be started and how often
what runs was held back, and the file systems say how full they are; any engine tells an
event of the first. Agents decide when that happens, so that what is said changes once a minute at most.

Theory of operation. Holds, of each sandbox, what was said last, and the containers that an engine told of; in memory
only: after a restart of the operator the control group still knows, an event does not come again. From the event loop
alone.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.docker.engine.documents import Object, started_at
from claude_sandbox.backends.docker.evidence.proc import group_of, own_group
from claude_sandbox.backends.docker.objects import PIDS
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.procfs.files import CGROUPS, PROC

CHANGES_AFTER = 60.0
"""Seconds for which what is said stays."""
_FULL = 100
"""A file system with less than this part of it free is full."""
_REMEMBERED = 4096
"""Containers of the engine, not all of sandboxes: the oldest is forgotten first."""
_TELLING = 600
"""Periods of the scheduler, a tenth of a second each, in which something ran: with fewer, a start alone looks busy."""


@dataclass(frozen=True)
class Pressure:
    """What is short. `full`: paths in the container."""

    out_of_memory: bool = False
    full: tuple[str, ...] = ()
    # Whether a process could not be started since the container was.
    out_of_processes: bool = False
    # Whether it was held back, for want of CPU, for most of the time in which it had something to do.
    throttled: bool = False

    @property
    def reason(self) -> Reason | None:
        """The gravest of them; None where nothing is short."""
        found = {
            Reason.OUT_OF_MEMORY: self.out_of_memory,
            Reason.NO_ROOM_LEFT: bool(self.full),
            Reason.PROCESS_LIMIT_REACHED: self.out_of_processes,
            Reason.CPU_THROTTLED: self.throttled,
        }
        return next((reason for reason, short in found.items() if short), None)


def look(container: Object, places: Iterable[str], proc: Path = PROC, cgroups: Path = CGROUPS) -> Pressure:
    """What this machine's kernel says of a container; nothing where it is on another, or may not be looked at.

    Blocks. Never raises: it is a hint, and no evidence.
    """
    membership = None
    with suppress(OSError, ValueError):
        membership = own_group(container, proc)
    if membership is None:
        return Pressure()
    root, kills, refused, throttled = proc / str(container["State"]["Pid"]) / "root", 0, 0, False
    with suppress(OSError, ValueError):
        kills = _kills(membership, cgroups)
    with suppress(OSError, ValueError):
        refused = _counts(group_of(membership, "pids", cgroups) / "pids.events").get("max", 0)
    with suppress(OSError, ValueError):
        throttled = _is_throttled(_counts(group_of(membership, "cpu", cgroups) / "cpu.stat"))
    full = tuple(place for place in places if _is_full(root, place))
    return Pressure(kills > 0, full, refused > 0, throttled)


class Pressures:
    """Of all sandboxes of one engine."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When, of which start of which container, and what.
        self._said: dict[Identity, tuple[float, tuple[str, str], Pressure]] = {}
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
        start = (told.text("Id") or "", started_at(container))
        at, of, before = self._said.get(identity, (float("-inf"), start, Pressure()))
        # An agent that fills and empties its disk all the time would else have a status written each time.
        if of == start and (found == before or self._clock() - at < CHANGES_AFTER):
            return before
        self._said[identity] = self._clock(), start, found
        return found

    def forget(self, identity: Identity) -> None:
        """The sandbox is gone."""
        self._said.pop(identity, None)


def clauses(pressure: Pressure, blueprint: Blueprint, sized: Collection[str] = ()) -> tuple[str, ...]:
    """What is said of it, each a clause with its remedy. `sized`: paths of volumes whose size the engine enforces."""
    found = []
    if pressure.out_of_memory:
        found.append(
            "processes in it were killed since it needed more memory than spec.resources.memory: raise that, or have "
            "less done at a time"
        )
    in_memory = [scratch.path for scratch in blueprint.scratch if scratch.path in pressure.full]
    if in_memory:
        which = f"{' and '.join(in_memory)} {'are' if len(in_memory) > 1 else 'is'} full"
        found.append(f"{which}: remove files there, or raise spec.resources.memory, of which they take a part")
    kept = () if blueprint.kept_home is None else (blueprint.kept_home.path,)
    for place in (blueprint.workspace.path, *kept):
        if place not in pressure.full:
            continue
        remedy = "have room made on the host's disk"
        if place in sized:
            remedy = "make a sandbox with a larger one, since no engine changes the size of a volume"
        elif place == blueprint.workspace.path and blueprint.workspace.volume is None:
            remedy = "raise spec.workspace.size, and spec.resources.memory, of which it takes half at most"
        found.append(f"{place} is full: remove files there, or {remedy}")
    if pressure.out_of_processes:
        found.append(f"it could start no more processes than {PIDS}: have fewer run at a time")
    if pressure.throttled:
        found.append("it was held back most of the time for want of CPU: raise spec.resources.cpu, or have less run")
    return tuple(found)


def _kills(membership: str, cgroups: Path) -> int:
    """How many processes of the group were killed for memory, since there is the group."""
    # Of control groups version 2, and of version 1.
    for file in ("memory.events", "memory.oom_control"):
        with suppress(FileNotFoundError):
            return _counts(group_of(membership, "memory", cgroups) / file).get("oom_kill", 0)
    return 0


def _counts(file: Path) -> dict[str, int]:
    """A file of names and numbers. Raises OSError, ValueError."""
    words = file.read_text().split()
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=False)}


def _is_throttled(told: Mapping[str, int]) -> bool:
    periods, throttled = told.get("nr_periods", 0), told.get("nr_throttled", 0)
    return periods >= _TELLING and throttled * 2 > periods


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
