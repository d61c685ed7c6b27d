"""What of a change is recorded, and what is not."""

from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from reported_sandboxes import on_kubernetes

from claude_sandbox.controller.trail import changes
from claude_sandbox.controller.trail.recorder import Recorder
from claude_sandbox.kubernetes_api.informers.transforms import PROJECTIONS
from claude_sandbox.kubernetes_api.resources import SANDBOXES
from claude_sandbox.trail.records import Kind, Record


class Writer:
    """Keeps what is to be written."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def start(self) -> None:
        pass

    def put(self, record: Record, *, limited: bool = True) -> bool:
        self.records.append(record)
        return True

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.records]


def _object(generation: int = 1, uid: str = "u", observed: int | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "claudesandbox.dev/v1alpha1",
        "kind": "ClaudeSandbox",
        "metadata": {
            "namespace": "agents", "name": "alice", "uid": uid, "generation": generation,
            "managedFields": [{"manager": "kubectl", "operation": "Update", "time": "2026-01-01T00:00:00Z"}],
        },
        "spec": spec,
        "status": {} if observed is None else {"observedGeneration": observed},
    }  # fmt: skip


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def recorder(writer: Writer) -> Recorder:
    made = Recorder(writer)  # type: ignore[arg-type]
    made.begin({"version": "1"})
    writer.records.clear()
    return made


def _compliance(**results: str) -> dict[str, Any]:
    failing = [
        {"id": control.replace("_", "-"), "result": result, "required": True, "message": "m",
         "evidence": {"source": "LiveObject", "value": "v"}}
        for control, result in results.items()
        if result != "Pass"
    ]  # fmt: skip
    passed = [control.replace("_", "-") for control, result in results.items() if result == "Pass"]
    return {"compliance": {"passed": [{"source": "LiveObject", "controls": passed}], "controls": failing}}


def test_the_first_results_are_recorded_whole_and_then_what_changes() -> None:
    one, other = _compliance(A_01="Pass", B_02="Fail"), _compliance(A_01="Fail", B_02="Fail")
    [(kind, data)] = changes.of_status({}, one)
    assert (kind, data) == (Kind.RESULTS_CHANGED, {"measured": True, "results": {"Pass": ["A-01"], "Fail": ["B-02"]}})
    [(_, data)] = changes.of_status(one, other)
    assert data["changes"] == [
        {"control": "A-01", "before": "Pass", "after": "Fail", "required": True, "message": "m",
         "source": "LiveObject", "value": "v"}
    ]  # fmt: skip
    assert list(changes.of_status(other, deepcopy(other))) == []
    assert list(changes.of_status(one, {})) == [(Kind.RESULTS_CHANGED, {"measured": False})]


def test_a_status_as_the_operator_writes_it_is_understood() -> None:
    status = on_kubernetes()["status"]
    found = dict(changes.of_status({}, status))
    assert Kind.RESULTS_CHANGED in found
    assert {one["type"] for one in found[Kind.CONDITION_CHANGED]["conditions"]} >= {"Ready", "Compliant"}
    assert list(changes.of_status(status, status)) == []


def test_a_condition_is_recorded_when_its_status_changes_and_not_its_message() -> None:
    def said(status: str, message: str) -> dict[str, Any]:
        return {"conditions": [{"type": "Ready", "status": status, "reason": "R", "message": message}]}

    assert list(changes.of_status(said("True", "a"), said("True", "b"))) == []
    [(kind, _)] = changes.of_status(said("True", "a"), said("False", "b"))
    assert kind == Kind.CONDITION_CHANGED


def test_what_is_denied_is_recorded_once() -> None:
    one = {"what": "Destination", "entry": "a.example.org"}
    other = {"what": "Model", "entry": "claude-x"}
    [(kind, data)] = changes.of_status({"usage": {"denied": [one]}}, {"usage": {"denied": [one, other]}})
    assert (kind, data) == (Kind.DENIED, {"denied": [other]})


def test_of_a_spec_its_paths_are_recorded_and_not_its_values(recorder: Recorder, writer: Writer) -> None:
    recorder.seen(_object(1, image={"env": {"A": "hunter2"}}))
    recorder.seen(_object(2, image={"env": {"A": "hunter3"}}, network={}))
    assert writer.kinds == ["SandboxCreated", "SpecChanged"]
    assert writer.records[1].data["changed"] == ["spec.image.env", "spec.network"]
    assert "hunter" not in str(writer.records)
    assert writer.records[1].data["by"]["manager"] == "kubectl"


def test_a_change_of_the_status_alone_is_none_of_the_spec(recorder: Recorder, writer: Writer) -> None:
    recorder.seen(_object(1))
    recorder.seen(_object(1, observed=1))
    assert writer.kinds == ["SandboxCreated"]


def test_what_was_seen_before_this_replica_worked_is_recorded_where_nobody_worked_on_it() -> None:
    writer = Writer()
    recorder = Recorder(writer)  # type: ignore[arg-type]
    recorder.seen(_object(1, observed=1))
    recorder.begin({})
    assert writer.kinds == ["OperatorStarted"]
    writer.records.clear()
    other = Recorder(writer)  # type: ignore[arg-type]
    other.seen(_object(1, observed=1))
    other.seen(_object(3, observed=1))
    assert writer.records == []
    other.begin({})
    assert writer.kinds == ["OperatorStarted", "SpecChanged"]


def test_a_sandbox_of_the_same_name_is_another(recorder: Recorder, writer: Writer) -> None:
    recorder.seen(_object(1, uid="one"))
    recorder.seen(_object(1, uid="other"))
    assert [(one.kind, one.about.uid) for one in writer.records if one.about] == [
        ("SandboxCreated", "one"), ("SandboxDeleted", "one"), ("SandboxCreated", "other")
    ]  # fmt: skip


def test_exceptions_are_recorded_whole(recorder: Recorder, writer: Writer) -> None:
    one = {"control": "IMG-01", "reason": "because", "owner": "o", "expires": "2026-12-01"}
    recorder.seen(_object(1, compliance={"exceptions": [one]}))
    recorder.seen(_object(2, compliance={"exceptions": []}))
    data = [record.data for record in writer.records if record.kind == Kind.EXCEPTIONS_CHANGED]
    assert (data[0]["added"], data[0]["removed"]) == ([one], [])
    assert (data[1]["added"], data[1]["removed"]) == ([], [one])


def test_an_incident_is_recorded_with_who_declared_and_lifted_it(recorder: Recorder, writer: Writer) -> None:
    recorder.seen(_object(1))
    recorder.seen(_object(2, incident={"state": "Quarantined", "note": "it scans the network"}))
    recorder.seen(_object(3, incident={"state": "None"}))
    found = [record.data for record in writer.records if record.kind == Kind.INCIDENT]
    assert [(one["before"], one["after"], one.get("note")) for one in found] == [
        ("None", "Quarantined", "it scans the network"), ("Quarantined", "None", None)
    ]  # fmt: skip
    assert found[1]["by"]["manager"] == "kubectl"
    recorder.told(_object(), "Quarantined", "Nothing of it goes on.")
    assert writer.records[-1].kind == Kind.INCIDENT


def test_no_secret_and_nothing_that_a_terminal_obeys_gets_in(recorder: Recorder, writer: Writer) -> None:
    recorder.told(_object(), "Refused", "the key sk-ant-api03-abcdefghijklmnop is wrong \x1b[2J")
    [record] = writer.records
    assert record.kind == Kind.REFUSED
    assert "abcdefgh" not in str(record.data)
    assert "\x1b" not in str(record.data)


def test_what_a_status_will_say_is_recorded_once_though_its_write_fails_and_is_tried_again(
    recorder: Recorder, writer: Writer
) -> None:
    after = {"conditions": [{"type": "Ready", "status": "True", "reason": "R"}]}
    for _ in range(3):
        recorder.status(_object(), after)
    assert writer.kinds == ["ConditionChanged"]
    recorder.status(_object(), _compliance(A_01="Pass"))
    assert writer.kinds == ["ConditionChanged", "ResultsChanged"]
    recorder.written(_object())
    recorder.status(_object(), _compliance(A_01="Pass"))
    assert writer.kinds == ["ConditionChanged", "ResultsChanged", "ResultsChanged"]


def test_an_event_of_another_reason_is_no_record(recorder: Recorder, writer: Writer) -> None:
    recorder.told(_object(), "Created", "Created it.")
    assert writer.records == []


def test_who_is_told_that_it_can_not_be_recorded_goes_on(recorder: Recorder, writer: Writer, tmp_path: Path) -> None:
    class Strange:
        def __str__(self) -> str:
            raise RuntimeError(tmp_path)

    recorder.append(Kind.INCIDENT, {"metadata": {}}, {"a": Strange()})
    assert writer.records == []


def test_without_a_trail_nothing_is_kept() -> None:
    recorder = Recorder()
    recorder.begin({})
    recorder.seen(_object())
    recorder.told(_object(), "Healed", "m")
    recorder.status(_object(), {})
    assert recorder._known == {}


def test_what_was_done_in_an_incident_is_recorded_with_the_checksum_of_its_evidence() -> None:
    contained = {"state": "Quarantined", "since": "2026-11-29T12:00:00Z", "containedWithin": "0.12s"}
    kept = {**contained, "evidence": {"place": "keeper:/evidence/1.tar", "sha256": "a" * 64}}
    steps: list[dict[str, Any]] = [{}, {"incident": contained}, {"incident": kept}, {"incident": kept}, {}]
    found = [list(changes.of_status(*pair)) for pair in pairwise(steps)]
    assert [[kind for kind, _ in one] for one in found] == [[Kind.INCIDENT]] * 2 + [[], [Kind.INCIDENT]]
    assert found[1][0][1]["after"]["evidence"]["sha256"] == "a" * 64
    assert found[3][0][1] == {"before": kept, "after": None}


def test_of_who_wrote_in_the_same_second_all_are_named() -> None:
    def entry(manager: str, second: int, **more: str) -> dict[str, str]:
        return {"manager": manager, "operation": "Update", "time": f"2026-01-01T00:00:0{second}Z", **more}

    fields = [entry("creator", 2), entry("user", 2), entry("earlier", 1), entry("operator", 3, subresource="status")]
    wanted = {"manager": "creator, user", "operation": "Update", "time": "2026-01-01T00:00:02Z"}
    assert changes.author({"managedFields": fields}) == wanted
    kept = PROJECTIONS[SANDBOXES]({"metadata": {"managedFields": fields}})["metadata"]
    assert changes.author(kept) == wanted
    assert changes.author({}) == {}
