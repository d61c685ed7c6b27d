"""Letting others have the event loop in the midst of work that has no end known beforehand."""

import asyncio
import time

SECONDS = 0.01
"""How long one task may have the loop before the others get their turn."""


class Breath:
    """For one task: `await breath()` between two pieces of its work, however small. Costs next to nothing."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._since = time.monotonic()

    async def __call__(self) -> None:
        """Let the others go first where this task has had its time."""
        if time.monotonic() - self._since >= self._seconds:
            await asyncio.sleep(0)
            self._since = time.monotonic()
