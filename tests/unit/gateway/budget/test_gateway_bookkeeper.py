"""Two gateways that share accounts in a store which loses requests and answers, is slow, and goes away for a while."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import virtual_clock
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_clock import VirtualLoop

from claude_sandbox.gateway.budget import bookkeeper
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.ledger import Account, Budget, BudgetSpentError, dumps, loads
from claude_sandbox.gateway.budget.prices import Bound, Tokens
from claude_sandbox.gateway.budget.store import MemoryStore, StoreError

LIMIT = 100
BUDGET = Budget(cost=LIMIT)
FAULTS = ("none", "none", "lost request", "lost answer", "late", "slow")


@dataclass
class LossyStore:
    """Does with each call what the next fault says; without any left, it works. Checks what must hold of every write.

    `late`: the caller is told that it failed, and the write arrives afterwards.
    """

    faults: Iterator[str]
    limit: int = LIMIT
    pace: float = 0.0
    inner: MemoryStore = field(default_factory=MemoryStore)
    late: set[asyncio.Task[str | None]] = field(default_factory=set)

    async def load(self, sandbox: str) -> tuple[Account, str]:
        match next(self.faults, "none"):
            case "lost request" | "lost answer" | "late":
                raise StoreError("nothing came back")
            case "slow":
                await asyncio.sleep(1.0)
        account, version = await self.inner.load(sandbox)
        return loads(dumps(account)), version

    async def swap(self, sandbox: str, version: str, account: Account) -> str | None:
        fault = next(self.faults, "none")
        await asyncio.sleep(1.0 if fault == "slow" else 0.01)
        if fault == "lost request":
            raise StoreError("the request was lost")
        if fault == "late":
            self.late.add(asyncio.create_task(self._later(sandbox, version, account)))
            raise StoreError("it takes too long")
        done = await self._swap(sandbox, version, account)
        if fault == "lost answer":
            raise StoreError("the answer was lost")
        return done

    async def _later(self, sandbox: str, version: str, account: Account) -> str | None:
        await asyncio.sleep(0.3)
        return await self._swap(sandbox, version, account)

    async def _swap(self, sandbox: str, version: str, account: Account) -> str | None:
        assert account.spent + sum(one.cost for one in account.reserved.values()) <= self.limit
        return await self.inner.swap(sandbox, version, account)


@dataclass(frozen=True)
class Sent:
    """A request: by which gateway, after how many seconds, its bound, what it used of that in percent and for how
    long; negative is an answer with an error, and `gives_up` a client that goes away."""

    gateway: int
    at: float
    bound: int
    percent: int
    seconds: float
    gives_up: bool


SENT = st.builds(
    Sent, st.integers(0, 1), st.floats(0, 8), st.integers(1, 60), st.integers(-50, 100), st.floats(0, 3), st.booleans()
)


@dataclass
class Seen:
    spent: int = 0
    requests: int = 0


async def _one(book: Bookkeeper, name: str, sent: Sent, seen: Seen) -> None:
    await asyncio.sleep(sent.at)
    try:
        async with asyncio.timeout(0.02 if sent.gives_up else None):
            await book.reserve("s", BUDGET, name, Bound(0, sent.bound, sent.bound))
    except (BudgetSpentError, StoreError, TimeoutError):
        return
    await asyncio.sleep(sent.seconds)
    if sent.percent < 0:
        book.release("s", name)
        return
    cost = sent.bound * sent.percent // 100
    seen.spent += cost
    seen.requests += 1
    book.settle("s", BUDGET, name, "m", Tokens(), cost)


@settings(max_examples=75)
@given(st.lists(SENT, max_size=25), st.lists(st.sampled_from(FAULTS), max_size=60))
def test_every_request_is_counted_once_whatever_the_store_loses(sent: list[Sent], faults: list[str]) -> None:
    async def main() -> tuple[Account, Seen]:
        store, seen = LossyStore(iter(faults)), Seen()
        books = [Bookkeeper(store), Bookkeeper(store)]
        await asyncio.gather(*(_one(books[one.gateway], str(n), one, seen) for n, one in enumerate(sent)))
        for book in books:
            await book.flush(1000)
        await asyncio.gather(*store.late)
        return (await store.inner.load("s"))[0], seen

    account, seen = virtual_clock.run(main())
    assert (account.spent, account.overrun, account.reserved) == (seen.spent, 0, {})
    assert sum(one.requests for one in account.models.values()) == seen.requests


@given(st.lists(st.integers(0, 1), max_size=20), st.lists(st.sampled_from(FAULTS), max_size=40))
def test_what_reserved_nothing_is_counted_once_too(gateways: list[int], faults: list[str]) -> None:
    async def main() -> Account:
        store = LossyStore(iter(faults), limit=10**9)
        books = [Bookkeeper(store), Bookkeeper(store)]
        for gateway in gateways:
            books[gateway].settle("s", Budget(), None, "m", Tokens(output=3), 7)
            await asyncio.sleep(0.01)
        for book in books:
            await book.flush(1000)
        await asyncio.gather(*store.late)
        return (await store.inner.load("s"))[0]

    assert virtual_clock.run(main()).spent == 7 * len(gateways)


@given(st.lists(SENT, min_size=1, max_size=15), st.integers(0, 6), st.floats(-90, 90))
def test_a_gateway_that_is_killed_leaves_at_most_what_it_reserved_and_clocks_may_differ(
    sent: list[Sent], killed_after: int, skew: float
) -> None:
    async def main() -> tuple[Account, Seen]:
        store, seen = LossyStore(iter(())), Seen()
        loop = asyncio.get_running_loop()
        books = [Bookkeeper(store, loop.time), Bookkeeper(store, lambda: loop.time() + skew)]
        tasks = [asyncio.create_task(_one(books[one.gateway], str(n), one, seen)) for n, one in enumerate(sent)]
        await asyncio.sleep(killed_after)
        for task, one in zip(tasks, sent, strict=True):
            if one.gateway == 1:
                task.cancel()
        await books[1].flush(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        await books[0].flush()
        return (await store.inner.load("s"))[0], seen

    account, seen = virtual_clock.run(main())
    held = sum(one.cost for one in account.reserved.values())
    # What it had let through and not settled is still reserved: nothing is given back that nobody knows of.
    assert account.spent <= seen.spent <= account.spent + held <= LIMIT


def test_while_the_store_is_away_nothing_is_let_through_and_nothing_is_lost() -> None:
    async def main() -> None:
        store = LossyStore(iter(["none"] * 3 + ["lost request"] * 6))
        book, loop = Bookkeeper(store), asyncio.get_running_loop()
        await book.reserve("s", BUDGET, "first", Bound(0, 1, 60))
        await book.reserve("s", BUDGET, "second", Bound(0, 1, 10))
        book.settle("s", BUDGET, "first", "m", Tokens(), 50)
        book.settle("s", Budget(), None, "m", Tokens(), 5)
        await asyncio.sleep(1.0)
        assert book.away is not None
        before = loop.time()
        refused = await asyncio.gather(
            *(book.reserve("s", BUDGET, str(n), Bound(0, 1, 1)) for n in range(20)), return_exceptions=True
        )
        assert all(isinstance(one, StoreError) for one in refused)
        assert loop.time() == before
        await book.flush(60)
        assert book.away is None
        await book.reserve("s", BUDGET, "after", Bound(0, 1, 35))
        account, _ = await store.inner.load("s")
        assert (account.spent, sorted(account.reserved)) == (55, ["after", "second"])

    virtual_clock.run(main())


def test_a_request_does_not_wait_longer_than_its_patience() -> None:
    async def main() -> None:
        store, loop = LossyStore(iter(["none"] + ["slow"] * 20)), asyncio.get_running_loop()
        book = Bookkeeper(store)
        # Each batch takes a second; those behind it wait for their turn.
        ahead = asyncio.create_task(book.reserve("s", BUDGET, "ahead", Bound(0, 1, 1)))
        await asyncio.sleep(0.1)
        store.pace = 20.0
        before = loop.time()
        with pytest.raises(StoreError, match="not written in time"):
            await book.reserve("s", BUDGET, "late", Bound(0, 1, 1))
        assert loop.time() - before <= bookkeeper.PATIENCE
        await ahead
        await book.flush(200)
        assert list((await store.inner.load("s"))[0].reserved) == ["ahead"]

    virtual_clock.run(main())


def test_counts_that_wait_are_bounded() -> None:
    async def main() -> None:
        book = Bookkeeper(LossyStore(iter(["lost request"] * 100_000), limit=10**9))
        for _ in range(bookkeeper.MAX_WAITING + 5):
            book.settle("s", Budget(), None, "m", Tokens(), 1)
        assert book.uncounted == 5
        await book.flush(1.0)

    virtual_clock.run(main())


def test_a_book_of_a_sandbox_that_is_gone_is_forgotten_once_it_is_written() -> None:
    async def main() -> None:
        store = LossyStore(iter(()))
        book = Bookkeeper(store)
        book.settle("s", Budget(), None, "m", Tokens(), 1)
        book.keep(set())
        await book.flush()
        assert (await store.inner.load("s"))[0].spent == 1
        book.keep(set())
        assert book.away is None
        assert isinstance(asyncio.get_running_loop(), VirtualLoop)

    virtual_clock.run(main())
