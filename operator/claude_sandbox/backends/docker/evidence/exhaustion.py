"""What a running sandbox ran out of, as far as this machine or its engine tells: memory, or room for files.

A process that is killed for want of memory is nobody's but the kernel's to tell, unless it is the container's first. Of
an engine on this machine the control group counts them, and the file systems say how full they are; any engine tells an
event of the first. Agents decide when that happens, so that what is said changes once a minute at most.

Holds, of each sandbox, what was said last, and the containers that an engine told of; in memory only: after a restart
of the operator the control group still knows, an event does not come again. From the event loop alone.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.backends.docker.engine.documents import Object, started_at
from claude_sandbox.backends.docker.evidence.proc import CGROUPS, PROC, group_of, own_group
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.compliance.containers.document import Document

CHANGES_AFTER = 60.0
"""Seconds for which what is said stays."""
_FULL = 100
"""A file system with less than this part of it free is full."""
_REMEMBERED = 4096


@dataclass(frozen=True)
class Pressure:
    """What is short. `full`: paths in the container."""

    out_of_memory: bool = False
    full: tuple[str, ...] = ()


def look(container: Object, places: Iterable[str], proc: Path = PROC, cgroups: Path = CGROUPS) -> Pressure:
    """What this machine's kernel says of a container; nothing where it is on another, or may not be looked at.

    Blocks. Never raises: it is a hint, and no evidence.
    """
    membership = None
    with suppress(OSError, ValueError):
        membership = own_group(container, proc)
    if membership is None:
        return Pressure()
    root, kills = proc / str(container["State"]["Pid"]) / "root", 0
    with suppress(OSError, ValueError):
        kills = _kills(membership, cgroups)
    return Pressure(kills > 0, tuple(place for place in places if _is_full(root, place)))


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
        found = Pressure(killed, seen.full)
        start = (told.text("Id") or "", started_at(container))
        at, of, before = self._said.get(identity, (float("-inf"), start, Pressure()))
        if of == start and (found == before or self._clock() - at < CHANGES_AFTER):
            return before
        self._said[identity] = self._clock(), start, found
        return found

    def forget(self, identity: Identity) -> None:
        """The sandbox is gone."""
        self._said.pop(identity, None)


def clauses(pressure: Pressure, blueprint: Blueprint) -> tuple[str, ...]:
    """What is said of it, each a clause with its remedy."""
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
    if blueprint.workspace.path in pressure.full:
        # A volume of the host's has no size of its own.
        remedy = (
            "raise spec.workspace.size" if blueprint.workspace.volume is None else "have room made on the host's disk"
        )
        found.append(f"{blueprint.workspace.path} is full: remove files there, or {remedy}")
    if blueprint.kept_home is not None and blueprint.kept_home.path in pressure.full:
        found.append(f"{blueprint.kept_home.path} is full: remove files there, or have room made on the host's disk")
    return tuple(found)


def places_of(blueprint: Blueprint) -> tuple[str, ...]:
    """Where the sandbox may write."""
    writable = () if blueprint.workspace.read_only else (blueprint.workspace.path,)
    kept = () if blueprint.kept_home is None else (blueprint.kept_home.path,)
    return (*(scratch.path for scratch in blueprint.scratch), *writable, *kept)


def _kills(membership: str, cgroups: Path) -> int:
    """How many processes of the group were killed for memory, since there is the group."""
    for file in ("memory.events", "memory.oom_control"):
        with suppress(FileNotFoundError):
            words = (group_of(membership, "memory", cgroups) / file).read_text().split()
            return int(dict(zip(words[::2], words[1::2], strict=False)).get("oom_kill", "0"))
    return 0


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
