"""A report as SARIF 2.1.0 (OASIS, errata 01), for code scanning.

Only what fails is a result: some readers take every result for an alert. What is required and not known is told as a
notification of the run, which no reader takes for an alert, and none for a pass.
"""

import json
from collections.abc import Iterator
from typing import Any

from claude_sandbox.api.meta import PLURAL
from claude_sandbox.api.status import Result, Severity
from claude_sandbox.report.formats.words import TOOL, doubts, excepted, gathered, moment
from claude_sandbox.report.model import ControlEntry, Outcome, Report, Sandbox

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.CRITICAL: "error", Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note"}
"""Of a result, by how bad a failure of its control is."""
_SCORES = {Severity.CRITICAL: "9.5", Severity.HIGH: "8.0", Severity.MEDIUM: "5.5", Severity.LOW: "2.0"}
"""GitHub shows a rule as critical, high, medium or low by such a number, as of CVSS."""


def written(report: Report) -> str:
    """A log of one run."""
    failing = [(sandbox, one) for sandbox in report.sandboxes for one in sandbox.outcomes if one.result is Result.FAIL]
    concerned = {one.control for _, one in failing}
    rules = {identifier: one for identifier, one in report.controls.items() if identifier in concerned}
    places = {identifier: place for place, identifier in enumerate(rules)}
    remedies = {one.control: one.remedy for _, one in reversed(failing)}
    run = {
        "tool": {
            "driver": {
                "name": TOOL,
                "version": report.version,
                "rules": [_rule(one, remedies[one.id]) for one in rules.values()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "endTimeUtc": moment(report.generated_at),
                "toolExecutionNotifications": list(_notifications(report)),
            }
        ],
        "results": [
            _result(sandbox, one, places[one.control], report.controls[one.control]) for sandbox, one in failing
        ],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def message(text: str) -> dict[str, str]:
    """The text as a message that shows it: SARIF gives brackets, braces and backslashes a meaning (§3.11.5, 3.11.6)."""
    for character in "\\[]":
        text = text.replace(character, "\\" + character)
    return {"text": text.replace("{", "{{").replace("}", "}}")}


def _rule(control: ControlEntry, remedy: str) -> dict[str, Any]:
    tags = ["security", *dict.fromkeys(f"{one.framework} {one.id}" for one in control.references)]
    return {
        "id": control.id,
        "shortDescription": message(control.title),
        **({"fullDescription": message(f"{control.meaning} {control.why}")} if control.known else {}),
        **({"help": message(remedy)} if remedy else {}),
        "defaultConfiguration": {"level": LEVELS[control.severity]},
        "properties": {"tags": tags, "security-severity": _SCORES[control.severity]},
    }


def _result(sandbox: Sandbox, outcome: Outcome, place: int, control: ControlEntry) -> dict[str, Any]:
    told = f"ClaudeSandbox {sandbox.full_name}: {outcome.message or control.title}. {outcome.remedy}".rstrip()
    uri = f"namespaces/{sandbox.namespace}/{PLURAL}/{sandbox.name}"
    return {
        "ruleId": outcome.control,
        "ruleIndex": place,
        "kind": "fail",
        "level": LEVELS[control.severity],
        "message": message(told),
        "locations": [
            {
                # Code scanning takes nothing without a file; this is the resource's place in the API.
                "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": f"ClaudeSandbox {sandbox.full_name}", "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"sandboxAndControl/v1": f"{sandbox.full_name} {outcome.control}"},
        **({"suppressions": [_suppression(outcome)]} if outcome.exemption else {}),
        "properties": {"required": outcome.required},
    }


def _suppression(outcome: Outcome) -> dict[str, Any]:
    told = message(f"Excepted {excepted(outcome)}")["text"]
    return {"kind": "external", "status": "accepted", "justification": told}


def _notifications(report: Report) -> Iterator[dict[str, Any]]:
    if report.note:
        yield {"level": "warning", "message": message(report.note)}
    for doubt, names in doubts(report).items():
        yield {"level": "warning", "message": message(f"No pass counts of {', '.join(names)}: {doubt}.")}
    for one in gathered(report, Result.UNKNOWN):
        if one.outcome.decides:
            text = f"{one.control.id} {one.control.title} is not known in {', '.join(one.sandboxes)}"
            yield {"level": "warning", "message": message(f"{text}: {one.outcome.message or 'no reason is given'}.")}
