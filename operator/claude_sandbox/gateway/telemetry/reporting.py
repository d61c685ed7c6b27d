"""When a sandbox's report is written: seldom, but at once where it says that the agent can't work, or can again.

Theory of operation. What a request changed makes its sandbox *due*; every second those that are due are looked at. A
report that says the same as the one that was written last is not written. One that says something decisive
(`report.decisive`) is written, by a sandbox's share of TURNS a minute; any other waits until EVERY seconds have passed
since the last one of the sandbox, PROGRESS of them while its repositories are being cloned. A sandbox whose trouble
ends by itself (a window, a silence) stays due.

Held, in memory: what was written last of each sandbox, and when. A gateway that begins anew writes what it has to say
once more. Where a write fails it is tried again, RETRY seconds later. Used from one event loop, by one task.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from claude_sandbox.gateway.budget.store import StoreError
from claude_sandbox.gateway.shares import Rate
from claude_sandbox.gateway.telemetry.report import content, decisive, is_progress

EVERY = 60.0
"""Seconds between two writes that say nothing decisive."""
PROGRESS = 5.0
"""Seconds between two writes that say how far a clone is."""
TURNS = 4
"""Writes a minute, and at once, that say something decisive: whoever makes it change all the time waits."""
TICK = 1.0
RETRY = 10.0
_STANDING = ("Spent", "Short")


class Reports(Protocol):
    """Where reports go."""

    async def write(self, sandbox: str, text: str) -> None:
        """Put it in the place of this gateway's last one. Raises StoreError."""


@dataclass
class _Told:
    text: str = ""
    at: float = float("-inf")
    not_before: float = float("-inf")
    turns: Rate = field(default_factory=lambda: Rate(TURNS))


class Reporting:
    """Of all sandboxes. `report`: the text of a sandbox's report now, empty where there is none."""

    def __init__(
        self, reports: Reports, report: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reports = reports
        self._report = report
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._due: set[str] = set()
        self._known: dict[str, object] = {}
        self._complained = ""

    def due(self, sandbox: str) -> None:
        """Something of it may have changed."""
        self._due.add(sandbox)

    def keep(self, sandboxes: Mapping[str, object]) -> None:
        """Forget all others; look at each that is not what it was. The values: all that a report goes by of it."""
        self._told = {uid: one for uid, one in self._told.items() if uid in sandboxes}
        changed = {uid for uid, one in sandboxes.items() if self._known.get(uid) != one}
        self._due = {uid for uid in self._due if uid in sandboxes} | changed
        self._known = dict(sandboxes)

    async def run(self, look: Callable[[], None] = lambda: None) -> None:
        """Write, until cancelled. `look` is called before each turn."""
        while True:
            await asyncio.sleep(TICK)
            look()
            for sandbox in tuple(self._due):
                await self.turn(sandbox)

    async def turn(self, sandbox: str) -> None:
        """Write the report of one that is due, if it is time."""
        told, text, now = self._told.setdefault(sandbox, _Told()), self._report(sandbox), self._clock()
        # Without its time, by which each report is another.
        if not text or content(text) == content(told.text):
            if not _stands(text):
                self._due.discard(sandbox)
            return
        if now < told.not_before or not self._is_time(told, text, now):
            return
        # Before it is written: what changes meanwhile makes it due once more.
        self._due.discard(sandbox)
        try:
            await self._reports.write(sandbox, text)
        except StoreError as error:
            told.not_before = now + RETRY
            self._due.add(sandbox)
            self._complain(str(error))
            return
        told.text, told.at, self._complained = text, now, ""
        if _stands(text):
            self._due.add(sandbox)

    def _is_time(self, told: _Told, text: str, now: float) -> bool:
        if now - told.at >= (PROGRESS if is_progress(text) else EVERY):
            return True
        # Asked last: to ask takes a turn.
        return decisive(text) != decisive(told.text) and not told.turns.take(now)

    def _complain(self, what: str) -> None:
        if what != self._complained:
            self._complained = what
            print(f"gateway: what sandboxes have used is not told: {what}", file=sys.stderr, flush=True)


def _stands(text: str) -> bool:
    """Whether what it says may become false without a request."""
    found = content(text)
    return bool(found.get("trouble")) or (found.get("budget") or {}).get("state") in _STANDING
