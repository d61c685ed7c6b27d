"""Makes the changes of accounts: those that come in while one is being written are written together with the next.

Holds, for each sandbox, the changes that wait and the account as it was last read or written. Changes of one account
are made in the order in which they were asked for, each on the outcome of the one before. A change is a pure function,
which is called again where another gateway was faster.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from claude_sandbox.gateway.budget import ledger
from claude_sandbox.gateway.budget.ledger import Account, Budget
from claude_sandbox.gateway.budget.prices import Bound, Tokens
from claude_sandbox.gateway.budget.store import Store, StoreError

P = ParamSpec("P")
T = TypeVar("T")
Change = Callable[[Account], Account]
_TRIES = 100
"""Swaps that may be lost to other gateways, before it is an error: each time one of them has got further."""


@dataclass
class _Book:
    waiting: list[tuple[Change, asyncio.Future[None]]] = field(default_factory=list)
    known: tuple[Account, int] | None = None
    task: asyncio.Task[None] | None = None


class Bookkeeper:
    """Reserves and settles. One for each process; used from its event loop."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._books: dict[str, _Book] = {}

    async def reserve(self, sandbox: str, budget: Budget, request: str, bound: Bound) -> None:
        """Hold the request's bound. Raises BudgetSpentError, and StoreError where the account can't be had.

        Who is cancelled meanwhile has reserved nothing.
        """
        now = self._clock()
        done = self._enqueue(sandbox, lambda account: ledger.reserve(account, budget, request, bound, now))
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            self.release(sandbox, request)
            raise

    def settle(self, sandbox: str, budget: Budget, request: str | None, model: str, tokens: Tokens, cost: int) -> None:
        """Put what was used in the place of the reservation; without one (`request` None), count it. Does not wait."""
        now = self._clock()
        if request is None:
            change: Change = partial(_count, budget, model, tokens, cost, now)
        else:
            change = partial(_settle, budget, request, model, tokens, cost, now)
        self._enqueue(sandbox, change).add_done_callback(_heard)

    def release(self, sandbox: str, request: str) -> None:
        """Give the reservation back. Does not wait."""
        self._enqueue(sandbox, lambda account: ledger.release(account, request)).add_done_callback(_heard)

    async def flush(self) -> None:
        """Wait until all that was asked for is written, or can't be."""
        tasks = [book.task for book in self._books.values() if book.task]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _enqueue(self, sandbox: str, change: Change) -> asyncio.Future[None]:
        book = self._books.setdefault(sandbox, _Book())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        book.waiting.append((change, done))
        if book.task is None:
            book.task = asyncio.create_task(self._work(sandbox, book))
        return done

    async def _work(self, sandbox: str, book: _Book) -> None:
        try:
            while book.waiting:
                batch, book.waiting = book.waiting, []
                try:
                    outcomes = await self._commit(sandbox, book, [change for change, _ in batch])
                except StoreError as error:
                    book.known = None
                    outcomes = [error] * len(batch)
                for (_, done), outcome in zip(batch, outcomes, strict=True):
                    if done.done():
                        continue
                    if outcome is None:
                        done.set_result(None)
                    else:
                        done.set_exception(outcome)
        finally:
            book.task = None

    async def _commit(self, sandbox: str, book: _Book, changes: list[Change]) -> list[Exception | None]:
        for _ in range(_TRIES):
            if book.known is None:
                book.known = await self._call(self._store.load, sandbox)
            before, version = book.known
            account, outcomes = before, list[Exception | None]()
            for change in changes:
                try:
                    account = change(account)
                    outcomes.append(None)
                except ledger.BudgetSpentError as spent:
                    outcomes.append(spent)
            # A refusal is not from memory: another gateway may have given back meanwhile.
            if account == before and await self._is_current(sandbox, version):
                return outcomes
            if account != before and await self._call(self._store.swap, sandbox, version, account):
                book.known = (account, version + 1)
                return outcomes
            book.known = None
        raise StoreError("the account is being changed by others all the time")

    async def _call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        if self._store.blocks:
            return await asyncio.to_thread(function, *arguments, **named)
        return function(*arguments, **named)

    async def _is_current(self, sandbox: str, version: int) -> bool:
        return (await self._call(self._store.load, sandbox))[1] == version


def _settle(
    budget: Budget, request: str, model: str, tokens: Tokens, cost: int, now: float, account: Account
) -> Account:
    return ledger.settle(account, budget, request, model, tokens, cost, now)


def _count(budget: Budget, model: str, tokens: Tokens, cost: int, now: float, account: Account) -> Account:
    return ledger.count(account, budget, model, tokens, cost, now)


def _heard(done: asyncio.Future[None]) -> None:
    """What can't be settled stays reserved, and so counts in full: nobody waits to hear it."""
    if not done.cancelled():
        done.exception()
