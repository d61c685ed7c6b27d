"""The report for pipelines and auditors' tools: SARIF, JUnit and OSCAL say what was found, and no more."""

import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import standards
from reported_sandboxes import fleet, on_docker, on_kubernetes, reported, unmeasured, with_result

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats import junit, oscal, sarif
from claude_sandbox.report.model import Report

HOSTILE = [
    "</script><b>",
    "]]>&\"'\x00\x1b\ud800",
    "{0} [text](https://evil.example) \\",
    "\u2028\uffff\r\n",
    " begins and ends ",
]


def failing(control: str = "PRIV-01", *, required: bool = True, **fields: Any) -> dict[str, Any]:
    return with_result(on_kubernetes(), control, Result.FAIL, "it is", required=required, remedy="Do it.", **fields)


def hostile() -> Report:
    documents = []
    for number, text in enumerate(HOSTILE):
        evidence = {"source": text, "value": text}
        told = {"required": True, "title": text, "remedy": text, "evidence": evidence}
        document = with_result(on_kubernetes(name=f"s{number}"), text[:8], Result.FAIL, text, **told)
        document["metadata"]["uid"] = text
        document["status"]["workload"] = {"name": text, "node": text, "image": text}
        documents.append(document)
    return reported(*documents, scope=HOSTILE[0])


REPORTS = {
    "none": reported(),
    "each kind": reported(on_kubernetes(), failing() | {}, on_docker(), unmeasured()),
    "many": reported(*fleet(20)),
    "hostile": hostile(),
}


def run_of(report: Report) -> Any:
    (run,) = json.loads(sarif.written(report))["runs"]
    return run


def test_sarif_has_what_fails_with_its_remedy_and_nothing_else() -> None:
    run = run_of(reported(failing(), on_docker()))
    (result,) = run["results"]
    (rule,) = run["tool"]["driver"]["rules"]
    assert (result["ruleId"], result["kind"], result["level"]) == ("PRIV-01", "fail", "error")
    assert result["message"]["text"] == "ClaudeSandbox agents/alice: it is. Do it."
    assert (rule["id"], rule["help"]["text"]) == ("PRIV-01", "Do it.")
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]] is rule


