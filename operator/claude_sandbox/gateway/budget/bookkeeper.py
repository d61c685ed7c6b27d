"""Makes the changes of accounts, each exactly once, whatever becomes of the writes that carry them.

Theory of operation. Held for each sandbox (a *book*): the changes that wait, in the order in which they were asked
for, and the account as it was last read or written. One task for each book takes all that wait as a *batch*, makes
them one after the other on the account, and swaps it: what comes in while a write is on its way goes with the next.

A batch has a number, which is written into the account with it. From when it is taken until it is written, the batch
stays as it is and is tried again, for as long as the store is away: a try whose answer was lost has either been
written, which its number in the account tells, or can't be any more once the version that it expected is gone, or
makes the very same account as the next try does. So nothing is made twice, and nothing is made that nobody knows of.

What follows from it:
- A reservation is not waited for longer than `PATIENCE`, and while the store is away (`TRIES` tries in a row failed)
  none is waited for at all: the request is refused. Should the batch have it in after all, a release comes behind it.
- What was used is kept until the store is back, as much as `MAX_WAITING` changes of a book. So a sandbox without a
  budget works on while the store is away; beyond that its counts are lost, and `uncounted` says how many.
- A gateway that is killed loses what waits: its reservations stay, and count in full. One that ends in order writes
  what it has, within the time that `flush` is given.

A change is a pure function, and its time is that at which it was asked for. Used from one event loop.
"""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from claude_sandbox.gateway.budget import ledger
from claude_sandbox.gateway.budget.ledger import Account, Budget
from claude_sandbox.gateway.budget.prices import Bound, Tokens
from claude_sandbox.gateway.budget.store import Store, StoreError

Change = Callable[[Account], Account]
PATIENCE = 5.0
"""Seconds that a request waits for its reservation."""
TRIES = 3
"""Tries in a row after which the store counts as away."""
MAX_WAITING = 10_000
"""Changes of one account that are kept while its store is away."""
_CONFLICTS = 100
"""Swaps that may be lost to other gateways in one try: each time one of them has got further."""
_LONGEST = 2.0
"""Seconds between two tries, at most."""


@dataclass(frozen=True, eq=False)
class _Pending:
    """A change; `done`: of a reservation, for who waits for it."""

    change: Change
    done: asyncio.Future[None] | None = None


@dataclass
class _Book:
    waiting: list[_Pending] = field(default_factory=list)
    batch: list[_Pending] = field(default_factory=list)
    number: int = 0
    outcomes: list[Exception | None] = field(default_factory=list)
    known: tuple[Account, str] | None = None
    seen: tuple[Account, float] | None = None
    away: str | None = None
    task: asyncio.Task[None] | None = None

    def fail(self, reason: str) -> None:
        """The store is away: nobody waits for it any more."""
        self.away = reason
        for one in (*self.batch, *self.waiting):
            if one.done is not None and not one.done.done():
                one.done.set_exception(StoreError(reason))


