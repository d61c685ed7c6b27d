"""Groups of keys in the work queue: none has more in work than it may, and none waits for the room of another."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from virtual_clock import VirtualLoop, run

from claude_sandbox.controller.machinery.queue import Limits, WorkQueue
from claude_sandbox.controller.machinery.workers import Result, run_workers

# The first letter is a host, with room for three; host and second letter a tenant on it, with room for two.
KEYS = st.tuples(st.sampled_from("xyz"), st.sampled_from("ab"), st.sampled_from("123")).map("".join)


def limits_of(key: str) -> Limits:
    return {} if key[0] == "z" else {key[0]: 3, key[:2]: 2}


class GroupMachine(RuleBasedStateMachine):
    """Any order of adds, takes and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.queue: WorkQueue[str] = self.loop.run_until_complete(self._make())
        self.waiting: list[str] = []
        self.again: set[str] = set()
        self.working: list[str] = []

    async def _make(self) -> WorkQueue[str]:
        return WorkQueue(limits=limits_of)

    def teardown(self) -> None:
        while self.working or self.waiting:
            while self.taken():
                pass
            self.finish(0)
        assert len(self.queue) == 0
        assert not self.queue._aside
        assert not self.queue._in_group
        self.loop.close()

    def fits(self, key: str) -> bool:
        return all(sum(one.startswith(group) for one in self.working) < room for group, room in limits_of(key).items())

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        if key in self.working:
            self.again.add(key)
        elif key not in self.waiting:
            self.waiting.append(key)

    @rule()
    def take(self) -> None:
        self.taken()

    def taken(self) -> str | None:
        async def got() -> str | None:
            try:
                return await asyncio.wait_for(self.queue.get(), 0.001)
            except TimeoutError:
                return None

        key = self.loop.run_until_complete(got())
        if key is None:
            assert not [one for one in self.waiting if self.fits(one)], "a key waits whose groups have room"
        else:
            assert self.fits(key), "more in work than the group may have"
            self.waiting.remove(key)
            self.working.append(key)
        return key

    @precondition(lambda self: self.working)
    @rule(which=st.integers(0, 20))
    def finish(self, which: int) -> None:
        key = self.working.pop(which % len(self.working))
        self.queue.done(key)
        if key in self.again:
            self.again.remove(key)
            self.waiting.append(key)

    @invariant()
    def the_line_is_as_long_as_it_says(self) -> None:
        assert len(self.queue) == len(self.waiting)


GroupMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestGroups = GroupMachine.TestCase


def test_work_without_a_number_of_workers_is_bounded_by_the_groups() -> None:
    async def main() -> None:
        at_work: set[str] = set()
        most = 0
        queue: WorkQueue[str] = WorkQueue(limits=lambda key: {key[0]: 5})

        async def reconcile(key: str) -> Result:
            nonlocal most
            at_work.add(key)
            most = max(most, len(at_work))
            await asyncio.sleep(1)
            at_work.discard(key)
            return Result()

        for number in range(40):
            queue.add(f"a{number}")
            queue.add(f"b{number}")
        workers = asyncio.create_task(run_workers(queue, None, reconcile))
        await asyncio.sleep(100)
        queue.shutdown()
        await workers
        assert most == 10

    run(main())


async def _emptied_after_a_change(when: str) -> list[str]:
    """Keys that were worked on of six, of which one may be at a time, and whose groups change while they wait."""
    moved: set[str] = set()
    queue: WorkQueue[str] = WorkQueue(limits=lambda key: {} if key in moved else {"homeless": 1})
    for key in "abcdef":
        queue.add(key)
    worked = [await queue.get()]
    taking = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    if when == "aside":
        moved |= set("bcd")
    queue.done(worked[0])
    moved |= set("bcd")  # at the latest as soon as the first of them was called for the room that there is
    while True:
        try:
            key = await asyncio.wait_for(taking, 1.0)
        except TimeoutError:
            return worked
        worked.append(key)
        queue.done(key)
        taking = asyncio.ensure_future(queue.get())


@pytest.mark.parametrize("when", ["aside", "called"])
def test_keys_whose_groups_change_while_they_wait_leave_none_behind(when: str) -> None:
    assert sorted(run(_emptied_after_a_change(when))) == list("abcdef")
