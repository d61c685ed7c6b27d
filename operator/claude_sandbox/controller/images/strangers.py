"""JSON that somebody else chose, read in so much memory at most. Pure.

A few megabytes of it become hundreds in memory: `[]` has two bytes and takes sixty. So it is counted before it is read
how many values there may be. What images and signatures have has some hundreds; an SBOM is one string there.
"""

import json
from typing import Any

MOST_VALUES = 200_000
_BEFORE_VALUES = b"[{,"
"""Each value but the outermost comes behind one of these."""


def read(data: bytes) -> Any:
    """What it says; None where that can't be read, or is too much."""
    if sum(data.count(one) for one in _BEFORE_VALUES) > MOST_VALUES:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
