"""Budgets: never overshot, whatever comes in whichever order, with two gateways, and when one is killed at any byte."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.gateway.budget import ledger
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.ledger import Account, Budget, BudgetSpentError, Reservation
from claude_sandbox.gateway.budget.prices import NANO, Bound, PriceTableError, Tokens, built_in, parse_table
from claude_sandbox.gateway.budget.store import NEW, FileStore, MemoryStore, StoreError
from claude_sandbox.gateway.http.json_scan import Scanned
from claude_sandbox.gateway.shares import Rate, Slots

STEP = st.tuples(st.integers(0, 9), st.integers(0, 60), st.integers(0, 100), st.floats(0, 4000))


@given(st.lists(STEP, max_size=60))
def test_spent_and_reserved_are_never_more_than_the_budget(steps: list[tuple[int, int, int, float]]) -> None:
    budget, account, now = Budget(cost=100, output=100, window=3600.0), Account(), 0.0
    for request, bound, percent, wait in steps:
        now += wait
        name = str(request)
        if name in account.reserved:
            used = account.reserved[name].cost * percent // 100
            account = ledger.settle(account, budget, name, "m", Tokens(output=used), used, now)
            assert name not in account.reserved
        else:
            try:
                account = ledger.reserve(account, budget, name, Bound(0, bound, bound), now)
            except BudgetSpentError:
                pass
            else:
                held = account.reserved.values()
                assert account.spent + sum(one.cost for one in held) <= 100
                assert account.written + sum(one.output for one in held) <= 100
        assert account.overrun == 0
        assert ledger.loads(ledger.dumps(account)) == account


def test_the_refusal_says_how_much_and_until_when() -> None:
    account = Account(since=0.0, spent=NANO)
    with pytest.raises(
        BudgetSpentError, match=r"is spent: 1\.0000 USD .* begins at 1970-01-02 00:00:00 UTC"
    ) as refused:
        ledger.reserve(account, Budget(cost=NANO, window=86400.0), "r", Bound(1, 1, 1), 5.0)
    assert refused.value.hopeless


def test_what_a_dead_gateway_reserved_counts_in_full() -> None:
    account = Account(since=0.0, reserved={"dead": Reservation(70, 7, 0.0)})
    budget = Budget(cost=100)
    with pytest.raises(BudgetSpentError):
        ledger.reserve(account, budget, "r", Bound(1, 1, 40), ledger.LOST_AFTER - 1)
    found = ledger.reserve(account, budget, "r", Bound(1, 1, 30), ledger.LOST_AFTER + 1)
    assert (found.spent, found.lost, list(found.reserved)) == (70, 1, ["r"])


def test_a_new_window_forgets_what_was_spent_but_not_what_is_under_way() -> None:
    budget = Budget(cost=100, window=60.0)
    account = ledger.reserve(Account(since=0.0, spent=40), budget, "old", Bound(1, 1, 60), 59.0)
    with pytest.raises(BudgetSpentError):
        ledger.reserve(account, budget, "new", Bound(1, 1, 41), 61.0)
    account = ledger.reserve(account, budget, "new", Bound(1, 1, 40), 61.0)
    assert ledger.settle(account, budget, "old", "m", Tokens(), 60, 62.0).spent == 60


def test_an_account_is_never_too_large_for_an_object_of_the_api_server() -> None:
    account = Account(since=1.7e9)
    for number in range(ledger.MAX_MODELS + 5):
        account = ledger.count(account, Budget(), f"{number}".rjust(100, "m"), Tokens(10**12, 10**12), 10**18, 1.7e9)
    for number in range(100):
        account = ledger.signed(account, f"{number:016d}", 10**9)
    held = {uuid.uuid4().hex: Reservation(10**15, 10**6, 1.7e9 + 0.123456) for _ in range(ledger.MAX_RESERVED - 1)}
    account = replace(account, reserved=held)
    account = ledger.reserve(account, Budget(cost=10**30), "last", Bound(1, 1, 1), 1.7e9)
    with pytest.raises(BudgetSpentError) as refused:
        ledger.reserve(account, Budget(cost=10**30), "one more", Bound(1, 1, 1), 1.7e9)
    assert not refused.value.hopeless
    assert len(json.dumps(ledger.dumps(account))) < 1 << 19


def test_names_of_models_are_bounded() -> None:
    account = Account()
    for number in range(100):
        account = ledger.count(account, Budget(), f"model-{number}", Tokens(input=1), 1, 0.0)
    assert len(account.models) == ledger.MAX_MODELS + 1
    assert sum(one.requests for one in account.models.values()) == 100


async def test_200_requests_at_once_against_a_budget_for_ten_by_two_gateways(tmp_path: Path) -> None:
    budget = Budget(cost=10 * NANO)
    books = [Bookkeeper(FileStore(tmp_path)), Bookkeeper(FileStore(tmp_path))]

    async def one(number: int) -> bool:
        try:
            await books[number % 2].reserve("s", budget, str(number), Bound(1, 1, NANO))
        except BudgetSpentError:
            return False
        await asyncio.sleep(0)
        books[number % 2].settle("s", budget, str(number), "m", Tokens(output=1), NANO)
        return True

    let_through = sum(await asyncio.gather(*(one(number) for number in range(200))))
    for book in books:
        await book.flush()
    account, _ = await FileStore(tmp_path).load("s")
    assert (let_through, account.spent, account.overrun, account.reserved) == (10, 10 * NANO, 0, {})


async def test_who_is_cancelled_has_reserved_nothing() -> None:
    store = MemoryStore()
    book = Bookkeeper(store)
    task = asyncio.create_task(book.reserve("s", Budget(cost=10), "r", Bound(1, 1, 5)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await book.flush()
    assert (await store.load("s"))[0].reserved == {}


async def test_a_damaged_account_lets_nothing_through(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"version":1,"acc')
    with pytest.raises(StoreError, match=r"s\.json can't be read"):
        await Bookkeeper(FileStore(tmp_path)).reserve("s", Budget(cost=10), "r", Bound(1, 1, 5))


async def test_what_dead_gateways_held_is_spent_as_soon_as_it_is_certain_that_they_are_dead(tmp_path: Path) -> None:
    def gateway(script: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)

    async def held() -> tuple[int, int, int]:
        account, _ = await FileStore(tmp_path).load("s")
        return account.spent, sum(one.cost for one in account.reserved.values()), account.lost

    first = gateway(BEGINS + HOLDS)
    assert first.stdout is not None
    assert [first.stdout.readline(), first.stdout.readline()] == ["0\n", "held\n"]
    # Another one beside it can't know whether the first one's request is still under way.
    assert gateway(BEGINS).communicate()[0] == "0\n"
    assert await held() == (0, 6, 0)
    # The kernel gives the lock back with the process, however that ends.
    first.kill()
    first.wait()
    assert gateway(BEGINS).communicate()[0] == "1\n"
    assert await held() == (6, 0, 1)
    with pytest.raises(BudgetSpentError) as spent:
        await Bookkeeper(FileStore(tmp_path)).reserve("s", Budget(cost=10), "q", Bound(1, 1, 5))
    # Nothing is under way that could make room: to wait for it would be to wait for ever.
    assert spent.value.hopeless


async def test_accounts_that_can_not_be_had_are_told_and_a_damaged_one_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be had"):
        await FileStore(tmp_path / "missing").begin()
    (tmp_path / "s.json").write_text("damaged")
    assert await FileStore(tmp_path).begin() == 0
    assert (tmp_path / "s.json").read_text() == "damaged"


BEGINS = """
import asyncio, sys, time
from pathlib import Path
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.ledger import Budget
from claude_sandbox.gateway.budget.prices import Bound
from claude_sandbox.gateway.budget.store import FileStore
store = FileStore(Path(sys.argv[1]))
print(asyncio.run(store.begin()), flush=True)
"""
HOLDS = """
asyncio.run(Bookkeeper(store).reserve("s", Budget(cost=10), "r", Bound(1, 1, 6)))
print("held", flush=True)
time.sleep(60)
"""

SPENDER = """
import asyncio, sys
from pathlib import Path
from claude_sandbox.gateway.budget.ledger import Account
from claude_sandbox.gateway.budget.store import FileStore
from dataclasses import replace
store = FileStore(Path(sys.argv[1]))

