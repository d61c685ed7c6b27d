"""When the API server last answered, and how long to wait before it is asked again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

_FIRST = 0.25
_LONGEST = 15.0
"""Seconds until it is asked again, after the first failure and at most."""


@dataclass
class Contact:
    """Of one thing that is followed. `lost`: since when it is not, of the monotonic clock; None while it is."""

    clock: Callable[[], float] = time.monotonic
    lost: float | None = 0.0
    why: str = "it has not been asked yet"
    failures: int = 0

    def __post_init__(self) -> None:
        self.lost = self.clock()

    def made(self) -> None:
        """It answers."""
        self.lost, self.why, self.failures = None, "", 0

    def failed(self, why: str) -> float:
        """It does not: seconds to wait, twice as many each time, and never just as many as others wait."""
        if self.lost is None:
            self.lost = self.clock()
        self.why = why
        self.failures += 1
        return min(_LONGEST, _FIRST * 2.0 ** min(self.failures - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311

    def behind(self) -> float | None:
        """Seconds for which what is known may be old; None where it is what is."""
        return None if self.lost is None else self.clock() - self.lost
