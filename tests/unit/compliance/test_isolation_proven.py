"""When IsolationVerified is True: only with a probe that proves it, and with every other control of the network."""

import pytest

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.compliance.catalogue import CONTAINER_CONTROLS
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.compliance.reports.isolation import DETAILS, proven
from claude_sandbox.compliance.verdict import Verdict, failed, not_applicable, passed, unknown

IDS = [one.id for one in CONTAINER_CONTROLS if one.id.startswith("NET-")]


def said(**verdicts: Verdict) -> tuple[ConditionStatus, Reason, str]:
    """Of controls that all pass but for these; the keys without their dash."""
    found = [
        Finding(one, verdicts.get(one.id.replace("-", ""), passed()), required=True, remedy="")
        for one in CONTAINER_CONTROLS
    ]
    return proven(found, "The network is internal")


def test_it_is_true_where_all_of_the_network_passes_or_does_not_apply() -> None:
    assert said()[:2] == (ConditionStatus.TRUE, Reason.POLICY_IN_PLACE)
    assert said(NET11=not_applicable("no ports"))[0] is ConditionStatus.TRUE
    # What is no matter of the network has a condition of its own.
    assert said(PRIV01=failed("root"))[0] is ConditionStatus.TRUE


def test_what_was_reached_makes_it_false_and_is_named() -> None:
    status, reason, message = said(NET03=failed("the printer can be reached"))
    assert (status, reason) == (ConditionStatus.FALSE, Reason.DESTINATION_REACHED)
    assert "the printer can be reached" in message


def test_without_proof_it_is_unknown() -> None:
    assert said(NET03=unknown("that is under way"))[:2] == (ConditionStatus.UNKNOWN, Reason.NOT_PROBED)
    assert proven([], "The network is internal")[:2] == (ConditionStatus.UNKNOWN, Reason.NOT_PROBED)


def test_that_it_is_being_tried_is_a_reason_of_its_own() -> None:
    found = [Finding(one, unknown("that is under way"), required=False, remedy="") for one in CONTAINER_CONTROLS]
    assert proven(found, "x", under_way=True)[:2] == (ConditionStatus.UNKNOWN, Reason.PROBE_UNDER_WAY)


@pytest.mark.parametrize("control", DETAILS)
def test_what_says_a_part_of_the_proof_again_decides_nothing(control: str) -> None:
    """Where no metadata service answers, for example, nothing is left in doubt."""
    assert said(**{control.replace("-", ""): unknown("nobody is there")})[0] is ConditionStatus.TRUE


@pytest.mark.parametrize("control", [one for one in IDS if one not in ("NET-03", *DETAILS)])
def test_a_probe_alone_is_not_enough(control: str) -> None:
    key = control.replace("-", "")
    assert said(**{key: failed("widened")})[:2] == (ConditionStatus.FALSE, Reason.POLICY_WIDENED)
    assert said(**{key: unknown("not read")})[:2] == (ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED)
