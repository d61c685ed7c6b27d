"""How often a workload may be replaced that fails, or drifts, again and again.

Theory of operation. It holds, of what is paced, when it was done last and how long the next time has to wait. To ask is
to use it up: who is told 0 does it. One that lasted FORGIVEN_AFTER seconds was good. Shared by the passes of all
sandboxes, on the event loop. A crash forgets, so that each may be replaced once at once after a start.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from claude_sandbox.blueprint.model import Identity

FIRST = 10.0
LONGEST = 300.0
"""Seconds between two attempts, at first and at most."""
# A workload that lasted this long was good; its next failure is a first one again.
FORGIVEN_AFTER = 600.0


@dataclass(frozen=True)
class _Pace:
    last: float
    pause: float


class Pacer:
    """At once the first time, then after 10 s, 20 s, … up to 5 minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paces: dict[tuple[str, str], _Pace] = {}

    def wait(self, identity: Identity, first: float = FIRST) -> float:
        """Seconds until it may be done; 0 means now, and counts as done. `first`: the pause after the first time."""
        key, now = (identity.namespace, identity.name), self._clock()
        pace = self._paces.get(key)
        if pace is None or now - pace.last > FORGIVEN_AFTER:
            self._paces[key] = _Pace(now, first)
            return 0.0
        if (left := pace.last + pace.pause - now) > 0:
            return left
        self._paces[key] = _Pace(now, min(pace.pause * 2, LONGEST))
        return 0.0

    def forget(self, namespace: str, name: str) -> None:
        """The sandbox is gone."""
        self._paces.pop((namespace, name), None)
