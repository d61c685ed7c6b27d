"""What a gateway tells of itself: metrics whose labels are bounded, and what each sandbox has used."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from gatewaykit import KEY, PLACEHOLDER, answered, document, provider, running
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from claude_sandbox.gateway.broker.recent import HIDDEN, hide
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.ledger import Account, Budget, Reservation
from claude_sandbox.gateway.budget.prices import NANO, built_in
from claude_sandbox.gateway.budget.store import MemoryStore
from claude_sandbox.gateway.telemetry.denials import KEPT, LONGEST, Denials, Denied
from claude_sandbox.gateway.telemetry.metrics import Metrics
from claude_sandbox.gateway.telemetry.usage import usage_of, usd

BODY = {"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]}
HEADERS = {"x-api-key": PLACEHOLDER, "anthropic-version": "2023-06-01"}


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as answer:
        return answer.status, await answer.text()


async def post(session: aiohttp.ClientSession, broker: str, **changed: object) -> int:
    async with session.post(f"http://{broker}/v1/messages", json={**BODY, **changed}, headers=HEADERS) as answer:
        await answer.read()
        return answer.status


def samples(page: str) -> dict[tuple[str, str], float]:
    """By name and the values of labels, in the order of their names."""
    return {
        (
            one.name.removeprefix("claude_sandbox_gateway_"),
            ",".join(value for _, value in sorted(one.labels.items())),
        ): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


async def test_metrics_and_usage_of_a_running_gateway(tmp_path: Path) -> None:
    said = f"invalid x-api-key: {KEY[:20]}... \x1b[2J"
    error = {"type": "error", "error": {"type": "authentication_error", "message": said}}
    async with provider() as upstream, aiohttp.ClientSession() as session:
        configuration = document(
            tmp_path, provider=upstream.url, name="work", namespace="team-a",
            models=["claude-sonnet-*", "made-up-*"], budget={"maxCostUSD": "0.1", "window": "24h"},
        )  # fmt: skip
        with running(tmp_path, configuration) as gateway:
            assert await post(session, gateway.broker) == 200
            upstream.answer = answered(401, error)
            assert await post(session, gateway.broker) == 401
            assert await post(session, gateway.broker, model="made-up-by-the-agent", max_tokens=10_000) == 402
            assert await post(session, gateway.broker, model="claude-opus-5-5") == 400
            refused = await gateway.audited(4)
            status, page = await get(session, f"http://{gateway.health}/metrics")
            found = samples(page)
            assert status == 200
            assert found["requests_total", "allowed,Allowed"] == 2
            assert found["requests_total", "budget,Refused"] == found["budget_refusals_total", "budget"] == 1
            assert found["requests_total", "model,Refused"] == 1
            assert found["provider_errors_total", "401"] == 1
            assert found["tokens_total", f"{built_in().price('claude-sonnet-5-5').model},output"] == 5
            assert found["time_to_first_byte_seconds_count", ""] == 2
            assert found["account_writes_total", "written"] >= 2
            assert "made-up" not in page
            assert "uid-1" not in page

            async with session.get("http://not-declared.example.org:8080/", proxy=gateway.proxy_url) as denied:
                assert denied.status == 403
            await until_settled(session, gateway.health)
            usage = json.loads((await get(session, f"http://{gateway.health}/usage"))[1])
            (one,) = usage["sandboxes"]
            cost = refused[0]["costUSD"]
            assert (one["uid"], one["namespace"], one["name"]) == ("uid-1", "team-a", "work")
            assert float(one["account"]["costUSD"]) == pytest.approx(cost)
            assert (one["account"]["outputTokens"], one["account"]["heldCostUSD"]) == (5, "0")
            assert one["account"]["models"][0]["requests"] == 1
            assert (one["lastRequest"]["status"], one["lastRequest"]["generation"]) == (401, "g1")
            assert one["lastAccepted"]["status"] == 200
            assert one["lastError"]["type"] == "authentication_error"
            assert one["lastError"]["message"] == f"invalid x-api-key: {HIDDEN} ?[2J"
            model, wanted = sorted(one["denied"]["entries"], key=lambda each: str(each["what"]), reverse=True)
            assert (model["what"], model["entry"], model["count"]) == ("Model", "claude-opus-5-5", 1)
            assert (wanted["what"], wanted["entry"]) == ("Destination", "not-declared.example.org:8080")
            assert refused[1]["providerError"] == "authentication_error"

            # A key that is replaced shows with the next request, and only then.
            configuration["sandboxes"][0]["credential"]["generation"] = "g2"
            upstream.answer = answered(200)
            gateway.configure(configuration)
            await until_generation(session, gateway.broker, gateway.health, "g2")
            assert KEY not in gateway.output()
            async with session.post(f"http://{gateway.health}/usage") as answer:
                assert answer.status == 405
            assert (await get(session, f"http://{gateway.health}/else"))[0] == 404
            # Neither door of the sandbox has these pages.
            assert (await get(session, f"http://{gateway.broker}/metrics"))[0] == 404
            assert (await get(session, f"http://{gateway.broker}/usage"))[0] == 404


async def usage_now(session: aiohttp.ClientSession, health: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((await get(session, f"http://{health}/usage"))[1])["sandboxes"][0]
    return found


async def until_settled(session: aiohttp.ClientSession, health: str) -> None:
    seen = {"heldCostUSD": ""}

    async def look() -> None:
        seen.update((await usage_now(session, health))["account"])  # type: ignore[arg-type]

    for _ in range(200):
        await look()
        if seen["heldCostUSD"] == "0":
            return
    raise AssertionError(seen)


async def until_generation(session: aiohttp.ClientSession, broker: str, health: str, wanted: str) -> None:
    for _ in range(500):
        assert await post(session, broker, max_tokens=1) == 200
        if (await usage_now(session, health))["lastAccepted"]["generation"] == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the generation does not show")


async def test_a_provider_that_does_not_answer_is_told_without_a_status(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        with running(tmp_path, document(tmp_path)) as gateway:
            assert await post(session, gateway.broker) == 502
            await gateway.audited(1)
            one = await usage_now(session, gateway.health)
            assert "status" not in one["lastRequest"]
            assert "lastAccepted" not in one
            assert one["lastError"]["message"] == "connect"
            found = samples((await get(session, f"http://{gateway.health}/metrics"))[1])
            assert found["provider_errors_total", "none"] == 1


async def test_an_account_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "uid-1.json").write_text("{")
    configuration = document(tmp_path, budget={"maxCostUSD": "1"}) | {"ledgerDirectory": str(tmp_path)}
    async with aiohttp.ClientSession() as session:
        with running(tmp_path, configuration) as gateway:
            assert await post(session, gateway.broker) == 503
            assert "can't be read" in str((await usage_now(session, gateway.health))["accountError"])
            assert "can't be read" in json.loads((await get(session, f"http://{gateway.health}/readyz"))[1])["accounts"]


SCALAR = st.one_of(st.none(), st.text(max_size=30), st.integers(), st.floats(), st.booleans())
RULE = st.one_of(SCALAR, st.sampled_from(["allowed: a.example", "denied: b.example", "malformed: c", "NoSNI"]))
RECORD = st.tuples(
    st.sampled_from(["request", "tunnel", "http"]),
    st.fixed_dictionaries({"verdict": SCALAR, "rule": RULE}, optional={
        "status": st.none() | st.integers(100, 599), "model": SCALAR, "costUSD": st.none() | st.floats(0, 10),
        "inputTokens": st.integers(0, 10), "bytesUp": st.integers(0, 10), "firstByteMs": st.none() | st.integers(0, 10),
        "host": SCALAR, "sandbox": SCALAR,
    }),
)  # fmt: skip


def test_whatever_an_agent_chooses_the_number_of_series_is_bounded() -> None:
    metrics = Metrics(built_in, Bookkeeper(MemoryStore()))

    @settings(max_examples=200)
    @given(RECORD)
    def observe(record: tuple[str, dict[str, str | int | float | bool | None]]) -> None:
        metrics.observe(*record)

    observe()
    for number in range(500):
        rule, model = f"{number}.example: made up", f"model-{number}"
        metrics.observe("tunnel", {"verdict": "Refused", "rule": rule, "host": f"{number}.example"})
        metrics.observe("request", {"verdict": "Allowed", "rule": rule, "model": model, "costUSD": 1.0, "status": 200})
    series = [one for one in samples(metrics.page("").body.decode()) if one[0] != "python_gc_objects_collected_total"]
    assert len(series) < 400
    assert not [one for one in series if "example" in one[1] or "model-" in one[1]]


@given(st.text(max_size=40), st.integers(0, len(KEY) - 8), st.integers(8, len(KEY)), st.text(max_size=40))
def test_no_part_of_a_credential_is_in_what_the_provider_said(before: str, start: int, size: int, after: str) -> None:
    part = KEY[start : start + max(size, 8)]
    said = hide(f"{before} {part} {after}", KEY)
    assert not [
        KEY[at : at + 8] for at in range(len(KEY) - 7) if KEY[at : at + 8] in said and KEY[at : at + 8] not in HIDDEN
    ]


def test_the_window_of_this_moment_counts() -> None:
    budget = Budget(cost=NANO, window=timedelta(hours=1).total_seconds())
    sandbox = SimpleNamespace(uid="u", namespace="", name="", budget=budget)
    account = Account(since=0.0, spent=NANO // 2, reserved={"r": Reservation(NANO // 4, 7, 10.0)})
    recent = SimpleNamespace(request=None, accepted=None, error=None)
    now = usage_of(sandbox, account, recent, Denied(), 20.0)["account"]  # type: ignore[arg-type]
    assert (now["costUSD"], now["heldCostUSD"], now["windowEnds"]) == ("0.5", "0.25", "1970-01-01T01:00:00Z")
    later = usage_of(sandbox, account, recent, Denied(), 3601.0)["account"]  # type: ignore[arg-type]
    assert (later["costUSD"], later["heldCostUSD"], later["heldOutputTokens"]) == ("0", "0.25", 7)


def denial(host: str, port: int = 443, **fields: Any) -> dict[str, Any]:
    return {"sandbox": "u", "verdict": "Refused", "rule": "not in allowedDomains", "host": host, "port": port, **fields}


def test_denials_are_told_as_the_spec_would_have_to_name_them_the_newest_first() -> None:
    times = iter(range(10, 20))
    denials = Denials(lambda: next(times))
    for kind, host, port in (
        *(("tunnel", "pypi.org", 443), ("tunnel", "git.example.org", 8443), ("http", "deb.debian.org", 80)),
        *(("http", "pypi.org", 443), ("tunnel", "PyPI.org.", 443)),
    ):
        denials.observe(kind, denial(host, port))
    found = list(denials.of("u").entries.values())[::-1]
    assert [(one.entry, one.count, one.first, one.at) for one in found] == [
        ("pypi.org", 2, 10, 14), ("pypi.org:443", 1, 13, 13), ("deb.debian.org", 1, 12, 12),
        ("git.example.org:8443", 1, 11, 11),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "kubernetes.default.svc", "localhost", "a text for who reads", "*.example.org", "a" * 64, "",
     f"{'a' * 50}.{'b' * 50}.example.org"],
)  # fmt: skip
def test_what_no_spec_can_name_or_is_long_enough_for_a_text_is_counted_only(host: str) -> None:
    denials = Denials()
    denials.observe("tunnel", denial(host))
    assert (denials.of("u").count, denials.of("u").entries) == (1, {})


@pytest.mark.parametrize(
    "fields",
    [
        {"rule": "denied: pypi.org"},
        {"rule": "identity", "sandbox": None},
        {"rule": "allowed: *.org"},
        {"sandbox": None},
    ],
)
def test_only_what_the_sandboxs_spec_could_allow_is_a_denial(fields: dict[str, Any]) -> None:
    denials = Denials()
    denials.observe("tunnel", denial("pypi.org", **fields))
    denials.observe("request", denial("pypi.org"))
    assert denials.of("u") == Denied()


@pytest.mark.parametrize(
    "model", ["", "a text; for who reads", "claude-\x1b[2J", "x" * 65, "-", "claude\u202e", None, 7]
)
def test_a_model_that_could_not_be_one_is_counted_only(model: Any) -> None:
    denials = Denials()
    denials.observe("request", {"sandbox": "u", "verdict": "Refused", "rule": "model", "model": model})
    assert (denials.of("u").count, denials.of("u").entries) == (1, {})


@given(st.lists(st.tuples(st.text(max_size=130), st.integers(0, 65535)), max_size=60))
def test_so_many_denials_are_kept_whatever_an_agent_asks_for(asked: list[tuple[str, int]]) -> None:
    denials = Denials()
    for number, (host, port) in enumerate(asked):
        denials.observe("tunnel", denial(host, port))
        denials.observe("tunnel", denial(f"host-{number}.example.org", port))
    found = denials.of("u")
    assert found.count == 2 * len(asked)
    assert len(found.entries) <= KEPT
    assert all(len(one) <= LONGEST and one.isascii() and one.isprintable() for _, one in found.entries)
    denials.keep({"another"})
    assert denials.of("u") == Denied()


@given(st.integers(0, 10**18))
def test_amounts_are_exact(nano: int) -> None:
    whole, _, part = usd(nano).partition(".")
    assert int(whole) * NANO + int((part or "0").ljust(9, "0")) == nano
