"""Who may have another connection, how many requests a minute, and how many wrong tokens: so that one sandbox can't
starve another. Pure."""

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Slots:
    """Places that clients share. `total`: of all; `each`: of one at most; `clients`: how many there can be.

    Each client has its share, `total // clients`, for certain: a place beyond it is given only while all that others
    have not yet taken of theirs stays free.
    """

    total: int
    each: int
    clients: int = 1
    taken: Counter[Hashable] = field(default_factory=Counter)

    def limit(self, total: int, each: int, clients: int) -> None:
        """Have these limits from now on. Who has more than that keeps it."""
        self.total, self.each, self.clients = total, each, clients

    def take(self, client: Hashable) -> bool:
        """Take a place. False where there is none for this client."""
        share = self.total // max(1, self.clients)
        own, all_taken = self.taken[client], self.taken.total()
        if own >= self.each or all_taken >= self.total:
            return False
        # What lies beyond the own share is lent only from what the others' shares leave over: a client that comes later
        # finds its own free at once.
        if own >= share:
            others = [count for other, count in self.taken.items() if other != client]
            owed = sum(max(0, share - count) for count in others)
            owed += share * max(0, self.clients - 1 - len(others))
            if self.total - all_taken <= owed:
                return False
        self.taken[client] += 1
        return True

    def give(self, client: Hashable) -> None:
        """Give a place back."""
        self.taken[client] -= 1
        if self.taken[client] <= 0:
            del self.taken[client]


@dataclass
class Rate:
    """Requests a minute, with as many at once as a minute may have (a token bucket). Seconds of any one clock."""

    per_minute: int
    left: float = -1.0
    at: float = 0.0

    def take(self, now: float) -> float:
        """0 where the request may go on, else the seconds after which it may."""
        if self.left < 0:
            self.left, self.at = float(self.per_minute), now
        self.left = min(float(self.per_minute), self.left + (now - self.at) * self.per_minute / 60)
        self.at = now
        if self.left < 1:
            return (1 - self.left) * 60 / self.per_minute
        self.left -= 1
        return 0.0

    def give(self) -> None:
        """One that was taken did not count."""
        self.left += 1


_SENDERS = 4096
"""Senders whose attempts are remembered; the one that has tried nothing for longest is forgotten first."""


@dataclass
class Attempts:
    """How often a minute each sender may present what turns out to be wrong. What was right costs nothing."""

    per_minute: int
    rates: OrderedDict[str, Rate] = field(default_factory=OrderedDict)

    def begin(self, sender: str, now: float) -> bool:
        """Whether it may have another one looked at; seconds of any one clock."""
        rate = self.rates.pop(sender, None) or Rate(self.per_minute)
        # Behind all others: who has tried last is forgotten last.
        self.rates[sender] = rate
        if len(self.rates) > _SENDERS:
            self.rates.popitem(last=False)
        return not rate.take(now)

    def right(self, sender: str) -> None:
        """The one that was begun was right."""
        if sender in self.rates:
            self.rates[sender].give()
