"""What the status says of what a gateway has told, whether the agent can work by it, and which Events it makes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.fields.budget import Budget
from claude_sandbox.api.status import Workload
from claude_sandbox.api.status_fields.usage import (
    Answered,
    BudgetLeft,
    BudgetState,
    Denied,
    DeniedEntry,
    Trouble,
    TroubleKind,
    Usage,
)
from claude_sandbox.backends.base import KeyState, WorkloadState
from claude_sandbox.backends.gateway_reports import Report
from claude_sandbox.controller.sandboxes.gateways.denials import PAUSE, REMEMBERED, DenialEvents
from claude_sandbox.controller.sandboxes.gateways.usage import EVERY, previous_usage, usage_of, waits
from claude_sandbox.controller.sandboxes.reporting.conditions import conditions_of
from claude_sandbox.controller.sandboxes.reporting.findings import Findings
from claude_sandbox.controller.sandboxes.reporting.status import compose
from claude_sandbox.controller.sandboxes.store import Key

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RUNNING = WorkloadState(
    ConditionStatus.TRUE, Reason.SANDBOX_READY, "fine", Workload(name="sandbox-alice", uid="u"), key_generation="7"
)
BUDGET = Budget(max_cost_usd="20", window="24h")
REFUSED = Trouble(kind=TroubleKind.KEY_REFUSED, since=NOW, generation="7", message="401: invalid x-api-key")
MISSING = Trouble(kind=TroubleKind.KEY_MISSING, since=NOW, message="Secret key has no good api-key")
SILENT = Trouble(kind=TroubleKind.NO_ANSWER, since=NOW, message="no connection")
SPENT = BudgetLeft(state=BudgetState.SPENT, left_usd="0", until=NOW + timedelta(hours=1))


def usage(**said: Any) -> Usage:
    return Usage(reported_at=NOW, **said)


def findings(said: Usage | None, **changed: Any) -> Findings:
    whole = Findings(secret="key", key=KeyState("7"), workload=RUNNING, brokered=True, usage=said, budget=BUDGET)
    return replace(whole, **changed)


def condition(found: Findings, kind: ConditionType) -> tuple[ConditionStatus, Reason, str]:
    state = conditions_of(found)[kind]
    return state.status, state.reason, state.message


@pytest.mark.parametrize(
    ("said", "reason", "stalled", "remedy"),
    [
        (usage(trouble=REFUSED), Reason.KEY_REFUSED, True, "into the Secret key"),
        (usage(trouble=MISSING), Reason.SECRET_KEY_MISSING, True, "Secret key has no good api-key. Write it there"),
        (usage(trouble=SILENT), Reason.PROVIDER_SILENT, False, "base URL"),
        (usage(budget=SPENT), Reason.BUDGET_SPENT, False, "2026-01-02 01:00:00 UTC; to go on before, raise it"),
        (usage(budget=SPENT.model_copy(update={"until": None})), Reason.BUDGET_SPENT, True, 'maxCostUSD: "20"'),
        (usage(budget=SPENT.model_copy(update={"state": BudgetState.SHORT, "left_usd": "0.5"})), Reason.BUDGET_SPENT,
         False, "0.5 USD"),
    ],
)  # fmt: skip
def test_what_keeps_the_agent_from_working_is_said_with_the_remedy(
    said: Usage, reason: Reason, stalled: bool, remedy: str
) -> None:
    status, found, message = condition(findings(said), ConditionType.READY)
    assert (status, found) == (ConditionStatus.FALSE, reason)
    assert remedy in message
    # Either somebody has to act, or it is waited for: kstatus and Argo CD go by these two.
    assert condition(findings(said), ConditionType.STALLED)[0] == str(stalled)
    assert condition(findings(said), ConditionType.RECONCILING)[0] == str(not stalled)
    # And it is over when nothing says it any more.
    assert condition(findings(usage()), ConditionType.READY)[1] is Reason.SANDBOX_READY


@given(st.text(max_size=2000))
@example("x" * 2000)
@example("\x1b" * 2000)
def test_the_remedy_is_not_cut_whatever_the_provider_says(words: str) -> None:
    said = usage(trouble=REFUSED.model_copy(update={"message": words, "generation": "7" * 64}))
    status = compose({}, 1, findings(said, secret="k" * 63, key=KeyState("7" * 64)), NOW)
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    assert ready["message"].endswith("the next request uses it.")
    assert ready["message"].isprintable()


def test_the_refusal_of_the_key_before_is_none_of_this_one() -> None:
    renewed = findings(usage(trouble=REFUSED), key=KeyState("8"), workload=replace(RUNNING, key_generation="8"))
    assert condition(renewed, ConditionType.READY)[0] == "True"
    assert condition(renewed, ConditionType.CREDENTIALS)[0] == "True"
    # Where the operator may not look at Secrets, the gateway alone knows which is used.
    assert condition(findings(usage(trouble=REFUSED), key=KeyState()), ConditionType.READY)[0] == "False"


def test_a_sandbox_without_a_gateway_is_judged_by_none() -> None:
    told = findings(usage(trouble=REFUSED, budget=SPENT), brokered=False)
    assert condition(told, ConditionType.READY)[1] is Reason.SANDBOX_READY


@pytest.mark.parametrize(
    ("said", "expected", "words"),
    [
        (None, ("True", Reason.KEY_MOUNTED), "no request was answered with it yet"),
        (usage(), ("True", Reason.KEY_MOUNTED), "no request was answered with it yet"),
        (usage(last_answered=Answered(time=NOW, generation="7")), ("True", Reason.KEY_USED), "generation 7"),
        (usage(last_answered=Answered(time=NOW, generation="6")), ("Unknown", Reason.KEY_NOT_USED_YET),
         "with generation 6"),
        (usage(trouble=REFUSED, last_answered=Answered(time=NOW, generation="7")), ("False", Reason.KEY_REFUSED),
         "invalid x-api-key"),
        (usage(trouble=MISSING, last_answered=Answered(time=NOW, generation="7")), ("False", Reason.SECRET_KEY_MISSING),
         "has no good api-key"),
    ],
)  # fmt: skip
def test_that_the_key_is_current_is_shown_by_a_request(
    said: Usage | None, expected: tuple[str, Reason], words: str
) -> None:
    status, reason, message = condition(findings(said), ConditionType.CREDENTIALS)
    assert (status, reason) == expected
    assert words in message


def test_what_was_told_stays_but_for_what_was_wrong() -> None:
    before = usage(requests=7, cost_usd="1", last_answered=Answered(time=NOW, generation="7"), trouble=REFUSED)
    after = usage_of(None, before, BUDGET, NOW)
    assert after is not None
    assert (after.requests, after.last_answered, after.trouble) == (7, before.last_answered, None)
    # A gateway that was just made knows nothing of before.
    fresh = usage_of(Report(NOW + timedelta(minutes=1)), before, BUDGET, NOW)
    assert fresh is not None
    assert (fresh.requests, fresh.last_answered, fresh.trouble) == (7, before.last_answered, None)


def test_what_says_nothing_new_is_no_other_status() -> None:
    before = usage(last_answered=Answered(time=NOW, generation="7"))
    report = Report(NOW + timedelta(hours=1), answered=before.last_answered)
    assert usage_of(report, before, BUDGET, NOW) == before
    found = findings(before)
    status = compose({}, 1, found, NOW)
    assert previous_usage(status) == before
    assert compose(status, 1, replace(found, usage=previous_usage(status)), NOW + timedelta(hours=1)) == status


def test_what_was_used_since_waits_and_what_is_decisive_does_not() -> None:
    before = usage(requests=7)
    assert waits(before, usage(requests=8), EVERY - 1)
    assert not waits(before, usage(requests=8), EVERY)
    assert not waits(before, usage(requests=8, trouble=REFUSED), 1)
    assert not waits(usage(trouble=REFUSED), before, 1)
    assert not waits(before, usage(last_answered=Answered(time=NOW, generation="8")), 1)
    assert not waits(before, usage(budget=SPENT), 1)
    assert not waits(None, before, 1)


def test_a_status_that_another_version_wrote_is_none() -> None:
    assert previous_usage({"usage": {"reportedAt": "2026-01-02T00:00:00Z", "later": 1}}) is None
    assert previous_usage({"usage": "text"}) is None
    assert previous_usage({}) is None


class Told:
    """Takes Events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def write_status(self, raw: Any, patch: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    def tell(self, raw: Any, reason: str, message: str, *, warning: bool) -> None:
        assert (reason, warning) == ("Denied", True)
        self.events.append(message)

    def observe(self, key: Any, status: Any, healed: Any) -> None:
        raise NotImplementedError


ALICE = Key("agents", "alice")


def denied(*names: str, what: Denied = Denied.DESTINATION) -> Usage:
    return usage(
        denials=len(names), denied=[DeniedEntry(what=what, entry=name, count=1, first=NOW, last=NOW) for name in names]
    )


def test_a_denial_is_told_once_with_the_line_to_add() -> None:
    now, told = [0.0], Told()
    events = DenialEvents(lambda: now[0])
    for _ in range(5):
        events.tell(told, ALICE, {}, None, denied("pypi.org", "registry.example.org:8443"))
        now[0] += PAUSE
    (message,) = told.events
    assert "spec.network.egress.allowedDomains: - pypi.org - registry.example.org:8443" in message
    events.tell(told, ALICE, {}, None, denied("claude-opus-5-5", what=Denied.MODEL))
    assert "spec.model.allowed: - claude-opus-5-5" in told.events[-1]
    now[0] += PAUSE
    events.tell(told, ALICE, {}, None, denied("issues POST /api/items", what=Denied.SERVICE))
    assert "spec.services: - issues POST /api/items" in told.events[-1]


def test_after_a_start_what_the_status_names_was_told() -> None:
    told, before = Told(), denied("pypi.org")
    DenialEvents(lambda: 0.0).tell(told, ALICE, {}, before, before)
    assert told.events == []


def test_a_million_names_make_an_event_every_now_and_then() -> None:
    now, told = [0.0], Told()
    events = DenialEvents(lambda: now[0])
    for number in range(10_000):
        events.tell(told, ALICE, {}, None, denied(*(f"h{number}-{part}.example" for part in range(8))))
        now[0] += 1
    assert len(told.events) <= 10_000 / PAUSE + 1
    assert all(len(message.encode()) <= 1024 for message in told.events)
    assert len(events._told[ALICE].said) <= REMEMBERED
    events.forget(ALICE)
    assert not events._told
