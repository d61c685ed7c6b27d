"""What is told of one process: what it may do, and never what it is called, was started with, or has in its memory.

All of it any user of a node may read (proc(5)), so that this takes no capability. Which namespaces it is in would take
one over all of the node's processes, by which they could be changed too. So those are told of that show otherwise: that
of its processes by their numbers, that of the network by whose files of it are the first process' own.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_sandbox.procfs.files import confinement, if_told, open_files, text

_FIELDS = frozenset({"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"})
"""Lines of /proc/PID/status. Its first is the process' name, which it chooses."""
_DEAD = frozenset("ZXx")
_MOST_THREADS = 256
"""Of a process, that are looked through for one that goes on."""
_OPTIONS = frozenset({"ro", "rw", "nosuid", "nodev", "noexec"})
_TICKS = os.sysconf("SC_CLK_TCK")
_NUMBER = re.compile(r"[0-9]+")


class GoneError(Exception):
    """The process has ended."""


@dataclass(frozen=True)
class Told:
    """What is said of a process; of two that are the same in this, what is said is the same."""

    status: str
    uid_map: str
    gid_map: str
    open_files: float | None
    mounts: str | None
    confinement: str | None
    namespaces: tuple[tuple[str, bool], ...]

    def document(self) -> dict[str, Any]:
        """As JSON, which knows no infinity."""
        limit = self.open_files
        return {
            "status": self.status,
            "uidMap": self.uid_map,
            "gidMap": self.gid_map,
            "openFiles": "max" if limit == float("inf") else limit,
            "mounts": self.mounts,
            "confinement": self.confinement,
            "namespaces": dict(self.namespaces),
        }


def read(pid: int, proc: Path) -> Told:
    """Raises GoneError, and ValueError where the kernel's word is not understood."""
    place = _alive(proc / str(pid))
    try:
        lines = text(place / "status").split("\n")
        uid_map, gid_map = text(place / "uid_map"), text(place / "gid_map")
    except OSError:
        raise GoneError from None
    fields = dict(_fields(lines))
    if fields.get("State", "Z")[0] in _DEAD:
        raise GoneError
    mounted = if_told(lambda: text(place / "mountinfo"))
    return Told(
        status="".join(f"{name}:\t{value}\n" for name, value in fields.items() if name in _FIELDS),
        uid_map=uid_map,
        gid_map=gid_map,
        open_files=if_told(lambda: open_files(place)),
        mounts=None if mounted is None else "".join(f"{line}\n" for line in mounts(mounted)),
        confinement=confinement(place),
        namespaces=tuple(_namespaces(place, proc, fields)),
    )


def _alive(place: Path) -> Path:
    """Where a process is told of. It can go on when its first thread has ended, as which the kernel has the process:
    then a thread that goes on is in its place."""
    with suppress(OSError):
        if _state(place) in _DEAD:
            for thread in sorted((place / "task").iterdir())[:_MOST_THREADS]:
                with suppress(OSError):
                    if _state(thread) not in _DEAD:
                        return thread
    return place


def _state(place: Path) -> str:
    """Raises OSError."""
    return dict(_fields(text(place / "status").split("\n"))).get("State", "Z")[0]


def seconds(pid: int, proc: Path) -> float:
    """For how long it has been there. Raises GoneError, and ValueError."""
    try:
        # Its name may hold anything, and ends with the last parenthesis.
        rest = text(proc / str(pid) / "stat").rpartition(")")[2].split()
        up = float(text(proc / "uptime").split()[0])
    except OSError:
        raise GoneError from None
    return max(0.0, up - int(rest[19]) / _TICKS)


def _fields(lines: list[str]) -> Iterator[tuple[str, str]]:
    """By their names; of two of one name the last, which is the kernel's: a process' name comes first, and has no
    newline, which the kernel writes as another character."""
    for line in lines:
        name, separator, value = line.partition(":\t")
        if separator:
            yield name, value.strip(" \t")


def mounts(told: str) -> Iterator[str]:
    """The lines of mountinfo, with nothing of where a file system comes from but which part of it is mounted."""
    for line in filter(None, told.split("\n")):
        mount, separator, system = line.partition(" - ")
        fields, of_system = mount.split(" "), system.split(" ", 2)
        if not separator or len(fields) < 6 or len(of_system) != 3:
            raise ValueError("a line of mountinfo that is none")
        options = [one for one in fields[5].split(",") if one in _OPTIONS]
        shared = [one for one in fields[6:] if one.startswith("shared:")][:1]
        theirs = [one if one in _OPTIONS else "size=1" for one in of_system[2].split(",") if _counts(one)]
        fixed = ["0", "0", *fields[2:5], ",".join(options) or "rw", *(["shared:1"] if shared else [])]
        yield " ".join([*fixed, "-", of_system[0], "none", ",".join(theirs) or "rw"])


def _counts(option: str) -> bool:
    return option in _OPTIONS or option.startswith("size=")


def _namespaces(place: Path, proc: Path, fields: dict[str, str]) -> Iterator[tuple[str, bool]]:
    numbers = fields.get("NSpid", "").split()
    if numbers and all(map(_NUMBER.fullmatch, numbers)):
        # Its number in each namespace of processes that it is in, from the reader's on.
        yield "pid", len(numbers) == 1
    own, first = (if_told(lambda one=one: _identity(one / "net/dev")) for one in (place, proc / "1"))  # type: ignore[misc]
    if own is not None and first is not None:
        yield "net", own == first


def _identity(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_dev, found.st_ino
