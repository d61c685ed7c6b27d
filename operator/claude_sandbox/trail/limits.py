"""How many records there may be of one object, and of one namespace: an agent, or a tenant, must not fill the disk.

Theory of operation. Holds buckets of tokens for each object and each namespace, by their names: who deletes and makes
an object again must not have a full bucket again. Each kind of record has its own, since an agent that causes many of
one must not keep those of another out. And it counts what was left out, which `due` tells. All of this is bounded: of
more than REMEMBERED, who was not heard of for longest is forgotten, and what is left out of further ones is counted
together. Pure: the clock is an argument.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from claude_sandbox.trail.records import About

K = TypeVar("K")

OBJECT_BURST, OBJECT_PER_SECOND = 60.0, 0.1
NAMESPACE_BURST, NAMESPACE_PER_SECOND = 3000.0, 0.5
REMEMBERED = 8192
TOLD_EVERY = 60.0
"""Seconds between two records of what was left out of one object's."""


@dataclass
class _Bucket:
    tokens: float
    filled: float

    def refill(self, burst: float, rate: float, now: float) -> None:
        self.tokens = min(burst, self.tokens + max(0.0, now - self.filled) * rate)
        self.filled = now


@dataclass
class LeftOut:
    """What was left out of an object's records."""

    about: About
    since: datetime
    told: float
    kinds: Counter[str] = field(default_factory=Counter)


class Limits:
    """Of all objects."""

    def __init__(self) -> None:
        self._objects: OrderedDict[tuple[str, str, str, str], _Bucket] = OrderedDict()
        self._namespaces: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._left_out: OrderedDict[tuple[str, str, str], LeftOut] = OrderedDict()

    def takes(self, kind: str, about: About, now: float, time: datetime) -> bool:
        """Whether there may be a further record. `now`: seconds of a clock that only goes forward."""
        key = (about.object, about.namespace, about.name)
        # Both are asked for first: a token is taken from both or from neither.
        own = _bucket(self._objects, (*key, kind), OBJECT_BURST, OBJECT_PER_SECOND, now)
        shared = _bucket(self._namespaces, (about.namespace, kind), NAMESPACE_BURST, NAMESPACE_PER_SECOND, now)
        if own.tokens >= 1 and shared.tokens >= 1:
            own.tokens -= 1
            shared.tokens -= 1
            return True
        left = self._left_out.get(key)
        if left is None:
            if len(self._left_out) >= REMEMBERED:
                # Beyond that many at a time they are counted together.
                key, about = ("", "", ""), About("", "", "")
            left = self._left_out.setdefault(key, LeftOut(about, time, now))
        left.kinds[kind] += 1
        return False

    def due(self, now: float, *, all_of_them: bool = False) -> list[LeftOut]:
        """What is to be told by now, and not again."""
        found = [key for key, one in self._left_out.items() if all_of_them or now - one.told >= TOLD_EVERY]
        return [self._left_out.pop(key) for key in found]


def _bucket(buckets: "OrderedDict[K, _Bucket]", key: K, burst: float, rate: float, now: float) -> _Bucket:
    found = buckets.get(key)
    if found is None:
        found = buckets[key] = _Bucket(burst, now)
        while len(buckets) > REMEMBERED:
            buckets.popitem(last=False)
    buckets.move_to_end(key)
    found.refill(burst, rate, now)
    return found