async def spend():
    while True:
        account, version = await store.load("s")
        if await store.swap("s", version, replace(account, spent=account.spent + 1, written=account.spent + 1)):
            print(account.spent + 1, flush=True)

asyncio.run(spend())
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_account_and_loses_nothing_it_confirmed(
    tmp_path: Path,
) -> None:
    told = 0
    for round_ in range(6):
        process = subprocess.Popen([sys.executable, "-c", SPENDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(0.03 + 0.007 * round_)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        told = int(rest[-1]) if rest else told
        account, version = asyncio.run(FileStore(tmp_path).load("s"))
        assert account.spent == account.written == int(version)
        assert account.spent >= told


async def test_a_half_written_version_is_never_read(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    assert await store.swap("s", NEW, Account(spent=7)) == "1"
    whole = (tmp_path / "s.json").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "s.partial").write_bytes(whole[:length])
        assert await store.load("s") == (Account(spent=7), "1")
    assert await store.swap("s", "1", Account(spent=8)) == "2"
    assert await store.swap("s", "1", Account(spent=9)) is None
    assert os.listdir(tmp_path).count("s.partial") == 0  # noqa: PTH208


TEXT = Scanned({"model": "claude-sonnet-5-5", "max_tokens": 1000}, frozenset(), frozenset({"text"}))


@given(st.integers(0, 5000), st.integers(0, 1000), st.integers(0, 5000), st.integers(0, 5000), st.sampled_from(
    ["claude-sonnet-5-5", "claude-opus-4-1", "claude-haiku-5-5", "claude-haiku-4-5", "no-such-model"]))  # fmt: skip
def test_no_answer_costs_more_than_its_bound(a: int, output: int, b: int, c: int, model: str) -> None:
    table = built_in()
    body = Scanned({"model": model, "max_tokens": 1000}, frozenset(), frozenset({"text"}))
    bound = table.bound(body, a + b + c)
    tokens = Tokens(a, output, b, c, 0)
    assert table.cost(model, tokens, body.fields) <= bound.cost


def test_what_shows_less_than_it_stands_for_is_bound_by_the_context() -> None:
    table = built_in()
    image = Scanned(TEXT.fields, frozenset(), frozenset({"text", "image"}))
    search = Scanned(TEXT.fields, frozenset(), frozenset({"text", "web_search_20250305"}))
    assert table.bound(TEXT, 500).input == 3500
    assert table.bound(image, 500).input == 1_000_000
    assert table.bound(search, 500).cost > 9 * table.bound(image, 500).cost


def test_prices_are_those_of_the_table() -> None:
    table = built_in()
    million = Tokens(1_000_000, 1_000_000, 1_000_000, 0, 1_000_000, 2)
    assert table.cost("claude-opus-5-5", million, {}) == int(Decimal("29.22") * NANO)
    assert table.cost("claude-opus-5-5", million, {"speed": "fast"}) > 5 * table.cost("claude-opus-5-5", million, {})
    assert table.cost("claude-haiku-5-5", Tokens(100_000), {}) == NANO // 100
    assert table.cost("claude-haiku-5-5", Tokens(100_001), {}) > 4 * NANO // 100
    assert table.price("unheard-of").output == max(one.output for one in table.models)


@pytest.mark.parametrize("document", [[], {}, {"asOf": "x", "models": [], "factors": {}, "webSearch": "0"},
                                      {"asOf": "x", "models": [{"model": "a", "input": "-1"}], "factors": {},
                                       "webSearch": "0"}])  # fmt: skip
def test_what_is_no_price_table(document: object) -> None:
    with pytest.raises(PriceTableError):
        parse_table(document)


@settings(max_examples=50)
@given(st.integers(1, 5), st.lists(st.integers(0, 4), max_size=120))
def test_whoever_has_less_than_its_share_gets_a_place(clients: int, order: list[int]) -> None:
    slots = Slots(total=20, each=15, clients=clients)
    share = 20 // clients
    for client in (one % clients for one in order):
        before = slots.taken[client]
        got = slots.take(client)
        assert got or before >= min(share, 15)
        assert slots.taken.total() <= 20


def test_a_rate_lets_a_minutes_worth_through_and_then_as_they_come() -> None:
    rate = Rate(60)
    assert [rate.take(0.0) for _ in range(60)] == [0.0] * 60
    assert rate.take(0.0) == pytest.approx(1.0)
    assert rate.take(1.01) == 0.0
