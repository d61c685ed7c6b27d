"""What a running sandbox is short of, and what is said of it: the same on every backend.

Agents decide when it happens, so that what is said of a sandbox changes once a minute at most.

Theory of operation. `LastSaid` holds of each sandbox what was said last, in memory only: after a restart of the
operator it is said as it is seen. From the event loop alone.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from claude_sandbox.api.conditions import Reason
from claude_sandbox.procfs.counters import Counters

CHANGES_AFTER = 60.0
"""Seconds for which what is said stays."""
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


NOTHING_SHORT = Pressure()


def pressure_of(told: Counters) -> Pressure:
    """What a container's control group has counted shows to be short."""
    periods, throttled = told.periods or 0, told.throttled or 0
    return Pressure(
        out_of_memory=bool(told.killed),
        out_of_processes=bool(told.refused),
        throttled=periods >= _TELLING and throttled * 2 > periods,
    )


def clauses(pressure: Pressure, full: Iterable[str], most: str) -> tuple[str, ...]:
    """What is said of it, each a clause with its remedy. `full`: those of places without room; `most`: how many
    processes there may be."""
    found = []
    if pressure.out_of_memory:
        found.append(
            "processes in it were killed since it needed more memory than spec.resources.memory: raise that, or have "
            "less done at a time"
        )
    found += full
    if pressure.out_of_processes:
        found.append(f"it could start no more processes than {most}: have fewer run at a time")
    if pressure.throttled:
        found.append("it was held back most of the time for want of CPU: raise spec.resources.cpu, or have less run")
    return tuple(found)


class LastSaid:
    """Of all sandboxes of a backend."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # When, of which start of which container, and what.
        self._said: dict[Hashable, tuple[float, object, Pressure]] = {}

    def said(self, sandbox: Hashable, start: object, found: Pressure) -> Pressure:
        """What is to be said of a sandbox now, given what was found. `start`: which start of its container it is."""
        at, of, before = self._said.get(sandbox, (float("-inf"), start, NOTHING_SHORT))
        # An agent that fills and empties its disk all the time would else have a status written each time.
        if of == start and (found == before or self._clock() - at < CHANGES_AFTER):
            return before
        self._said[sandbox] = self._clock(), start, found
        return found

    def forget(self, sandbox: Hashable) -> None:
        """It is gone."""
        self._said.pop(sandbox, None)
