"""What is made of measured times: percentiles, medians over repeats, spreads. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all are not above (nearest rank). Raises ValueError without any."""
    if not values:
        raise ValueError("no values")
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return sorted(values)[rank - 1]


@dataclass(frozen=True)
class Latency:
    """How long something took, in seconds, over `count` times."""

    count: int
    p50: float
    p90: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Raises ValueError without any value."""
        return cls(len(seconds), *(percentile(seconds, percent) for percent in (50, 90, 99, 100)))


@dataclass(frozen=True)
class Spread:
    """The same figure from several repeats: the median, and between what it lay."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError without any value."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, form: str) -> str:
        median, least, most = (format(value, form) for value in (self.median, self.least, self.most))
        return median if least == most else f"{median} ({least} to {most})"
