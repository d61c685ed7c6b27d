"""Single files of /proc and of control groups (proc(5), cgroups(7)). A process chooses its name, of any bytes.

Raises OSError for what is not there or may not be read, and ValueError for what can't be understood.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
LONGEST = 1 << 20
"""Bytes. A table of mounts can be long; what is longer than any that a runtime makes is not read."""


def if_told(read: Callable[[], T]) -> T | None:
    """What `read` gives; None where it may not be read, or is not there."""
    try:
        return read()
    except OSError:
        return None


def text(file: Path) -> str:
    """A file's text; bytes that are none are written as `\\xff`. Raises ValueError where it is too long."""
    with file.open("rb") as opened:
        content = opened.read(LONGEST)
    # Not cut: what is behind the end might be what a control fails for.
    if len(content) == LONGEST:
        raise ValueError("a file of the kernel's that is too long")
    return content.decode(errors="backslashreplace")


def open_files(place: Path) -> float:
    """How many files the process below /proc may have open, as its hard limit."""
    for line in text(place / "limits").split("\n"):
        if line.startswith("Max open files"):
            return finite(line.split()[-2])
    raise ValueError("the kernel tells no limit of open files")


def confinement(place: Path) -> str | None:
    """What AppArmor says, where it is in force; of another security module, nothing."""
    # Kernels from 5.8 on tell it there, whatever other modules there are.
    for name in ("attr/apparmor/current", "attr/current"):
        with suppress(OSError):
            told = text(place / name).strip("\0\n ")
            # The labels of SELinux have colons and no mode.
            return told if told == "unconfined" or told.endswith(")") else None
    return None


def words(file: Path) -> Iterator[str]:
    """The words in a file; none where it can't be read."""
    try:
        yield from text(file).split()
    except OSError:
        return


def number(file: Path) -> float | None:
    """The limit in a file of a control group; None where it can't be read."""
    word = next(words(file), None)
    return None if word is None else finite(word)


def share(*figures: str) -> float | None:
    """CPUs, of a quota and a period in microseconds."""
    if len(figures) != 2:
        return None
    return finite(figures[0]) / float(figures[1])


def finite(word: str) -> float:
    """A limit; infinite where there is none."""
    # Version 1 writes -1 where there is no quota.
    return math.inf if word in ("max", "-1", "unlimited") else float(word)