def test_sarif_tells_of_what_is_required_and_not_known_without_an_alert() -> None:
    unknown = with_result(on_kubernetes(), "PRIV-01", Result.UNKNOWN, "not read", required=True)
    run = run_of(reported(unknown, unmeasured()))
    told = [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    assert run["results"] == []
    assert "PRIV-01 Not privileged is not known in agents/alice: not read." in told
    assert any(one.startswith("No pass counts of agents/new") for one in told)


def test_sarif_gives_brackets_and_braces_of_a_text_no_meaning() -> None:
    assert sarif.message("[a](b) {0} \\") == {"text": "\\[a\\](b) {{0}} \\\\"}


def parsed(report: Report) -> ET.Element:
    return ET.fromstring(junit.written(report))  # noqa: S314 - what an attack on a reader could be is looked for


def cases(report: Report) -> dict[str, ET.Element]:
    root = parsed(report)
    return {str(one.get("name")).split()[0]: one for one in root.iter("testcase")}


def test_junit_has_a_case_for_each_control_of_each_sandbox_and_counts_them() -> None:
    report = reported(failing(), on_docker(), unmeasured())
    root = parsed(report)
    assert [one.get("name") for one in root] == ["agents/alice", "agents/dora", "agents/new"]
    assert [int(one.get("tests", "")) for one in root] == [len(one.outcomes) for one in report.sandboxes]
    assert root.get("failures") == "1"
    assert root.get("errors") == str(sum(len(one.undecided) for one in report.sandboxes))
    assert root.get("tests") == str(sum(len(one.outcomes) for one in report.sandboxes))


@pytest.mark.parametrize(
    ("result", "required", "kind"),
    [
        (Result.FAIL, True, "failure"),
        (Result.UNKNOWN, True, "error"),
        (Result.FAIL, False, "skipped"),
        (Result.UNKNOWN, False, "skipped"),
        (Result.NOT_APPLICABLE, True, "skipped"),
    ],
)
def test_junit_fails_a_job_for_what_the_verdict_depends_on(result: Result, required: bool, kind: str) -> None:
    case = cases(reported(with_result(on_kubernetes(), "PRIV-01", result, "so it is", required=required)))["PRIV-01"]
    assert [one.tag for one in case] == [kind]
    assert case[0].get("message", "").startswith(result.value)
    assert case[0].get("message", "").endswith("so it is")


def test_junit_has_no_character_that_xml_forbids() -> None:
    assert len(parsed(REPORTS["hostile"])) == len(HOSTILE)


def assessed(report: Report) -> Any:
    (result,) = json.loads(oscal.written(report))["assessment-results"]["results"]
    return result


@pytest.mark.parametrize(
    ("result", "state", "reason"),
    [
        (Result.FAIL, "not-satisfied", "fail"),
        (Result.UNKNOWN, "not-satisfied", "other"),
        (Result.PASS, "satisfied", "pass"),
    ],
)
def test_in_oscal_a_control_is_satisfied_only_where_every_sandbox_passes(
    result: Result, state: str, reason: str
) -> None:
    other = with_result(on_kubernetes(name="bob"), "PRIV-01", result, "so it is", required=True)
    found = {
        one["target"]["target-id"]: one["target"]["status"]
        for one in assessed(reported(on_kubernetes(), other))["findings"]
    }
    assert (found["PRIV-01"]["state"], found["PRIV-01"]["reason"]) == (state, reason)


def test_in_oscal_every_result_of_every_sandbox_is_an_observation_of_it() -> None:
    report = REPORTS["many"]
    result = assessed(report)
    subjects = [one["subject-uuid"] for seen in result["observations"] for one in seen["subjects"]]
    assert len(subjects) == sum(len(one.outcomes) for one in report.sandboxes)
    assert set(subjects) == {one["uuid"] for one in result["local-definitions"]["components"]}


def test_in_oscal_what_applies_nowhere_is_not_said_to_be_satisfied() -> None:
    document = with_result(on_kubernetes(), "PRIV-01", Result.NOT_APPLICABLE, "there is none")
    assert "PRIV-01" not in {one["target"]["target-id"] for one in assessed(reported(document))["findings"]}


def test_oscals_identifiers_are_unique_and_the_same_for_the_same_report() -> None:
    text = oscal.written(REPORTS["each kind"])
    assert text == oscal.written(REPORTS["each kind"])
    result = json.loads(text)["assessment-results"]["results"][0]
    own = [one["uuid"] for kind in ("observations", "findings") for one in result[kind]]
    assert len(own) == len(set(own))
    assert {one["observation-uuid"] for found in result["findings"] for one in found["related-observations"]} <= set(
        own
    )


def empty_lists(document: Any) -> bool:
    if isinstance(document, dict):
        return any(map(empty_lists, document.values()))
    return isinstance(document, list) and (not document or any(map(empty_lists, document)))


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_oscal_has_no_list_that_is_empty(report: Report) -> None:
    """NIST's schema has `minItems` 1 everywhere, and what is made of it does not ask for it."""
    assert not empty_lists(json.loads(oscal.written(report)))


BROKEN: dict[str, dict[str, Callable[[Any], Any]]] = {
    "sarif": {
        "a level that is none": lambda told: told["runs"][0]["results"][0].update(level="fatal"),
        "a result without a message": lambda told: told["runs"][0]["results"][0].pop("message"),
        "a field of nobody's": lambda told: told["runs"][0].update(invented=1),
        "no runs": lambda told: told.pop("runs"),
    },
    "oscal": {
        "an identifier that is none": lambda told: told["assessment-results"].update(uuid="one"),
        "a state that is none": lambda told: told["assessment-results"]["results"][0]["findings"][0]["target"][
            "status"
        ].update(state="maybe"),
        "a field of nobody's": lambda told: told["assessment-results"].update(invented=1),
        "a line that begins with a space": lambda told: told["assessment-results"]["metadata"].update(version=" 1"),
        "no results": lambda told: told.pop("assessment-results"),
    },
}


@pytest.mark.parametrize(("standard", "written"), [("sarif", sarif.written), ("oscal", oscal.written)])
def test_it_is_valid_by_the_standards_own_schema(standard: str, written: Callable[[Report], str]) -> None:
    broken = [json.loads(written(reported(failing()))) for _ in BROKEN[standard]]
    for document, change in zip(broken, BROKEN[standard].values(), strict=True):
        change(document)
    whole = [json.loads(written(report)) for report in REPORTS.values()]
    said = standards.refusals(standard, [*whole, *broken])
    assert dict(zip(REPORTS, said, strict=False)) == dict.fromkeys(REPORTS, "")
    assert [name for name, why in zip(BROKEN[standard], said[len(REPORTS) :], strict=True) if not why] == []
