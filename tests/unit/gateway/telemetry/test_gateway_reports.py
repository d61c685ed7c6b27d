"""What a gateway reports of a sandbox, as the operator reads it; when it is written; and by a running gateway."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gatewaykit import KEY, PLACEHOLDER, answered, document, provider, running
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.api.status_fields.usage import BudgetState, TroubleKind
from claude_sandbox.backends.gateway_reports import Report, budget_of, read, read_document
from claude_sandbox.backends.gateway_reports import decisive as decisive_as_read
from claude_sandbox.gateway import probe
from claude_sandbox.gateway.broker.reachability import Silence
from claude_sandbox.gateway.broker.recent import Moment, Recent, Refusal
from claude_sandbox.gateway.budget.ledger import Account, Budget, Counts
from claude_sandbox.gateway.budget.prices import NANO
from claude_sandbox.gateway.budget.store import StoreError
from claude_sandbox.gateway.config.follow import Lack
from claude_sandbox.gateway.services.declared import Unopened
from claude_sandbox.gateway.telemetry.denials import KEPT, Denial, Denied, What
from claude_sandbox.gateway.telemetry.report import LIMIT, Facts, decisive, report
from claude_sandbox.gateway.telemetry.reporting import EVERY, PROGRESS, RETRY, TURNS, Reporting

NOW = 1_800_000_000.0
AT = st.floats(NOW - 10**6, NOW)
COUNT = st.integers(0, 10**15)
COUNTS = st.builds(Counts, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT)
WORD = st.text(max_size=300)
MOMENT = st.builds(Moment, AT, st.sampled_from(["g1", "g2", None]), st.none() | st.integers(100, 599), WORD, WORD)
BUDGET = st.builds(Budget, st.none() | st.integers(1, 10**12), st.none() | st.integers(1, 10**12),
                   st.none() | st.integers(1, 10**6).map(float))  # fmt: skip
NAME = st.from_regex(r"[a-z0-9]{1,40}\.[a-z]{2,50}(:[1-9][0-9]{3})?", fullmatch=True)
DENIALS = st.lists(st.builds(Denial, st.just(What.DESTINATION), NAME, st.integers(1, 10**9), AT, AT), max_size=KEPT)
FACTS = st.builds(
    Facts,
    BUDGET,
    st.builds(
        Recent, st.none() | MOMENT, st.none() | MOMENT, st.none() | MOMENT, st.none() | st.builds(Refusal, AT, MOMENT),
        AT, st.none() | st.tuples(AT, BUDGET),
    ),
    DENIALS.map(lambda found: Denied(len(found), {(one.what, one.entry): one for one in found})),
    st.none() | st.tuples(
        st.builds(Account, st.none() | AT, COUNT, COUNT, models=st.dictionaries(WORD, COUNTS, max_size=20)), AT
    ),
    st.none() | st.builds(Silence, AT, st.sampled_from(["no connection", "it answers 502"])),
    st.sampled_from(["g1", "g2", None]),
    st.none()
    | st.dictionaries(st.from_regex("[a-z0-9]{1,30}", fullmatch=True), st.sampled_from(Unopened), max_size=16),
    st.dictionaries(st.from_regex("[a-z][a-z.]{1,40}(/[a-zA-Z0-9._~-]{1,99}){1,8}", fullmatch=True), COUNT, max_size=6),
)  # fmt: skip


def read_back(facts: Facts, now: float = NOW) -> Report | None:
    return read(report(facts, now))


@settings(max_examples=40)
@given(FACTS)
def test_what_one_side_writes_the_other_reads(facts: Facts) -> None:
    text = report(facts, NOW)
    assert len(text.encode()) <= LIMIT
    found = read(text)
    if not text:
        assert found is None
        return
    document = json.loads(text)
    assert found is not None
    # Nothing that was written is lost on the way.
    assert (found.used is not None) == ("usage" in document)
    assert len(found.budgets) == ("budget" in document)
    assert (found.answered is not None) == ("answered" in document)
    assert (found.trouble is not None) == ("trouble" in document)
    assert found.unopened is None or {one.name: str(one.why) for one in found.unopened} == facts.unopened
    assert (found.unopened is None) == (facts.unopened is None)
    assert dict(found.fetching) == document.get("fetching", {})
    assert {one.entry for one in found.denied} == {one["entry"] for one in document.get("denied", ())}
    if found.used is not None:
        assert facts.seen is not None
        models = facts.seen[0].models.values()
        assert found.used.total.requests == sum(one.requests for one in models)
        if len(found.used.models) == len(document["usage"]["models"]) and len(text) < LIMIT - 400:
            assert sum(Decimal(one.cost_usd) for one in found.used.models) == Decimal(found.used.total.cost_usd)
    if found.trouble is not None and found.trouble.kind is TroubleKind.KEY_REFUSED:
        assert found.trouble.generation == facts.generation


@settings(max_examples=40)
@given(FACTS, st.floats(0, 30))
def test_what_is_decisive_does_not_change_by_itself_within_a_window(facts: Facts, later: float) -> None:
    if facts.budget.window is None:
        assert decisive(report(facts, NOW)) == decisive(report(facts, NOW + later))


def test_the_longest_report_is_cut_to_the_limit_and_read_all_the_same() -> None:
    names = [f"{number}{'a' * 62}.{'b' * 30}.org" for number in range(KEPT)]
    longest = Facts(
        Budget(10**18, 10**12, 86400.0),
        Recent(
            accepted=Moment(NOW, "g" * 64, 200),
            refusal=Refusal(NOW, Moment(NOW, "g" * 64, 401, "t" * 64, '"' * 300)),
        ),
        Denied(10**9, {(What.DESTINATION, one): Denial(What.DESTINATION, one, 10**9, NOW, NOW) for one in names}),
        (Account(NOW, 10**18, 10**12, models={"m" * 60 + str(n): Counts(*[10**12] * 6) for n in range(20)}), NOW),
        generation="g" * 64,
    )
    text = report(longest, NOW)
    assert LIMIT - 600 < len(text.encode()) <= LIMIT
    found = read(text)
    assert found is not None
    assert found.trouble is not None
    assert found.used is not None
    assert found.denials == 10**9


def facts(**changed: Any) -> Facts:
    budget = changed.pop("budget", Budget(cost=NANO, window=3600.0))
    return Facts(budget, changed.pop("recent", Recent()), changed.pop("denied", Denied()), **changed)


def state(found: Facts, now: float = NOW) -> BudgetState | None:
    told = read_back(found, now)
    return told.budgets[0].left.state if told is not None and told.budgets else None


def test_a_budget_is_spent_when_nothing_is_left_and_free_in_the_next_window() -> None:
    spent = facts(seen=(Account(since=NOW - 100, spent=NANO), NOW))
    assert state(spent) is BudgetState.SPENT
    assert state(spent, NOW + 3600) is BudgetState.FREE
    assert state(facts(seen=(Account(since=NOW - 100, spent=NANO - 1), NOW))) is BudgetState.FREE


def test_a_budget_is_short_from_a_refusal_until_a_request_is_let_through_or_it_is_another() -> None:
    budget = Budget(cost=NANO, window=3600.0)
    seen = (Account(since=NOW - 100, spent=NANO // 2), NOW)
    assert state(facts(seen=seen, recent=Recent(short=(NOW - 10, budget), admitted=NOW - 50))) is BudgetState.SHORT
    assert state(facts(seen=seen, recent=Recent(short=(NOW - 10, budget), admitted=NOW - 5))) is BudgetState.FREE
    other = Budget(cost=2 * NANO, window=3600.0)
    assert state(facts(seen=seen, recent=Recent(short=(NOW - 10, other), admitted=NOW - 50))) is BudgetState.FREE
    # The whole budget may be too little for one request, which was never counted.
    assert state(facts(recent=Recent(short=(NOW - 10, budget)))) is BudgetState.SHORT
    assert state(facts(seen=seen, recent=Recent(short=(NOW - 10, budget))), NOW + 3600) is BudgetState.FREE


def test_the_refusal_of_an_earlier_generation_is_no_trouble_of_the_next() -> None:
    refused = Recent(refusal=Refusal(NOW - 5, Moment(NOW, "g1", 401, "authentication_error", "invalid x-api-key")))
    told = read_back(facts(recent=refused, generation="g1"))
    assert told is not None
    assert told.trouble is not None
    assert told.trouble.message == "401 authentication_error: invalid x-api-key"
    later = read_back(facts(recent=refused, generation="g2"))
    assert later is not None
    assert later.trouble is None


def test_that_there_is_no_key_is_told_before_what_was_said_of_an_earlier_one() -> None:
    refused = Recent(refusal=Refusal(NOW - 5, Moment(NOW, "g1", 401, "authentication_error", "invalid x-api-key")))
    told = read_back(facts(recent=refused, lack=Lack("Secret key has no good api-key", NOW - 60)))
    assert told is not None
    assert told.trouble is not None
    assert told.trouble.kind is TroubleKind.KEY_MISSING
    assert (told.trouble.message, told.trouble.generation) == ("Secret key has no good api-key", None)


def test_a_silence_that_began_after_a_refusal_is_told_in_its_place() -> None:
    # Of two gateways one was refused, the other was answered since, and then a request to the first hangs.
    refused = Recent(refusal=Refusal(NOW - 90, Moment(NOW - 80, "g1", 401, "authentication_error", "invalid")))
    for since, kind in ((NOW - 60, TroubleKind.NO_ANSWER), (NOW - 85, TroubleKind.KEY_REFUSED)):
        told = read_back(facts(recent=refused, generation="g1", silence=Silence(since, "no answer within 5 s")))
        assert told is not None
        assert told.trouble is not None
        assert told.trouble.kind is kind


def test_a_name_that_is_no_models_is_told_together_with_others() -> None:
    models = {"claude-sonnet-5-5": Counts(1, cost=5), "a text; for who reads": Counts(2, cost=7), "": Counts(1, cost=1)}
    told = read_back(facts(seen=(Account(since=NOW, models=models), NOW)))
    assert told is not None
    assert told.used is not None
    assert [(one.model, one.requests) for one in told.used.models] == [("claude-sonnet-5-5", 1), ("other", 3)]


class Written:
    """Where reports go: takes the time of each, and may fail."""

    def __init__(self) -> None:
        self.now = 0.0
        self.texts: list[str] = []
        self.fails = False

    async def write(self, sandbox: str, text: str) -> None:
        if self.fails:
            raise StoreError("away")
        self.texts.append(text)


def said(number: int = 0, trouble: str = "") -> str:
    found: dict[str, Any] = {"version": 1, "at": "x", "denials": number}
    return json.dumps(found | ({"trouble": {"kind": trouble}} if trouble else {}))


@pytest.fixture
def written() -> Written:
    return Written()


async def turns(reporting: Reporting, written: Written, seconds: int) -> None:
    for _ in range(seconds):
        written.now += 1
        await reporting.turn("u")


async def test_what_says_nothing_decisive_is_written_once_a_minute(written: Written) -> None:
    now = [said()]
    reporting = Reporting(written, lambda _: now[0], lambda: written.now)
    await turns(reporting, written, 1)
    assert len(written.texts) == 1
    for number in range(1, 600):
        now[0] = said(number)
        await turns(reporting, written, 1)
    assert len(written.texts) == 1 + 599 // int(EVERY)


async def test_what_is_decisive_is_written_at_once_and_what_flaps_is_not_for_ever(written: Written) -> None:
    now = [said()]
    reporting = Reporting(written, lambda _: now[0], lambda: written.now)
    await turns(reporting, written, 1)
    now[0] = said(trouble="KeyRefused")
    await turns(reporting, written, 1)
    assert len(written.texts) == 2
    for number in range(600):
        now[0] = said(trouble="KeyRefused" if number % 2 else "")
        await turns(reporting, written, 1)
    assert len(written.texts) <= 2 + TURNS + 10 * (TURNS + 1)
    now[0] = said(trouble="KeyRefused")
    await turns(reporting, written, int(EVERY) + 1)
    assert json.loads(written.texts[-1]).get("trouble"), "what holds in the end is told in the end"


async def test_how_far_a_clone_is_is_written_every_few_seconds_while_it_goes_on(written: Written) -> None:
    now = [said()]
    reporting = Reporting(written, lambda _: now[0], lambda: written.now)
    await turns(reporting, written, 1)
    for size in range(60):
        now[0] = json.dumps({"version": 1, "at": "x", "fetching": {"git.example.org/a": size}})
        await turns(reporting, written, 1)
    assert len(written.texts) == 1 + 60 // int(PROGRESS)
    # One that stands still has nothing new to say.
    await turns(reporting, written, 60)
    assert len(written.texts) <= 2 + 60 // int(PROGRESS)


async def test_what_says_the_same_is_not_written_again(written: Written) -> None:
    reporting = Reporting(written, lambda _: said(3), lambda: written.now)
    await turns(reporting, written, 1000)
    assert len(written.texts) == 1


async def test_a_sandbox_whose_services_have_changed_is_looked_at_though_it_made_no_request(written: Written) -> None:
    now = [json.dumps({"version": 1, "at": "x", "unopened": {"issues": "NoSecret"}})]
    reporting = Reporting(written, lambda _: now[0], lambda: written.now)
    run = asyncio.create_task(reporting.run())
    try:
        reporting.keep({"u": "the Secret is not there"})
        await _until(lambda: len(written.texts) == 1)
        # That it is there is said as well, and at once.
        now[0] = json.dumps({"version": 1, "at": "y", "unopened": {}})
        reporting.keep({"u": "the Secret is there"})
        await _until(lambda: len(written.texts) == 2)
    finally:
        run.cancel()


async def _until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not wanted():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_that_no_service_lacks_its_credential_is_said_and_is_decisive() -> None:
    lacks, has = (report(facts(unopened=one), NOW) for one in ({"issues": Unopened.OTHER_HOST}, {}))
    assert len({str(decisive(text)) for text in (lacks, has, report(facts(), NOW))}) == 3
    assert len({decisive_as_read(read(text)) for text in (lacks, has, report(facts(), NOW))}) == 3


async def test_a_write_that_fails_is_tried_again(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    reporting = Reporting(written, lambda _: said(3), lambda: written.now)
    written.fails = True
    await turns(reporting, written, 3)
    written.fails = False
    await turns(reporting, written, int(RETRY))
    assert len(written.texts) == 1
    assert "away" in capsys.readouterr().err


async def test_what_changes_while_a_report_is_written_is_written_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first try fails, and though no request comes after it."""
    now, fails = [said(1)], [False, True, False]

    class Slow(Written):
        async def write(self, sandbox: str, text: str) -> None:
            if not self.texts:
                now[0] = said(2)
                reporting.due("u")
            self.now += EVERY
            self.fails = fails.pop(0)
            await super().write(sandbox, text)

    written = Slow()
    monkeypatch.setattr("claude_sandbox.gateway.telemetry.reporting.TICK", 0.01)
    reporting = Reporting(written, lambda _: now[0], lambda: written.now)
    reporting.due("u")
    run = asyncio.create_task(reporting.run())
    try:
        await _until(lambda: written.texts == [said(1), said(2)])
    finally:
        run.cancel()


