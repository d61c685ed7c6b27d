"""One at a time for each key, and nothing kept of a key at which nobody is.

Theory of operation. Holds a lock for each key that somebody holds or waits for, and how many these are. Between looking
at a count and changing it nothing awaits. Used on one event loop; a crash loses nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """Those of all keys."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._there: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        """How many keys somebody is at."""
        return len(self._locks)

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for one's turn; it ends with the block."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._there[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._there[key] -= 1
            if not self._there[key]:
                del self._there[key], self._locks[key]
