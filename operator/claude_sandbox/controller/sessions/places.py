"""How many sessions there may be at a time, and how much they may carry together, so that they starve nobody.

Theory of operation. It holds how many sessions each namespace has, and until when the bytes that were let through are
paid for. Used on the event loop; no call but `spend` waits. A crash forgets it with the sessions.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST = 64
"""Sessions at a time. Each has two threads, which mostly wait."""
SHARE = 8
"""Sessions of one namespace at a time."""
RATE = 64 * 1024 * 1024
"""Bytes per second of all sessions together, both ways: carrying them takes the event loop's time, which is the
reconciles' too."""
_AHEAD = 0.05
"""Seconds of the rate that may be let through at once."""


class FullError(Exception):
    """There is no place left; the message says of what there are too many."""


class Places:
    """The places of one operator."""

    def __init__(
        self,
        most: int = MOST,
        share: int = SHARE,
        rate: float = RATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._share = share
        self._rate = rate
        self._clock = clock
        self._taken: dict[str, int] = {}
        self._paid_until = clock()

    @contextmanager
    def of(self, namespace: str) -> Iterator[None]:
        """One of the namespace's places, until the end of the block. Raises FullError."""
        # The share first, so that who has used up his own is not told that the operator is full.
        if self._taken.get(namespace, 0) >= self._share:
            raise FullError(f"Namespace {namespace} has {self._share} sessions open already")
        if sum(self._taken.values()) >= self._most:
            raise FullError(f"The operator has {self._most} sessions open already")
        self._taken[namespace] = self._taken.get(namespace, 0) + 1
        try:
            yield
        finally:
            self._taken[namespace] -= 1
            if not self._taken[namespace]:
                del self._taken[namespace]

    @property
    def taken(self) -> dict[str, int]:
        """How many sessions are open, by the namespaces that have any. May be asked from any thread."""
        return self._taken.copy()

    @property
    def most(self) -> int:
        """How many there may be."""
        return self._most

    async def spend(self, size: int) -> None:
        """Wait until so many bytes may be carried."""
        now = self._clock()
        # Before the wait, so that all who wait at the same time wait for each other's bytes too.
        self._paid_until = max(now, self._paid_until) + size / self._rate
        if (early := self._paid_until - now) > _AHEAD:
            await asyncio.sleep(early - _AHEAD)
