"""What a report takes from a status: never better than what it says, and whole."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from reported_sandboxes import on_docker, on_kubernetes, reported, unmeasured, with_result

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.catalogue import CONTAINER_CONTROLS, CONTROLS, POD_CONTROLS
from claude_sandbox.report.given import NotASandboxError
from claude_sandbox.report.model import Outcome, Sandbox, Verdict

Object = dict[str, Any]


def read(document: Object) -> Sandbox:
    return reported(document).sandboxes[0]


def outcome(document: Object, control: str) -> Outcome:
    (found,) = (one for one in read(document).outcomes if one.control == control)
    return found


def privileged(world: Any) -> None:
    world.agent["securityContext"]["privileged"] = True


def test_a_sandbox_of_which_everything_required_passes_is_compliant_on_both_backends() -> None:
    found = reported(on_kubernetes(), on_docker())
    assert [one.verdict for one in found.sandboxes] == [Verdict.COMPLIANT, Verdict.COMPLIANT]
    assert found.verdict is Verdict.COMPLIANT


@pytest.mark.parametrize(("document", "controls"), [(on_kubernetes(), POD_CONTROLS), (on_docker(), CONTAINER_CONTROLS)])
def test_every_control_of_the_backend_is_in_it_once_in_the_catalogues_order(document: Object, controls: Any) -> None:
    assert [one.control for one in read(document).outcomes] == [one.id for one in controls]


def test_counts_are_those_of_the_status() -> None:
    document = on_kubernetes(privileged)
    summary, count = document["status"]["compliance"]["summary"], read(document).counts
    assert [count[result] for result in Result] == [
        summary[key] for key in ("pass", "fail", "unknown", "notApplicable")
    ]
    assert "{}/{}".format(*read(document).required) == summary["required"]


def test_a_failure_has_the_remedy_of_its_status() -> None:
    found = outcome(with_result(on_kubernetes(), "PRIV-01", Result.FAIL, "x", remedy="Do as this one says."), "PRIV-01")
    assert found.remedy == "Do as this one says."


def stale(document: Object) -> None:
    document["metadata"]["generation"] += 1


def overdue(document: Object) -> None:
    for one in document["status"]["conditions"]:
        if one["type"] == "Compliant":
            one |= {"status": "Unknown", "reason": "EvaluationOverdue", "message": "No evaluation has come to its end."}


def without_condition(document: Object) -> None:
    document["status"]["conditions"] = [one for one in document["status"]["conditions"] if one["type"] != "Compliant"]


@pytest.mark.parametrize("doubt", [stale, overdue, without_condition])
def test_nothing_that_passed_counts_where_the_status_is_not_about_what_is_so_now(
    doubt: Callable[[Object], None],
) -> None:
    document = on_kubernetes()
    doubt(document)
    found = read(document)
    assert {one.result for one in found.outcomes} == {Result.UNKNOWN}
    assert found.verdict is Verdict.NOT_VERIFIED
    assert found.doubt


def test_a_failure_stays_one_where_the_status_is_in_doubt() -> None:
    document = on_kubernetes(privileged)
    stale(document)
    assert outcome(document, "PRIV-01").result is Result.FAIL
    assert read(document).verdict is Verdict.NOT_COMPLIANT


def test_a_sandbox_that_was_never_measured_has_every_control_unknown() -> None:
    found = read(unmeasured())
    assert {one.result for one in found.outcomes} == {Result.UNKNOWN}
    assert len(found.outcomes) == len(POD_CONTROLS)
    assert found.verdict is Verdict.NOT_VERIFIED
    assert found.measured_at is None


def test_a_control_that_the_status_does_not_have_is_unknown() -> None:
    document = on_kubernetes()
    for group in document["status"]["compliance"]["passed"]:
        group["controls"] = [one for one in group["controls"] if one != "PRIV-01"]
    assert outcome(document, "PRIV-01").result is Result.UNKNOWN
    assert read(document).verdict is Verdict.NOT_VERIFIED


def test_of_two_results_of_one_control_the_worse_counts() -> None:
    document = on_kubernetes()
    failing = with_result(document, "PRIV-01", Result.FAIL, "it is", required=True)
    failing["status"]["compliance"]["passed"][0]["controls"].append("PRIV-01")
    assert outcome(failing, "PRIV-01").result is Result.FAIL


def test_a_result_of_a_word_that_is_not_known_is_unknown() -> None:
    document = with_result(on_kubernetes(), "PRIV-01", Result.PASS, required=True)
    document["status"]["compliance"]["controls"][-1]["result"] = "Passed"
    assert outcome(document, "PRIV-01").result is Result.UNKNOWN


def test_a_control_of_a_newer_operator_is_reported_by_what_the_status_says_of_it() -> None:
    document = with_result(on_kubernetes(), "NEW-01", Result.FAIL, "it is new", required=True)
    found = reported(document)
    assert found.controls["NEW-01"].title == "of a test"
    assert not found.controls["NEW-01"].known
    assert found.verdict is Verdict.NOT_COMPLIANT
    assert list(found.controls)[-1] == "NEW-01"


def test_texts_are_shown_as_what_they_are() -> None:
    found = outcome(with_result(on_kubernetes(), "PRIV-01", Result.FAIL, "a\x1b[31m\u202e\nb"), "PRIV-01")
    assert found.message == "a\\x1b[31m\\u202e\\nb"


@pytest.mark.parametrize("name", ["", None, "UP", "a/b", "<b>", "a" * 254, ["a"], "a\n"])
def test_what_no_api_server_would_take_for_a_name_is_refused(name: Any) -> None:
    document = copy.deepcopy(on_kubernetes())
    document["metadata"]["name"] = name
    with pytest.raises(NotASandboxError, match=r"metadata\.name"):
        read(document)


@pytest.mark.parametrize("status", [[], "x", {"compliance": 1}, {"compliance": {"passed": [1], "controls": "x"}}])
def test_a_status_of_another_form_is_no_pass(status: Any) -> None:
    document = on_kubernetes() | {"status": status}
    assert {one.result for one in read(document).outcomes} == {Result.UNKNOWN}


def test_sandboxes_are_in_the_order_of_their_names() -> None:
    found = reported(on_kubernetes(name="b"), on_kubernetes(name="a"), on_kubernetes(name="z", namespace="a"))
    assert [one.full_name for one in found.sandboxes] == ["a/z", "agents/a", "agents/b"]


def test_every_control_has_its_entry_with_the_catalogues_references() -> None:
    found = reported(on_kubernetes(), on_docker()).controls
    assert set(found) == {one.id for one in CONTROLS}
    references = found["NET-01"].references
    assert [(one.version, one.id) for one in references if one.framework == "OWASP Agentic"] == [("2026", "ASI02")]