class Bookkeeper:
    """Reserves and settles. One for each process; used from its event loop. `told` hears of each account written."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        told: Callable[[str], None] = lambda _sandbox: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._told = told
        self._writer = uuid.uuid4().hex[:16]
        self._books: dict[str, _Book] = {}
        self.writes: Counter[str] = Counter()
        """Swaps by outcome: `written`, `conflict`, `failed` (reads that failed as well)."""
        self.uncounted = 0
        """Changes that were lost because the store was away for too long."""

    async def reserve(self, sandbox: str, budget: Budget, request: str, bound: Bound) -> None:
        """Hold the request's bound. Raises BudgetSpentError, and StoreError where the account can't be had.

        Who is cancelled meanwhile, or is told that the account can't be had, has reserved nothing.
        """
        away = self._book(sandbox).away
        if away is not None:
            raise StoreError(away)
        now = self._clock()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(sandbox, _Pending(lambda account: ledger.reserve(account, budget, request, bound, now), done))
        try:
            async with asyncio.timeout(PATIENCE):
                # Shielded: the future is the book's, and who is cancelled must not end it for the batch that it is in.
                await asyncio.shield(done)
        except ledger.BudgetSpentError:
            raise
        except TimeoutError:
            self._abandon(sandbox, request, done)
            raise StoreError("the account is not written in time") from None
        except BaseException:
            self._abandon(sandbox, request, done)
            raise

    def settle(self, sandbox: str, budget: Budget, request: str | None, model: str, tokens: Tokens, cost: int) -> None:
        """Put what was used in the place of the reservation; without one (`request` None), count it. Does not wait."""
        now = self._clock()

        def change(account: Account) -> Account:
            if request is None:
                return ledger.count(account, budget, model, tokens, cost, now)
            return ledger.settle(account, budget, request, model, tokens, cost, now)

        # Only here: reservations are refused while the store is away, and a release takes no more than its reservation
        # did.
        if len(self._book(sandbox).waiting) >= MAX_WAITING:
            self.uncounted += 1
            return
        self._enqueue(sandbox, _Pending(change))

    def release(self, sandbox: str, request: str) -> None:
        """Give the reservation back. Does not wait."""
        self._enqueue(sandbox, _Pending(lambda account: ledger.release(account, request)))

    async def account(self, sandbox: str) -> Account:
        """The account as it is in the store. Raises StoreError."""
        return (await self._store.load(sandbox))[0]

    def seen(self, sandbox: str) -> tuple[Account, float] | None:
        """The account as it was read or written here last, and when (seconds since 1970); None where it never was."""
        book = self._books.get(sandbox)
        return None if book is None else book.seen

    @property
    def away(self) -> str | None:
        """Why accounts can't be had at this moment, or None."""
        return next((book.away for book in self._books.values() if book.away is not None), None)

    def keep(self, sandboxes: Container[str]) -> None:
        """Forget the books of other sandboxes, where nothing waits."""
        # One that still writes is kept: what was used counts although the sandbox is gone from the configuration.
        self._books = {key: book for key, book in self._books.items() if key in sandboxes or book.task is not None}

    async def flush(self, seconds: float = 10.0) -> None:
        """Wait until all that was asked for is written, for so long at most; then give up what is not."""
        tasks = [book.task for book in self._books.values() if book.task]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _book(self, sandbox: str) -> _Book:
        return self._books.setdefault(sandbox, _Book())

    def _enqueue(self, sandbox: str, one: _Pending) -> None:
        book = self._book(sandbox)
        book.waiting.append(one)
        if book.task is None:
            book.task = asyncio.create_task(self._work(sandbox, book))

    def _abandon(self, sandbox: str, request: str, done: asyncio.Future[None]) -> None:
        """Nobody waits for this reservation: it is not made, or given back where that is too late."""
        # Before the release: one that is not in a batch yet is never made. One that is, the release comes behind.
        done.cancel()
        self.release(sandbox, request)

    async def _work(self, sandbox: str, book: _Book) -> None:
        try:
            while book.waiting:
                # Without reservations that nobody waits for any more: what is not made need not be given back.
                book.batch = [one for one in book.waiting if one.done is None or not one.done.done()]
                book.waiting = []
                if not book.batch:
                    continue
                book.number += 1
                outcomes = await self._persist(sandbox, book)
                book.away = None
                for one, outcome in zip(book.batch, outcomes, strict=True):
                    if one.done is None or one.done.done():
                        continue
                    if outcome is None:
                        one.done.set_result(None)
                    else:
                        one.done.set_exception(outcome)
                book.batch = []
                await self._pause()
        finally:
            book.task = None

    async def _pause(self) -> None:
        if self._store.pace:
            # Without it, one that writes all the time has the next write there before others have read this one.
            await asyncio.sleep(self._store.pace * random.uniform(0.5, 1.5))  # noqa: S311

    async def _persist(self, sandbox: str, book: _Book) -> list[Exception | None]:
        """Write the batch, however long it takes; what became of each change."""
        failures = 0
        while True:
            try:
                return await self._commit(sandbox, book)
            except StoreError as error:
                self.writes["failed"] += 1
                book.known = None
                failures += 1
                if failures >= TRIES:
                    book.fail(str(error))
            await asyncio.sleep(min(_LONGEST, 0.025 * 2**failures) * random.uniform(0.5, 1.0))  # noqa: S311

    async def _commit(self, sandbox: str, book: _Book) -> list[Exception | None]:
        """One try. Raises StoreError, after which it may have been written all the same."""
        for _ in range(_CONFLICTS):
            if book.known is None:
                book.known = await self._store.load(sandbox)
                book.seen = (book.known[0], self._clock())
            before, version = book.known
            # An earlier try, whose answer was lost, had it written.
            if ledger.is_written(before, self._writer, book.number):
                return book.outcomes
            account, book.outcomes = _made(before, [one.change for one in book.batch])
            if account == before:
                # A refusal is not from memory: another gateway may have given back meanwhile.
                if not any(book.outcomes) or (await self._store.load(sandbox))[1] == version:
                    return book.outcomes
                book.known = None
                continue
            account = ledger.signed(account, self._writer, book.number)
            following = await self._store.swap(sandbox, version, account)
            self.writes["conflict" if following is None else "written"] += 1
            book.known = None if following is None else (account, following)
            if following is not None:
                book.seen = (account, self._clock())
                self._told(sandbox)
                return book.outcomes
        raise StoreError("the account is being changed by others all the time")


def _made(account: Account, changes: Sequence[Change]) -> tuple[Account, list[Exception | None]]:
    """The account with all of the changes that it allows; what became of each."""
    outcomes: list[Exception | None] = []
    for change in changes:
        try:
            account = change(account)
            outcomes.append(None)
        except ledger.BudgetSpentError as spent:
            outcomes.append(spent)
    return account, outcomes
