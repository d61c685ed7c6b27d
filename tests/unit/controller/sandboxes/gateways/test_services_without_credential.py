"""A service whose credential can't be had is a condition that names the field, the Secret and the remedy, and ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.status import Workload
from claude_sandbox.api.status_fields.usage import ServiceTrouble, UnopenedService, Usage
from claude_sandbox.backends.base import KeyState, WorkloadState
from claude_sandbox.backends.gateway_reports import Report, merged
from claude_sandbox.blueprint.model import GatewayService, ServiceHeader
from claude_sandbox.controller.sandboxes.gateways.usage import EVERY, usage_of, waits
from claude_sandbox.controller.sandboxes.reporting.conditions import conditions_of
from claude_sandbox.controller.sandboxes.reporting.findings import Findings
from claude_sandbox.controller.sandboxes.reporting.status import compose

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RUNNING = WorkloadState(
    ConditionStatus.TRUE, Reason.SANDBOX_READY, "fine", Workload(name="sandbox-alice", uid="u"), key_generation="7"
)


def service(name: str, named: str = "tracker", host: str = "issues.example.org") -> GatewayService:
    return GatewayService(
        name, host, ServiceHeader("Authorization", "Bearer ", named, "token"), ("/*",), ("GET",), 60, None
    )


def findings(why: ServiceTrouble, *services: GatewayService) -> Findings:
    told = [UnopenedService(name=one.name, why=why) for one in services]
    usage = Usage(reported_at=NOW, unopened_services=told)
    return Findings(
        secret="key",
        key=KeyState("7"),
        workload=RUNNING,
        brokered=True,
        usage=usage,
        services=(service("a"), *services),
    )


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        (ServiceTrouble.NO_SECRET, "there is no Secret tracker; make it, of type claudesandbox.dev/service"),
        (ServiceTrouble.NOT_OPTED_IN, "give it the label claudesandbox.dev/service=true"),
        (ServiceTrouble.OTHER_HOST, "not for issues.example.org; put that into its key `host`"),
        (ServiceTrouble.NO_KEY, "no good key token"),
        (ServiceTrouble.NOT_READ, "it tries again"),
    ],
)
def test_it_is_said_with_the_field_and_the_remedy_and_the_agent_works_on(why: ServiceTrouble, remedy: str) -> None:
    states = conditions_of(findings(why, service("issues")))
    current = states[ConditionType.CREDENTIALS]
    assert (current.status, current.reason) == (ConditionStatus.FALSE, Reason.SERVICE_CREDENTIAL_MISSING)
    assert "spec.services[1].header.valueFrom.secretKeyRef" in current.message
    assert remedy in current.message
    # Somebody has to act, and the agent can work on everything else.
    stalled = states[ConditionType.STALLED]
    assert (stalled.status, stalled.reason) == (ConditionStatus.TRUE, Reason.SERVICE_CREDENTIAL_MISSING)
    assert states[ConditionType.RECONCILING].status is ConditionStatus.FALSE
    assert states[ConditionType.READY].status is ConditionStatus.TRUE
    # A pod that does not run yet is the greater trouble.
    starting = replace(findings(why, service("issues")), workload=replace(RUNNING, status=ConditionStatus.FALSE))
    assert conditions_of(starting)[ConditionType.STALLED].status is ConditionStatus.FALSE


def test_a_service_that_is_not_declared_any_more_is_no_trouble() -> None:
    found = replace(findings(ServiceTrouble.NO_SECRET, service("issues")), services=(service("other"),))
    assert conditions_of(found)[ConditionType.STALLED].status is ConditionStatus.FALSE
    assert conditions_of(found)[ConditionType.CREDENTIALS].status is ConditionStatus.TRUE


def test_the_remedy_is_not_cut_however_long_the_names_are() -> None:
    long = [service(f"{number:030}", "s" * 253, "h" * 253) for number in range(15)]
    for why in ServiceTrouble:
        status = compose({}, 1, findings(why, *long), NOW)
        stalled = next(one for one in status["conditions"] if one["type"] == "Stalled")
        assert stalled["message"].endswith("14 more of spec.services lack theirs.")


def test_it_is_over_when_the_gateways_say_so_whatever_an_older_one_had_said() -> None:
    lacks = (UnopenedService(name="issues", why=ServiceTrouble.NO_SECRET),)
    before = usage_of(Report(NOW, unopened=lacks), None, None, NOW)
    assert before is not None
    assert before.unopened_services == list(lacks)
    later = Report(NOW + timedelta(seconds=1), unopened=())
    nothing_of_it = Report(NOW + timedelta(seconds=2))
    told = merged([later, Report(NOW, unopened=lacks), nothing_of_it])
    after = usage_of(told, before, None, NOW)
    assert after is not None
    assert after.unopened_services is None
    # Neither waits for the next minute.
    assert not waits(before, after, EVERY / 2)
    assert not waits(after, before, EVERY / 2)
