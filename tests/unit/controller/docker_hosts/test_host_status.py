"""What a host's conditions say follows from what one look found."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine_documents import good_bridge, good_info, good_version

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.docker_hosts.conditions import HostConditionType, HostReason
from claude_sandbox.api.docker_hosts.incident import HostIncidentState, HostIncidentStatus
from claude_sandbox.api.docker_hosts.spec import DockerHostSpec
from claude_sandbox.api.docker_hosts.status import DockerHostStatus, StayReason
from claude_sandbox.api.validate import parse_host_spec
from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentialsError
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason
from claude_sandbox.backends.docker.hosts.capacity import Allocated, Requests
from claude_sandbox.backends.docker.hosts.hosts import HostState
from claude_sandbox.backends.docker.hosts.placement import Stay
from claude_sandbox.compliance.evidence.docker_hosts import EngineDocuments
from claude_sandbox.controller.docker_hosts.status import (
    PATIENCE,
    DrainProgress,
    HostFindings,
    compose,
    moved_before,
    worth_writing,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GI = 2**30
DOCUMENTS = EngineDocuments(good_info(), good_version(), good_bridge())


def spec(**changes: Any) -> DockerHostSpec:
    return parse_host_spec({"spec": {"endpoint": "unix:///var/run/docker.sock", **changes}})


def known(
    reason: ConnectErrorReason | None = None, silent: float = 0.0, documents: EngineDocuments | None = DOCUMENTS
) -> HostState:
    error = None if reason is None else ConnectError(reason, "something is wrong")
    return HostState(documents, NOW, NOW, silent, error) if documents else HostState(silent=silent, error=error)


def found(of: HostState | None = None, **changes: Any) -> HostFindings:
    return HostFindings(**{"spec": spec(), "known": of or known(), **changes})


def conditions(findings: HostFindings) -> dict[str, tuple[str, str]]:
    status = compose({}, 1, findings, NOW)
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def test_a_host_that_answers_is_ready_and_compliant() -> None:
    assert conditions(found()) == {
        "Ready": ("True", "EngineReady"),
        "Reconciling": ("False", "UpToDate"),
        "Stalled": ("False", "NotStalled"),
        "Compliant": ("True", "AllControlsPass"),
        "Drained": ("False", "NotDraining"),
        "CertificatesCurrent": ("True", "NoCertificates"),
    }


def test_a_short_silence_is_no_news() -> None:
    assert conditions(found(known(ConnectErrorReason.UNREACHABLE, silent=PATIENCE))) == conditions(found())


def test_a_long_silence_makes_everything_unknown_and_nothing_false() -> None:
    findings = found(known(ConnectErrorReason.UNREACHABLE, silent=PATIENCE + 1))
    assert conditions(findings) == {
        "Ready": ("Unknown", "EngineUnreachable"),
        "Reconciling": ("True", "Connecting"),
        "Stalled": ("False", "NotStalled"),
        "Compliant": ("Unknown", "ControlsUnknown"),
        "Drained": ("False", "NotDraining"),
        "CertificatesCurrent": ("True", "NoCertificates"),
    }
    status = compose({}, 1, findings, NOW)
    assert {control["result"] for control in status["compliance"]["controls"]} == {"Unknown"}
    # What it was is still said.
    assert status["engine"]["version"] == "29.1.0"
    assert status["lastContact"] == "2026-01-02T03:04:05Z"


def test_a_host_that_never_answered_is_unknown() -> None:
    assert conditions(found(known(ConnectErrorReason.UNREACHABLE, documents=None)))["Ready"] == (
        "Unknown",
        "EngineUnreachable",
    )
    assert conditions(found(known(documents=None)))["Ready"] == ("Unknown", "NotYetContacted")
    assert conditions(found(known(documents=None)))["Compliant"] == ("Unknown", "NotEvaluated")


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (ConnectErrorReason.DENIED, "AccessDenied"),
        (ConnectErrorReason.UNTRUSTED, "EngineUntrusted"),
        (ConnectErrorReason.UNSUPPORTED, "EngineUnsupported"),
        (ConnectErrorReason.BAD_CREDENTIALS, "SecretInvalid"),
    ],
)
def test_what_somebody_has_to_mend_stalls_at_once(why: ConnectErrorReason, reason: str) -> None:
    assert conditions(found(known(why, silent=1))) == {
        "Ready": ("False", reason),
        "Reconciling": ("False", reason),
        "Stalled": ("True", reason),
        "Compliant": ("Unknown", "ControlsUnknown"),
        "Drained": ("False", "NotDraining"),
        "CertificatesCurrent": ("True", "NoCertificates"),
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spec": None, "invalid": "spec.endpoint: Required value"}, "InvalidSpec"),
        ({"secret": ClientCredentialsError(HostReason.SECRET_NOT_FOUND, "There is none.")}, "SecretNotFound"),
        ({"same_engine": "older"}, "DuplicateEngine"),
        ({"compromised": "older"}, "DuplicateEngine"),
    ],
)
def test_a_host_that_can_not_be_used_says_why_in_both_conditions(changes: dict[str, Any], reason: str) -> None:
    said = conditions(found(**changes))
    assert said["Ready"] == ("False", reason)
    assert said["Stalled"] == ("True", reason)


def test_a_plain_engine_is_never_compliant() -> None:
    plain = spec(endpoint="tcp://build-1:2375", insecure=True)
    said = compose({}, 1, found(spec=plain), NOW)
    (compliant,) = (one for one in said["conditions"] if one["type"] == "Compliant")
    assert (compliant["status"], compliant["reason"]) == ("False", "ControlsFail")
    assert "HOST-01" in compliant["message"]


def test_what_is_free_is_what_sandboxes_leave() -> None:
    demands = (Requests(2000, 2 * GI), Requests(500, GI))
    limits = spec(capacity={"sandboxes": 10, "cpu": "8", "memory": "16Gi"})
    said = compose({}, 1, found(spec=limits, demands=Allocated.by(demands)), NOW)
    assert said["capacity"] == {"sandboxes": 10, "cpu": "8", "memory": "16384Mi"}
    assert said["free"] == {"sandboxes": 8, "cpu": "5500m", "memory": "13312Mi"}
    assert said["sandboxes"] == 2


def test_an_engine_that_goes_on_answering_is_not_written_about() -> None:
    first = compose({}, 1, found(), NOW)
    later = NOW + timedelta(minutes=2)
    again = HostState(DOCUMENTS, later, later)
    assert not worth_writing(first, compose(first, 1, found(again), later))
    assert worth_writing(first, compose(first, 2, found(again), later))
    assert worth_writing(first, compose(first, 1, found(again, demands=Allocated.by([Requests(1, 1)])), later))


def test_a_transition_has_the_time_of_its_change() -> None:
    first = compose({}, 1, found(), NOW)
    later = NOW + timedelta(minutes=2)
    second = compose(first, 1, found(known(ConnectErrorReason.UNREACHABLE, silent=99)), later)
    times = {one["type"]: one["lastTransitionTime"] for one in second["conditions"]}
    assert times["Ready"] == times["Compliant"] == "2026-01-02T03:06:05Z"
    assert times["Stalled"] == "2026-01-02T03:04:05Z"


def test_every_condition_is_always_there_and_the_status_is_one() -> None:
    for findings in (found(), found(spec=None, invalid="x"), found(known(documents=None))):
        status = DockerHostStatus.model_validate(compose({}, 1, findings, NOW))
        assert [one.type for one in status.conditions] == list(HostConditionType)
        assert all(one.message or one.status is not ConditionStatus.UNKNOWN for one in status.conditions)


TIED = Stay(StayReason.WORKSPACE_ON_HOST, "its workspace is a volume of the host")
FULL = Stay(StayReason.NO_ROOM, "no other DockerHost takes it now")


def drained(outlook: DrainProgress, of: HostState | None = None) -> tuple[str, str, str]:
    status = compose({}, 1, found(of, drain=outlook), NOW)
    (one,) = (one for one in status["conditions"] if one["type"] == "Drained")
    return one["status"], one["reason"], one["message"]


def test_draining_goes_on_until_nothing_is_left() -> None:
    status, reason, message = drained(DrainProgress(moved=2, moving=3, stays={"agents/a": TIED}))
    assert (status, reason) == ("False", "Draining")
    assert "2 moved, 3 moving, 1 staying" in message
    assert "WorkspaceOnHost (agents/a)" in message
    assert drained(DrainProgress(moved=5))[:2] == ("True", "NoSandboxLeft")


def test_who_stays_is_counted_by_reason_and_the_first_are_named() -> None:
    stays = {f"agents/{name}": TIED for name in "edcba"} | {"agents/z": FULL}
    status, reason, message = drained(DrainProgress(moved=1, stays=stays))
    assert (status, reason) == ("False", "SandboxesStay")
    assert "5 because of WorkspaceOnHost (agents/a, agents/b, agents/c, …)" in message
    staying = compose({}, 1, found(drain=DrainProgress(moved=1, stays=stays)), NOW)["drain"]["staying"]
    assert [(one["reason"], one["count"]) for one in staying] == [("WorkspaceOnHost", 5), ("NoRoom", 1)]
    assert staying[0]["message"] == "Its workspace is a volume of the host."


def test_a_silent_host_can_not_be_drained_and_says_so() -> None:
    silent = known(ConnectErrorReason.UNREACHABLE, silent=PATIENCE + 1)
    status, reason, message = drained(DrainProgress(moved=1, moving=2), silent)
    assert (status, reason) == ("Unknown", "EngineUnreachable")
    assert "2 may still run there" in message
    # With nothing placed on it there is nothing that could be left.
    assert drained(DrainProgress(moved=3), silent)[0] == "True"


def test_how_many_were_moved_is_counted_from_where_an_earlier_operator_ended() -> None:
    before = compose({}, 1, found(drain=DrainProgress(moved=7, moving=1)), NOW)
    assert moved_before(before) == 7
    # It is told only while it lasts.
    after = compose(before, 2, found(), NOW)
    assert "drain" not in after
    assert moved_before(after) == 0


def test_of_a_compromised_host_nothing_is_believed_and_its_engine_stays_named() -> None:
    incident = HostIncidentStatus(state=HostIncidentState.HOST_COMPROMISED, since=NOW, sandboxes=2)
    before = compose({}, 1, found(), NOW)
    status = compose(before, 2, HostFindings(spec(), incident=incident), NOW)
    said = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    assert said["Ready"] == ("False", "HostCompromised")
    assert said["Reconciling"] == ("False", "HostCompromised")
    assert said["Stalled"] == ("True", "HostCompromised")
    assert said["Compliant"] == ("Unknown", "NotEvaluated")
    assert status["engine"] == before["engine"]
    assert status["incident"]["sandboxes"] == 2
    assert not worth_writing(status, compose(status, 2, HostFindings(spec(), incident=incident), NOW))
    # Whatever else is wrong with its spec.
    refused = compose(before, 2, HostFindings(None, invalid="endpoint", incident=incident), NOW)
    assert "HostCompromised" in {one["reason"] for one in refused["conditions"]}
