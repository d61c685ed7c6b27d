"""What a status says, and when it is worth a write."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import Workload
from claude_sandbox.backends.base import Failure, Healed, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.controller.machinery.merge_patch import merge_patch
from claude_sandbox.controller.sandboxes.reporting.conditions import conditions_of, on_its_way
from claude_sandbox.controller.sandboxes.reporting.findings import Findings, State
from claude_sandbox.controller.sandboxes.reporting.status import compose, past

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUNNING = WorkloadState(
    ConditionStatus.TRUE, Reason.SANDBOX_READY, "fine", Workload(name="sandbox-alice", uid="u"), key_generation="7"
)
STARTING = WorkloadState(
    ConditionStatus.FALSE, Reason.POD_PENDING, "starting", Workload(name="sandbox-alice", uid="u"), key_generation="7"
)
POLICY = Healed("NetworkPolicy", "sandbox-alice", "Drifted", ("spec.egress",))
ACCOUNT = Healed("ServiceAccount", "sandbox-alice", "Missing")
POD = Healed("Pod", "sandbox-alice", "Ended", ("status.phase",))
LOST = WorkloadState(ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, "Docker host a can't be asked.")
NONE = WorkloadState(ConditionStatus.FALSE, Reason.NO_WORKLOAD, "There is no pod.")

findings = st.builds(
    Findings,
    suspended=st.booleans(),
    secret=st.sampled_from([None, "key"]),
    invalid=st.sampled_from([None, "spec.resources.memory: too small"]),
    key=st.sampled_from([KeyState("7"), KeyState("8"), KeyState(), KeyState(None, Reason.SECRET_NOT_FOUND, "none")]),
    outcome=st.builds(
        Outcome,
        foreign=st.sampled_from([(), ("Pod sandbox-alice",)]),
        drifted=st.sampled_from([(), ("spec.hostNetwork",)]),
        spec_changed=st.booleans(),
        unpublished=st.sampled_from(["", "Not published."]),
        healed=st.sampled_from([(), (Healed("NetworkPolicy", "sandbox-alice", "Missing"),)]),
        failure=st.sampled_from(
            [
                None,
                Failure(Reason.RETRYING, "503", permanent=False),
                Failure(Reason.PROGRESSING, "waits", permanent=False),
                Failure(Reason.REJECTED, "no", permanent=True),
            ]
        ),
    ),
    workload=st.sampled_from([RUNNING, STARTING, NONE, LOST]),
)


def states(found: Findings) -> dict[ConditionType, State]:
    return conditions_of(found)


@given(findings)
def test_every_condition_is_always_there(found: Findings) -> None:
    at_times = {ConditionType.REPOSITORIES, ConditionType.CONTAINED, ConditionType.STRAINED}
    at_times |= {
        ConditionType.CERTIFICATE_DUE,
        ConditionType.IMAGE_CURRENT,
        ConditionType.CREDENTIALS_DUE,
        ConditionType.BACKUP_VERIFIED,
    }
    assert set(states(found)) == set(ConditionType) - at_times


@given(findings)
def test_a_terminal_failure_is_never_shown_as_work_in_progress(found: Findings) -> None:
    # kstatus looks at Reconciling before Stalled: were both True, a failure would look like progress for ever.
    conditions = states(found)
    both = {conditions[ConditionType.RECONCILING].status, conditions[ConditionType.STALLED].status}
    assert both != {ConditionStatus.TRUE}


@given(findings)
def test_what_is_not_ready_says_why(found: Findings) -> None:
    conditions = states(found)
    if conditions[ConditionType.READY].status is not ConditionStatus.TRUE:
        assert conditions[ConditionType.READY].message
        active = [conditions[kind] for kind in (ConditionType.RECONCILING, ConditionType.STALLED)]
        waiting = conditions[ConditionType.READY].reason is Reason.SUSPENDED
        assert waiting or any(state.status is ConditionStatus.TRUE for state in active)


@given(findings)
def test_without_a_measurement_compliance_is_unknown(found: Findings) -> None:
    assert states(found)[ConditionType.COMPLIANT].status is ConditionStatus.UNKNOWN


@given(findings, findings)
def test_a_transition_time_moves_only_when_the_status_flips(first: Findings, second: Findings) -> None:
    before = compose({}, 1, first, NOW)
    after = compose(before, 1, second, NOW + timedelta(hours=1))
    old = {condition["type"]: condition for condition in before["conditions"]}
    for condition in after["conditions"]:
        flipped = old[condition["type"]]["status"] != condition["status"]
        assert (condition["lastTransitionTime"] != old[condition["type"]]["lastTransitionTime"]) == flipped


@given(findings)
def test_the_same_findings_give_the_same_status(found: Findings) -> None:
    quiet = Findings(**{**vars(found), "outcome": Outcome(failure=found.outcome.failure)})
    before = compose({}, 1, quiet, NOW)
    assert compose(before, 1, quiet, NOW + timedelta(hours=1)) == before


def test_a_missing_secret_stalls_the_sandbox_with_the_remedy() -> None:
    found = Findings(secret="key", key=KeyState(None, Reason.SECRET_NOT_FOUND, "make it"), workload=NONE)
    conditions = states(found)
    assert conditions[ConditionType.STALLED] == State(ConditionStatus.TRUE, Reason.SECRET_NOT_FOUND, "make it")
    assert conditions[ConditionType.READY] == State(ConditionStatus.FALSE, Reason.SECRET_NOT_FOUND, "make it")
    assert conditions[ConditionType.CREDENTIALS].status is ConditionStatus.FALSE


def test_what_is_waited_for_is_progress_and_stalls_nothing() -> None:
    waits = Outcome(failure=Failure(Reason.PROGRESSING, "waits for the collector", permanent=False))
    conditions = states(Findings(secret="key", outcome=waits, workload=NONE))
    waiting = State(ConditionStatus.TRUE, Reason.PROGRESSING, "waits for the collector")
    assert conditions[ConditionType.RECONCILING] == waiting
    assert conditions[ConditionType.READY] == State(ConditionStatus.FALSE, waiting.reason, waiting.message)
    assert conditions[ConditionType.STALLED].status is ConditionStatus.FALSE
    assert on_its_way(Findings(secret="key", outcome=waits, workload=NONE))


def test_a_running_sandbox_stays_ready_when_its_secret_goes_away() -> None:
    found = Findings(secret="key", key=KeyState(None, Reason.SECRET_NOT_FOUND, "make it"), workload=RUNNING)
    assert states(found)[ConditionType.READY].status is ConditionStatus.TRUE
    assert states(found)[ConditionType.CREDENTIALS].status is ConditionStatus.FALSE


def test_what_can_not_be_asked_is_unknown_and_what_ran_is_remembered() -> None:
    before = compose({}, 1, Findings(workload=RUNNING), NOW)
    failing = Outcome(failure=Failure(Reason.RETRYING, "no answer", permanent=False))
    after = compose(before, 1, Findings(workload=LOST, outcome=failing), NOW)
    assert states(Findings(workload=LOST, outcome=failing))[ConditionType.READY].status is ConditionStatus.UNKNOWN
    assert after["workload"] == before["workload"]
    assert "workload" not in compose(before, 1, Findings(workload=NONE), NOW)


def test_heals_add_up() -> None:
    first = compose({}, 1, Findings(workload=RUNNING, outcome=Outcome(healed=(POLICY, ACCOUNT))), NOW)
    assert first["heals"]["count"] == 2
    second = compose(first, 1, Findings(workload=RUNNING, outcome=Outcome(healed=(POD,))), NOW)
    assert second["heals"] == {
        "count": 3,
        "last": {"what": "Pod sandbox-alice replaced (status.phase)", "at": "2026-01-01T00:00:00Z"},
    }
    assert compose(second, 1, Findings(workload=RUNNING), NOW)["heals"] == second["heals"]


values: st.SearchStrategy[Any] = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda children: st.dictionaries(st.text(max_size=2), children, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text(max_size=2), values, max_size=4)


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


@given(documents, documents)
def test_a_merge_patch_makes_the_old_document_into_the_new_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert _merged(old, merge_patch(old, new)) == new
    assert merge_patch(new, new) == {}


@given(findings)
def test_a_spec_counts_as_carried_out_only_when_nothing_was_left_to_write(found: Findings) -> None:
    # What is missing after a write that failed was not lost, and must not be reported as healed.
    status = compose({}, 3, found, NOW)
    left = bool(found.invalid or found.outcome.foreign or found.outcome.failure)
    same, later = past(status, 3), past(status, 4)
    assert same.settled is same.provisioned is later.provisioned is not left
    assert not later.settled
    assert same.ran is (found.workload.workload is not None)


def test_nothing_was_done_for_a_sandbox_without_a_status() -> None:
    assert past({}, 1) == past({"observedGeneration": -1}, 1) == Past(provisioned=False, ran=False, settled=False)


MOVING = "Moves from DockerHost a to b, since a is being drained."


@given(findings)
def test_a_sandbox_on_its_way_to_another_host_says_so_and_never_that_it_can_be_used(found: Findings) -> None:
    conditions = states(replace(found, moving=MOVING, invalid=None))
    ready, reconciling = conditions[ConditionType.READY], conditions[ConditionType.RECONCILING]
    assert ready.status is not ConditionStatus.TRUE
    assert ready.reason is Reason.MOVING or ready.status is ConditionStatus.UNKNOWN
    assert (reconciling.status, reconciling.reason) == (ConditionStatus.TRUE, Reason.MOVING)


def test_what_a_moved_sandbox_has_no_more_is_no_loss() -> None:
    moved = compose({}, 1, Findings(backend=BackendType.DOCKER, workload=RUNNING, moving=MOVING), NOW)
    assert past(moved, 1) == Past(provisioned=False, ran=True, settled=False)


def test_a_port_that_is_not_published_is_told_and_takes_nothing_else_away() -> None:
    told = "Not published: write another hostPort."
    conditions = conditions_of(
        Findings(backend=BackendType.DOCKER, workload=RUNNING, outcome=Outcome(unpublished=told))
    )
    assert conditions[ConditionType.STALLED] == State(ConditionStatus.TRUE, Reason.PORT_NOT_PUBLISHED, told)
    assert conditions[ConditionType.READY].status is ConditionStatus.TRUE
    assert conditions[ConditionType.RECONCILING].status is ConditionStatus.FALSE
    starting = replace(RUNNING, status=ConditionStatus.FALSE, reason=Reason.POD_PENDING)
    conditions = conditions_of(Findings(workload=starting, outcome=Outcome(unpublished=told)))
    assert conditions[ConditionType.RECONCILING].reason is Reason.PROGRESSING
    assert conditions[ConditionType.STALLED].status is ConditionStatus.FALSE
    # What really stands in the way comes first.
    failing = Outcome(unpublished=told, foreign=("Network x",))
    assert conditions_of(Findings(workload=RUNNING, outcome=failing))[ConditionType.STALLED].reason is (
        Reason.FOREIGN_OBJECT
    )


def test_endpoints_are_told_remembered_and_kept_while_nobody_can_tell() -> None:
    published = replace(RUNNING, endpoints=(("http", "127.0.0.1:49153"),))
    status = compose({}, 1, Findings(backend=BackendType.DOCKER, workload=published), NOW)
    assert status["endpoints"] == [{"name": "http", "address": "127.0.0.1:49153"}]
    assert past(status, 1).endpoints == {"http": "127.0.0.1:49153"}
    assert (
        compose(status, 1, Findings(backend=BackendType.DOCKER, workload=LOST), NOW)["endpoints"]
        == (status["endpoints"])
    )
    assert "endpoints" not in compose(status, 1, Findings(backend=BackendType.DOCKER, workload=RUNNING), NOW)
    # Which reasons mean that not all of the spec was carried out: this one does not, so that what is lost then heals.
    told = Findings(backend=BackendType.DOCKER, workload=published, outcome=Outcome(unpublished="x"))
    assert past(compose({}, 1, told, NOW), 1).settled