BODY = {"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]}


async def ask(session: aiohttp.ClientSession, broker: str, **changed: object) -> int:
    headers = {"x-api-key": PLACEHOLDER, "anthropic-version": "2023-06-01"}
    async with session.post(f"http://{broker}/v1/messages", json={**BODY, **changed}, headers=headers) as answer:
        await answer.read()
        return answer.status


def checked(health: str, capsys: pytest.CaptureFixture[str]) -> Report | None:
    """What the gateway's own health check prints, as the operator reads it."""
    capsys.readouterr()
    assert probe.main(int(health.rpartition(":")[2])) == 0
    text = capsys.readouterr().out
    assert len(text) <= 4096
    assert KEY not in text
    return read_document(json.loads(text).get("report"))


async def until(health: str, capsys: pytest.CaptureFixture[str], wanted: Any, seconds: float) -> Report:
    for _ in range(int(seconds * 10)):
        found = await asyncio.to_thread(checked, health, capsys)
        if found is not None and wanted(found):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(found)


async def test_a_health_check_tells_of_the_key_the_budget_and_what_was_denied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key {KEY}"}}
    async with provider() as upstream, aiohttp.ClientSession() as session:
        configuration = document(
            tmp_path, provider=upstream.url, models=["claude-sonnet-*"], budget={"maxCostUSD": "0.1", "window": "24h"}
        )
        with running(tmp_path, configuration) as gateway:
            fresh = await asyncio.to_thread(checked, gateway.health, capsys)
            assert fresh is not None
            assert (fresh.used, fresh.answered, fresh.trouble) == (None, None, None)
            assert await ask(session, gateway.broker) == 200
            found = await until(gateway.health, capsys, lambda one: one.used and one.used.total.requests == 1, 5)
            assert found.answered is not None
            assert found.answered.generation == "g1"
            assert found.trouble is None
            assert budget_of(found, Decimal("0.1"), None, found.told).state is BudgetState.FREE  # type: ignore[union-attr]

            upstream.answer = answered(401, error)
            assert await ask(session, gateway.broker) == 401
            found = await until(gateway.health, capsys, lambda one: one.trouble is not None, 5)
            assert found.trouble is not None
            assert found.trouble.kind is TroubleKind.KEY_REFUSED
            assert found.trouble.message.startswith("401 authentication_error: invalid x-api-key")

            upstream.answer = answered(200)
            assert await ask(session, gateway.broker) == 200
            await until(gateway.health, capsys, lambda one: one.trouble is None, 5)

            assert await ask(session, gateway.broker, max_tokens=1_000_000) == 402
            assert await ask(session, gateway.broker, model="claude-opus-5-5") == 400
            found = await until(gateway.health, capsys, lambda one: one.budgets[0].left.state is BudgetState.SHORT, 5)
            assert [(str(one.what), one.entry) for one in found.denied] == [("Model", "claude-opus-5-5")]
            assert budget_of(found, Decimal("0.2"), None, found.told) is None


@pytest.mark.slow  # tests/e2e/test_gateway_status.py has a provider that hangs, too
async def test_a_provider_that_does_not_answer_is_told_of_and_so_is_that_it_does_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with provider() as upstream, aiohttp.ClientSession() as session:
        with running(tmp_path, document(tmp_path, provider=upstream.url)) as gateway:
            assert await ask(session, gateway.broker) == 200

            async def hang(*_: Any) -> Any:
                await asyncio.sleep(3600)

            upstream.answer = hang
            asking = asyncio.create_task(ask(session, gateway.broker))
            found = await until(gateway.health, capsys, lambda one: one.trouble is not None, 40)
            assert found.trouble is not None
            assert found.trouble.kind is TroubleKind.NO_ANSWER
            assert found.trouble.message == "no answer within 5 s"
            # Nobody asks for anything any more, and it heals all the same.
            asking.cancel()
            upstream.answer = answered(404)
            await until(gateway.health, capsys, lambda one: one.trouble is None, 15)
            # What the gateway asked by itself had no credential.
            assert {one.target for one in upstream.seen if not one.header("x-api-key")} == {"/api/hello"}
