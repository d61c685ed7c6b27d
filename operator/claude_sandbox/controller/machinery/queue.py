"""The keyed work queue: whatever happens to a key, it is worked on once more after it happened.

The contract is the one that Kubernetes controllers know: a key that is added while it waits is worked on once; a key
that is added while it is being worked on is worked on again, afterwards, by one worker. Beyond that, a run meets every
wish to have its key worked on later that is older than the run: what has to be looked at again, that run says anew.

Keys may be of groups with a limit each. A key of a group that has as many in work as it may waits aside, outside of the
workers, and keeps nobody of another group waiting.

Theory of operation. Holds keys and nothing of why they were added: those to be worked on (`_dirty`), of these the ones
in line or aside, those in work, those due later with a heap by time, and how often in a row each failed.

Always true:
- A key is in line or aside, and there once, exactly while it is dirty and not in work.
- No key waits aside for a group with room: who gives up room, or was called for it and can't use it, calls the next.
- Of a key's wishes for later only the earliest is kept, and a run takes it away.
- A worker that waits is woken for each key in line; one that is cancelled passes its turn on.

Anybody on the event loop may add; the workers (`workers.py`) alone take and end. No method awaits but `get`, so each is
whole. The page of metrics asks for `len()` and `in_work()` from its thread, and gets a copy. A crash loses all of it: a
process that starts adds every key there is, and a replica that does not lead gathers keys until it does. A lost event
costs no more than the time until the next round of looking at everything.
"""

import asyncio
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY = 0.1
MAX_RETRY = 300.0


class ShutDown(Exception):  # noqa: N818 (a signal to a worker, not a fault)
    """No more work is handed out."""


class Observer(Protocol):
    """What a queue tells to those who count. Seconds throughout."""

    def added(self) -> None:
        """A key was put in line."""

    def got(self, waited: float) -> None:
        """A worker took a key that had been in line for so long."""

    def done(self, worked: float) -> None:
        """A worker finished a key."""

    def retried(self) -> None:
        """A key failed and will be tried again."""


class _Delayed(NamedTuple, Generic[K]):
    """To have a key worked on later. Of two for the same moment the older is met first."""

    due: float
    sequence: int
    key: K


Group = Hashable
Limits = Mapping[Group, int]
"""Of a key: its groups, and how many of each may be in work at a time, at least one."""


