"""What control groups have counted of the processes in them (cgroup-v2.rst; of version 1 cpuacct.rst, memory.rst)."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.procfs.files import text


@dataclass(frozen=True)
class Counters:
    """Of one group, since it is there. None where the kernel does not tell."""

    cpu_microseconds: int | None = None
    """CPU time."""
    killed: int | None = None
    """Processes that were killed for want of memory."""
    refused: int | None = None
    """Processes that could not be started, since there were as many as there may be."""
    periods: int | None = None
    """Of the scheduler, in which something ran."""
    throttled: int | None = None
    """Those of them in which it was held back, for want of CPU."""


NOTHING = Counters()
"""What is said where nothing is."""


def counters(places: Iterable[Path]) -> Counters:
    """Of the group with these directories, one in each hierarchy. Never raises: what can't be read is not told."""
    known = tuple(places)
    cpu = _first(known, "cpu.stat")
    used = cpu.get("usage_usec")
    if used is None:
        used = _nanoseconds(known)
    return Counters(
        cpu_microseconds=used,
        killed=(_first(known, "memory.events") or _first(known, "memory.oom_control")).get("oom_kill"),
        refused=_first(known, "pids.events").get("max"),
        periods=cpu.get("nr_periods"),
        throttled=cpu.get("nr_throttled"),
    )


def counts(file: Path) -> dict[str, int]:
    """A file of names and numbers. Raises OSError, ValueError."""
    found = text(file).split()
    return {name: int(figure) for name, figure in zip(found[::2], found[1::2], strict=False)}


def _first(places: Iterable[Path], name: str) -> dict[str, int]:
    for place in places:
        with suppress(OSError, ValueError):
            return counts(place / name)
    return {}


def _nanoseconds(places: Iterable[Path]) -> int | None:
    """Microseconds, of what version 1 counts."""
    for place in places:
        with suppress(OSError, ValueError):
            return int(text(place / "cpuacct.usage")) // 1000
    return None
