"""The work queue: no add is lost, no key is worked on twice at once, no key waits for ever."""

import asyncio
import logging
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from virtual_clock import VirtualLoop, run

from claude_sandbox.controller.machinery.queue import ShutDown, WorkQueue
from claude_sandbox.controller.machinery.workers import Result, run_workers
from claude_sandbox.kubernetes_api.errors import ApiError

KEYS = st.sampled_from("abcd")


class QueueMachine(RuleBasedStateMachine):
    """Any order of adds, delays, takes, ends and pauses, against the promise that the queue makes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.queue: WorkQueue[str] = self.loop.run_until_complete(self._make())
        self.wanted: set[str] = set()  # added and not yet taken after that
        self.due: dict[str, float] = {}  # the earliest wish
        self.working: set[str] = set()
        self.order: list[str] = []  # the line that a fair queue would have

    async def _make(self) -> WorkQueue[str]:
        return WorkQueue()

    def teardown(self) -> None:
        # Whatever was asked for is handed out in the end.
        for key in sorted(self.working):
            self.finish(key)
        self.pause(10_000)
        while self.wanted:
            self.take()
            self.finish(next(iter(self.working)))
        assert len(self.queue) == 0
        assert not self.queue.in_work()
        self.loop.close()

    def _want(self, key: str) -> None:
        if key not in self.wanted:
            self.wanted.add(key)
            if key not in self.working:
                self.order.append(key)

    def _want_at(self, key: str, due: float) -> None:
        if due < self.due.get(key, float("inf")):
            self.due.pop(key, None)  # of two that are due at the same time the one that was asked for first is first
            self.due[key] = due

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self._want(key)

    @rule(key=KEYS, seconds=st.sampled_from([0.0, 0.5, 1.0, 7.0, 300.0]))
    def add_after(self, key: str, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        if seconds == 0:
            self._want(key)
        else:
            self._want_at(key, self.loop.now + seconds)

    @rule(key=KEYS)
    def retry(self, key: str) -> None:
        pause = self.queue.retry(key)
        self._want_at(key, self.loop.now + pause)

    @precondition(lambda self: self.order)
    @rule()
    def take(self) -> None:
        key = self.loop.run_until_complete(asyncio.wait_for(self.queue.get(), 0.001))
        assert key not in self.working, "one key in two hands"
        assert key == self.order.pop(0), "not first come, first served"
        self.wanted.discard(key)
        self.due.pop(key, None)
        self.working.add(key)

    @precondition(lambda self: self.working)
    @rule(key=KEYS)
    def finish(self, key: str) -> None:
        if key not in self.working:
            return
        self.queue.done(key)
        self.working.discard(key)
        if key in self.wanted:
            self.order.append(key)

    # Sums of binary fractions are exact, so that the clock and the model agree on what is due at the very moment.
    @rule(seconds=st.sampled_from([0.125, 1.0, 10.0, 400.0]))
    def pause(self, seconds: float) -> None:
        until = self.loop.now + seconds
        self.loop.run_until_complete(asyncio.sleep(seconds))
        for key, due in sorted(self.due.items(), key=lambda item: item[1]):
            if due <= until:
                del self.due[key]
                self._want(key)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len(self.order)
        assert set(self.queue.in_work()) == self.working


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestQueue = QueueMachine.TestCase


def test_twenty_adds_during_one_run_make_one_more_run() -> None:
    async def main() -> int:
        queue: WorkQueue[str] = WorkQueue()
        runs = 0

        async def reconcile(key: str) -> Result | None:
            nonlocal runs
            runs += 1
            if runs == 1:
                for _ in range(20):
                    queue.add(key)
            else:
                queue.shutdown()
            return None

        queue.add("a")
        await run_workers(queue, 4, reconcile)
        return runs

    assert run(main()) == 2


@settings(max_examples=60, deadline=None)
@given(
    adds=st.lists(st.tuples(KEYS, st.floats(0, 20), st.integers(0, 3)), min_size=1, max_size=30),
    workers=st.integers(1, 5),
    work=st.floats(0.01, 3),
)
def test_a_run_starts_after_every_add_however_many_workers_fail(
    adds: list[tuple[str, float, int]], workers: int, work: float
) -> None:
    logging.getLogger("claude_sandbox.controller.machinery.queue").setLevel(logging.CRITICAL)
    added: dict[str, float] = {}
    started: dict[str, float] = {}
    running: Counter[str] = Counter()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue()
        failures_left = Counter[str]()

        async def reconcile(key: str) -> Result | None:
            running[key] += 1
            assert running[key] == 1
            started[key] = loop.time()
            try:
                await asyncio.sleep(work)
                if failures_left[key] > 0:
                    failures_left[key] -= 1
                    raise ValueError(key)
            finally:
                running[key] -= 1
            return None

        async def feed() -> None:
            now = 0.0
            for key, at, failures in sorted(adds, key=lambda a: a[1]):
                await asyncio.sleep(at - now)
                now = at
                failures_left[key] += failures
                added[key] = loop.time()
                queue.add(key)
            await asyncio.sleep(10_000)
            queue.shutdown()

        await asyncio.gather(feed(), run_workers(queue, workers, reconcile))
        assert not any(failures_left.values()), "a failed key was not tried again"

    run(main())
    assert all(started[key] >= at for key, at in added.items())


@pytest.mark.parametrize(
    ("error", "traced"),
    [
        (ApiError(409, "Conflict", "the object has been modified"), False),
        (ApiError(503, "ServiceUnavailable", "no"), False),
        (ApiError(422, "Invalid", "no"), True),
        (KeyError("a"), True),
    ],
    ids=str,
)
def test_only_of_what_nobody_expects_it_is_logged_where_it_was_raised(
    caplog: pytest.LogCaptureFixture, error: Exception, traced: bool
) -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()

        async def reconcile(_: str) -> None:
            queue.shutdown()
            raise error

        queue.add("a")
        await run_workers(queue, 1, reconcile)

    run(main())
    (record,) = caplog.records
    # Where a test before it set up the operator's logs, these have made a text of it.
    assert bool(record.exc_info or record.exc_text) == traced


def test_retries_come_later_each_time_up_to_the_cap_and_a_success_resets_them() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        pauses = [queue.retry("a") for _ in range(30)]
        assert all(0.08 <= p <= 0.1 for p in pauses[:1])
        for n, pause in enumerate(pauses):
            assert 0.8 * min(0.1 * 2**n, 300) <= pause <= min(0.1 * 2**n, 300)
        assert queue.failures("a") == 30
        queue.forget("a")
        assert queue.retry("a") <= 0.1
        assert queue.retry("b", at_least=17) == 17

    run(main())


def test_what_the_server_asks_for_is_respected() -> None:
    class ThrottledError(Exception):
        retry_after = 42.0

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue()
        times: list[float] = []

        async def reconcile(_: str) -> Result | None:
            times.append(loop.time())
            if len(times) == 1:
                raise ThrottledError
            queue.shutdown()
            return None

        queue.add("a")
        await run_workers(queue, 1, reconcile)
        return times

    first, second = run(main())
    assert second - first == pytest.approx(42, abs=0.01)


def test_requeue_after_runs_again_then() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue()
        times: list[float] = []

        async def reconcile(_: str) -> Result | None:
            times.append(loop.time())
            if len(times) == 3:
                queue.shutdown()
            return Result(requeue_after=600)

        queue.add("a")
        await run_workers(queue, 2, reconcile)
        return times

    times = run(main())
    assert [round(b - a) for a, b in pairwise(times)] == [600, 600]


def test_a_run_for_another_reason_meets_what_was_wished_for_later() -> None:
    async def main() -> int:
        queue: WorkQueue[str] = WorkQueue()
        runs = 0

        async def reconcile(_: str) -> Result | None:
            nonlocal runs
            runs += 1
            return Result(requeue_after=1.0) if runs == 1 else None

        async def feed() -> None:
            queue.add("a")
            await asyncio.sleep(0.5)
            queue.add("a")
            await asyncio.sleep(10)
            queue.shutdown()

        await asyncio.gather(feed(), run_workers(queue, 2, reconcile))
        return runs

    assert run(main()) == 2


def test_a_wish_that_was_met_does_not_help_the_next_one_forward() -> None:
    async def main() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 1)
        queue.add("a")
        queue.done(await queue.get())
        queue.add_after("b", 1)
        queue.add_after("a", 1)
        await asyncio.sleep(2)
        return [await queue.get(), await queue.get()]

    assert run(main()) == ["b", "a"]


def test_a_queue_is_idle_from_the_end_of_its_work_on() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        await asyncio.sleep(3)
        assert queue.idle() == 3
        queue.add("a")
        assert queue.idle() == 0
        await queue.get()
        await asyncio.sleep(1)
        assert queue.idle() == 0
        queue.add("a")
        queue.done("a")
        assert queue.idle() == 0
        await queue.get()
        queue.done("a")
        queue.add_after("a", 60)
        await asyncio.sleep(2)
        assert queue.idle() == 2

    run(main())


def test_shutdown_finishes_what_is_in_work_and_starts_nothing() -> None:
    async def main() -> tuple[list[str], list[str]]:
        queue: WorkQueue[str] = WorkQueue()
        started: list[str] = []
        finished: list[str] = []

        async def reconcile(key: str) -> Result | None:
            started.append(key)
            await asyncio.sleep(5)
            finished.append(key)
            return None

        for key in "abc":
            queue.add(key)
        workers = asyncio.create_task(run_workers(queue, 2, reconcile))
        await asyncio.sleep(1)
        queue.shutdown()
        queue.add("d")
        await workers
        with pytest.raises(ShutDown):
            await queue.get()
        return started, finished

    assert run(main()) == (["a", "b"], ["a", "b"])


def test_cancelling_the_workers_cancels_the_work() -> None:
    async def main() -> bool:
        queue: WorkQueue[str] = WorkQueue()
        cancelled = False

        async def reconcile(_: str) -> Result | None:
            nonlocal cancelled
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled = True
                raise
            return None

        queue.add("a")
        workers = asyncio.create_task(run_workers(queue, 1, reconcile))
        await asyncio.sleep(1)
        workers.cancel()
        await asyncio.wait([workers])
        assert not queue.in_work()
        return cancelled

    assert run(main())


def test_a_waiter_that_is_cancelled_does_not_take_the_key_with_it() -> None:
    async def main() -> str:
        queue: WorkQueue[str] = WorkQueue()
        first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")  # wakes the first
        first.cancel()
        return await asyncio.wait_for(second, 1)

    assert run(main()) == "a"


def test_a_reconcile_that_says_that_it_failed_is_tried_again_later_each_time() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue()
        times: list[float] = []

        async def reconcile(_: str) -> Result | None:
            times.append(loop.time())
            if len(times) < 5:
                return Result(retry=True)
            queue.shutdown()
            return None

        queue.add("a")
        await run_workers(queue, 1, reconcile)
        assert queue.failures("a") == 0
        return times

    times = run(main())
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses == sorted(pauses)
    assert 0.8 * 0.8 <= pauses[-1] <= 0.8


def test_a_reconcile_that_failed_is_looked_at_when_it_asked_for_it_however_often_it_failed() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue()
        times: list[float] = []

        async def reconcile(_: str) -> Result | None:
            times.append(loop.time())
            if len(times) < 20:
                return Result(retry=True, requeue_after=2.0)
            queue.shutdown()
            return None

        queue.add("a")
        await run_workers(queue, 1, reconcile)
        return times

    times = run(main())
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses[0] <= 0.1  # the first try again is sooner than what was asked for
    assert pauses[-1] == pytest.approx(2.0, abs=0.01)
    assert max(pauses) <= 2.01