class WorkQueue(Generic[K]):
    """Keys in line, in work, and due later. Use it from one event loop, whose clock is its clock."""

    def __init__(
        self,
        *,
        observer: Observer | None = None,
        first_retry: float = FIRST_RETRY,
        max_retry: float = MAX_RETRY,
        limits: Callable[[K], Limits] = lambda _: {},
    ) -> None:
        self._observer = observer
        self._limits = limits
        self._aside: dict[Group, deque[K]] = {}  # for the group that is full
        self._called: dict[K, Group] = {}  # in line again, since that group has room
        self._in_group: Counter[Group] = Counter()  # in work
        self._groups: dict[K, tuple[Group, ...]] = {}  # of those in work, as they were when they were taken
        self._first_retry = first_retry
        self._max_retry = max_retry
        self._line: deque[K] = deque()
        self._dirty: dict[K, float] = {}  # to be worked on -> since when
        self._processing: dict[K, float] = {}  # in work -> since when
        self._due: dict[K, _Delayed[K]] = {}  # later -> when
        self._heap: list[_Delayed[K]] = []  # of `_due`, with outdated ones among it
        self._sequence = 0
        self._failures: dict[K, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._worked = self._loop.time()  # when work ended last

    def __len__(self) -> int:
        """Keys in line or aside, those that are in work or due later not counted."""
        # Asked by another thread too: one expression in C, during which no key goes aside.
        return len(self._line) + sum(map(len, self._aside.values()))

    def add(self, key: K) -> None:
        """Have `key` worked on. Does nothing if it is in line already, or after `shutdown()`."""
        if self._closed or key in self._dirty:
            return
        self._dirty[key] = self._loop.time()
        if self._observer is not None:
            self._observer.added()
        # Else `done` puts it in line: two runs of a key would undo each other's work.
        if key not in self._processing:
            self._line.append(key)
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Have `key` worked on in `seconds`, unless it is before. Of several such wishes only the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._loop.time() + seconds
        if self._closed or (key in self._due and self._due[key].due <= due):
            return
        # Also so that no two wishes are equal: keys need not be comparable.
        self._sequence += 1
        wish = self._due[key] = _Delayed(due, self._sequence, key)
        heapq.heappush(self._heap, wish)
        self._arm()

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Have a key that failed worked on again, later each time; in how many seconds.

        The pause doubles from `first_retry` up to `max_retry`, spread by a fifth, and is never below `at_least`.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(self._first_retry * 2.0 ** min(failures, 32), self._max_retry)  # 32: no float overflows
        # Spread, or all that failed at the same moment would come back at the same moment.
        pause = max(backoff * random.uniform(0.8, 1.0), at_least)  # noqa: S311 (no secret)
        if self._observer is not None:
            self._observer.retried()
        self.add_after(key, pause)
        return pause

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure is its first."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Failures in a row."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key, which is then in work until `done(key)`. Raises `ShutDown`."""
        while (key := self._next()) is None:
            if self._closed:
                raise ShutDown
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # the one that was meant for us
                raise
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        # What was to be looked at later is looked at now; its entry in the heap is left, and skipped when it is due.
        self._due.pop(key, None)
        now = self._loop.time()
        since = self._dirty.pop(key)
        # In the same step as it leaves the line: what is added from here on is for another run.
        self._processing[key] = now
        if self._observer is not None:
            self._observer.got(now - since)
        return key

    def done(self, key: K) -> None:
        """The key's work ended, well or not. If it was added meanwhile it goes to the end of the line."""
        since = self._processing.pop(key)
        self._worked = self._loop.time()
        for group in self._groups.pop(key):
            self._in_group[group] -= 1
            if not self._in_group[group]:
                del self._in_group[group]
            self._call_back(group)
        if self._observer is not None:
            self._observer.done(self._worked - since)
        if key in self._dirty:
            self._line.append(key)
            self._wake()

    def shutdown(self) -> None:
        """Hand out no more keys. Those in work are finished by their workers."""
        # First, so that each of the waiters that are woken finds it set.
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            self._wake()

    def in_work(self) -> dict[K, float]:
        """The keys in work and for how many seconds they have been."""
        now = self._loop.time()
        return {key: now - since for key, since in list(self._processing.items())}  # may be asked by another thread

    def idle(self) -> float:
        """For how many seconds no key has been in line or in work; what is due later does not count."""
        return 0.0 if self._dirty or self._processing else self._loop.time() - self._worked

    def _next(self) -> K | None:
        """Take the first key in line whose groups have room; those before it go aside."""
        while self._line and not self._closed:
            key = self._line.popleft()
            limits = self._limits(key)
            called = {self._called.pop(key)} if key in self._called else set()
            if (full := self._full(limits)) is None:
                self._groups[key] = tuple(limits)
                self._in_group.update(limits.keys())
                for other in called - limits.keys():
                    self._call_back(other)  # it is of other groups by now, and leaves that room to the next
                return key
            self._put_aside(key, full)
            for other in (limits.keys() | called) - {full}:
                self._call_back(other)  # it may have been called for that group's room, and can't use it
        return None

    def _full(self, limits: Limits) -> Group | None:
        return next((group for group, limit in limits.items() if self._in_group[group] >= limit), None)

    def _put_aside(self, key: K, group: Group) -> None:
        self._aside.setdefault(group, deque()).append(key)

    def _call_back(self, group: Group) -> None:
        """A group may have room: the first that waits for it, and can use it, is next."""
        waiting = self._aside.get(group)
        while waiting:
            key = waiting.popleft()
            if not waiting:
                del self._aside[group]
            full = self._full(self._limits(key))
            if full is None:
                # Not after those in line: it has waited longer than they have.
                self._line.appendleft(key)
                self._called[key] = group
                self._wake()
                return
            self._put_aside(key, full)
            if full == group:
                # Still no room; it goes back to where it was.
                self._aside[group].rotate(1)
                return

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            # One that was cancelled is still among them, until its own task has run.
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self) -> None:
        # Outdated wishes stay in the heap until they are due. Where they are most of it they are taken out at once, so
        # that keys which are asked for again and again, hours ahead, do not make it grow.
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [wish for wish in self._heap if self._due.get(wish.key) is wish]
            heapq.heapify(self._heap)
        while self._heap and self._due.get(self._heap[0].key) is not self._heap[0]:
            heapq.heappop(self._heap)
        if self._timer is not None:
            if self._heap and self._timer.when() == self._heap[0].due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0].due, self._promote) if self._heap else None

    def _promote(self) -> None:
        # call_at fires up to the clock's resolution early.
        now = max(self._loop.time(), self._timer.when() if self._timer else 0.0)
        self._timer = None
        while self._heap and self._heap[0].due <= now:
            wish = heapq.heappop(self._heap)
            if self._due.get(wish.key) is wish:
                del self._due[wish.key]
                self.add(wish.key)
        self._arm()
