"""What the operator reads of gateways' reports, whoever wrote them, and of several of them."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from claude_sandbox.api.status_fields.usage import MAX_DENIED, BudgetState, TroubleKind
from claude_sandbox.backends.gateway_reports import BELIEVED, MAX_TEXT, Report, believed, budget_of, merged, read

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def at(seconds: float = 0) -> str:
    """As a gateway says it: what is compared has milliseconds."""
    said = (NOW + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")[:-6]
    return f"{said.removesuffix('.000')}Z"


def counts(requests: int = 1) -> dict[str, Any]:
    return {"requests": requests, "inputTokens": 1, "outputTokens": 2, "cacheWriteTokens": 3, "cacheReadTokens": 4,
            "costUSD": "0.5"}  # fmt: skip


def document(**changed: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "version": 1,
        "at": at(),
        "usage": {
            "time": at(), "windowBegan": at(-10), "windowCostUSD": "1.25", "windowOutputTokens": 7, "total": counts(3),
            "models": [{"model": "claude-sonnet-5-5", **counts(3)}],
        },
        "budget": {"time": at(), "state": "Free", "maxCostUSD": "20", "leftUSD": "18.75", "until": at(600)},
        "answered": {"time": at(-1), "generation": "g1"},
        "trouble": {"kind": "KeyRefused", "since": at(-5), "time": at(), "generation": "g1", "status": 401,
                    "type": "authentication_error", "message": "invalid x-api-key"},
        "denials": 3,
        "denied": [{"what": "Destination", "entry": "pypi.org", "count": 3, "first": at(-9), "last": at(-1)}],
    }  # fmt: skip
    return whole | changed


def report(**changed: Any) -> Report:
    found = read(json.dumps(document(**changed)))
    assert found is not None
    return found


def test_what_has_come_of_a_clone_is_told_for_a_moment_and_by_whoever_passed_it_on() -> None:
    found = report(at=at(-40), fetching={"git.example.org/team/a": 5})
    newer = report(at=at(), fetching=None)
    both = merged([newer, found])
    assert both is not None
    assert both.fetching == {"git.example.org/team/a": 5}
    assert believed(both, NOW - timedelta(seconds=20)).fetching
    assert not believed(both, NOW).fetching


@pytest.mark.parametrize("name", ["x", "Git.example.org/a", "h/a b", "h/\x1b[2J", "h/a/../b\n", "/a", "h/" + "a" * 200])
def test_a_repository_of_another_name_than_gateways_use_is_not_told(name: str) -> None:
    assert report(fetching={name: 5}).fetching == {}


def texts(found: Report) -> list[str]:
    """Every text in it."""
    parts: list[str] = [one.entry for one in found.denied]
    if found.used is not None:
        parts += [text for one in (*found.used.models, found.used.total) for text in (one.model, one.cost_usd)]
        parts.append(found.used.window.cost_usd)
    if found.answered is not None:
        parts.append(found.answered.generation or "")
    if found.trouble is not None:
        parts += [found.trouble.message, found.trouble.generation or ""]
    return parts


PARTS = ("usage", "budget", "answered", "trouble", "denials", "denied", "at", "version", "later")
PLACES = (
    ("usage", "models", 0, "model"), ("usage", "total", "requests"), ("usage", "windowCostUSD"), ("budget", "state"),
    ("budget", "until"), ("answered", "generation"), ("trouble", "message"), ("trouble", "type"), ("trouble", "since"),
    ("denied", 0, "entry"), ("denied", 0, "count"), ("denied", 0, "first"), ("denied", 0, "what"),
)  # fmt: skip


@given(st.text(max_size=200) | st.builds(json.dumps, JSON) | JSON)
def test_whatever_is_read_is_a_report_or_none(text: object) -> None:
    read(text)


@given(st.sampled_from(PARTS), JSON)
def test_a_part_that_is_malformed_takes_no_other_away(name: str, value: Any) -> None:
    text = json.dumps(document(**{name: value}))
    # What is longer than any gateway's is not read at all.
    assume(len(text) <= MAX_TEXT)
    found = read(text)
    if name == "at":
        return
    assert found is not None
    assert (found.answered is not None) or name == "answered"
    assert found.trouble is not None or name == "trouble"
    assert found.used is not None or name == "usage"
    assert found.denied or name == "denied"


@given(st.sampled_from(PLACES), LEAF | JSON)
def test_no_text_gets_in_that_a_terminal_would_not_show_as_it_is(place: tuple[str | int, ...], value: Any) -> None:
    whole = document()
    inner: Any = whole
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    said = json.dumps(whole)
    assume(len(said) <= MAX_TEXT)
    found = read(said)
    assert found is not None
    for text in texts(found):
        assert text.isprintable()
        assert len(text.encode()) <= 256


@pytest.mark.parametrize(
    "entry",
    ["", "a b.example", "evil.example\n- *.example", "*.example.org", "x" * 101, "EVIL.example", "evil.example:http",
     "-evil.example", "\u202egro.elpmaxe", "evil.example, and call +1"],
)  # fmt: skip
def test_what_is_no_entry_of_a_spec_is_no_denial(entry: str) -> None:
    one = {"what": "Destination", "entry": entry, "count": 3, "first": at(), "last": at()}
    assert report(denied=[one]).denied == ()


@pytest.mark.parametrize(
    ("entry", "taken"),
    [("issues POST /api/items", True), ("issues POST /api/items?x", False), ("issues post /a", False), ("a b c", False),
     ("issues GET /" + "a" * 59, True), ("issues GET /" + "a" * 60, False), ("issues GET /a b", False),
     ("issues GET /a\nb", False), ("", False)],
)  # fmt: skip
def test_of_a_request_to_a_service_only_plain_words_are_told(entry: str, taken: bool) -> None:
    one = {"what": "Service", "entry": entry, "count": 3, "first": at(), "last": at()}
    found = read(json.dumps({"at": at(), "denied": [one]}))
    assert found is not None
    assert [denied.entry for denied in found.denied] == ([entry] if taken else [])


def test_what_is_too_long_or_nested_too_deeply_is_no_report() -> None:
    assert read(json.dumps(document(later="x" * MAX_TEXT))) is None
    assert read("[" * (MAX_TEXT - 1)) is None
    assert read('{"at":' + "9" * 4000 + "}") is None


@given(st.permutations(range(4)))
def test_of_several_each_fact_is_the_newest_in_whatever_order(order: list[int]) -> None:
    reports = [
        report(at=at(1), usage={**document()["usage"], "time": at(1), "total": counts(9)}, trouble=None),
        report(at=at(2), answered={"time": at(2), "generation": "g2"}, trouble=None, usage=None),
        report(
            at=at(3), usage={**document()["usage"], "time": at(-3), "total": counts(1)}, answered=None, trouble=None
        ),
        report(at=at(0), answered=None, trouble=None, usage=None),
    ]
    found = merged(reports[number] for number in order)
    assert found is not None
    assert found.used is not None
    assert found.used.total.requests == 9
    assert found.answered is not None
    assert found.answered.generation == "g2"
    assert found.denials == 12
    assert [(one.entry, one.count) for one in found.denied] == [("pypi.org", 12)]


def test_a_refusal_ends_with_an_answer_that_another_gateway_got_since() -> None:
    refused = report()
    assert merged([refused, report(at=at(3), trouble=None, answered={"time": at(-1)})]).trouble is not None  # type: ignore[union-attr]
    assert merged([refused, report(at=at(3), trouble=None, answered={"time": at(1)})]).trouble is None  # type: ignore[union-attr]


@pytest.mark.parametrize("later", [0.001, -0.001])
def test_of_a_refusal_and_an_answer_within_one_second_the_later_counts(later: float) -> None:
    refused = report(trouble={**document()["trouble"], "time": at(0.5)}, answered=None)
    both = merged([refused, report(trouble=None, answered={"time": at(0.5 + later)})])
    assert both is not None
    assert (both.trouble is None) == (later > 0)
    # A status has whole seconds, and so has what is compared with it.
    assert both.answered is not None
    assert both.answered.time.microsecond == 0


def judged(seconds: float, short: bool, read_at: float, **changed: Any) -> Report:
    budget = {**document()["budget"], "state": "Short" if short else "Free", "time": at(read_at), "began": at(-3600),
              "judged": {"time": at(seconds), "short": short}}  # fmt: skip
    return report(at=at(max(seconds, read_at)), budget=budget | changed)


def state_of(*reports: Report) -> BudgetState | None:
    both = merged(reports)
    assert both is not None
    found = budget_of(both, Decimal(20), None, NOW)
    return found.state if found is not None else None


@pytest.mark.parametrize(("first", "second"), [(0.1, 0.2), (0.2, 0.1), (1, 40), (40, 1)])
@pytest.mark.parametrize("read_at", [0, 0.3, 60])
def test_what_was_too_little_for_the_last_request_is_so_whichever_gateway_refused_it(
    first: float, second: float, read_at: float
) -> None:
    # The one that let a request through may have read the account since, when that request was over.
    let, refused = judged(first, False, read_at), judged(second, True, 0)
    expected = BudgetState.SHORT if second > first else BudgetState.FREE
    assert state_of(let, refused) is state_of(refused, let) is expected


def test_what_was_refused_in_an_earlier_window_says_nothing_of_this_one() -> None:
    refused = judged(1, True, 0)
    assert state_of(refused, judged(0, False, 9, began=at(5))) is BudgetState.FREE
    assert state_of(refused, judged(0, False, 9, state="Spent")) is BudgetState.SPENT


def test_that_there_is_no_answer_is_believed_for_a_while() -> None:
    silent = report(trouble={"kind": "NoAnswer", "since": at(-90), "time": at(), "message": "no connection"})
    assert silent.trouble is not None
    assert silent.trouble.kind is TroubleKind.NO_ANSWER
    assert believed(silent, NOW + BELIEVED).trouble is not None
    assert believed(silent, NOW + BELIEVED + timedelta(seconds=1)).trouble is None
    # A refusal lasts until something else is known.
    assert believed(report(), NOW + timedelta(days=30)).trouble is not None


def test_a_budget_is_judged_by_its_own_limits_alone_and_free_when_its_window_is_over() -> None:
    spent = report(budget={**document()["budget"], "state": "Spent", "leftUSD": "0"})
    assert budget_of(spent, Decimal("20.0"), None, NOW).state is BudgetState.SPENT  # type: ignore[union-attr]
    assert budget_of(spent, Decimal(30), None, NOW) is None
    assert budget_of(spent, Decimal(20), 7, NOW) is None
    assert budget_of(spent, Decimal(20), None, NOW + timedelta(seconds=600)).state is BudgetState.FREE  # type: ignore[union-attr]


def test_so_many_denials_are_told_whatever_is_written() -> None:
    many = [{"what": "Destination", "entry": f"h{n}.example", "count": 1, "first": at(n), "last": at(n)}
            for n in range(MAX_DENIED)]  # fmt: skip
    more = [one | {"entry": f"g{number}.example"} for number, one in enumerate(many)]
    found = merged([report(denied=many), report(denied=more)])
    assert found is not None
    assert len(found.denied) == MAX_DENIED
    assert found.denied[0].last == NOW + timedelta(seconds=MAX_DENIED - 1)
