"""A report as assessment results of OSCAL 1.1.2 (NIST), as JSON.

A sandbox is a component. An observation is one result of one control for one reason, with every sandbox that has it.
A finding is a control, satisfied only where it passes in every sandbox that it applies to. OSCAL knows no Unknown:
that is not satisfied, with the reason `other` and a remark. A control that applies nowhere has no finding.

The same report gives the same identifiers.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from claude_sandbox.api.meta import GROUP
from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.words import Found, excepted, gathered, moment
from claude_sandbox.report.model import ControlEntry, Report, Sandbox, sentence

OSCAL = "1.1.2"
_NS = f"https://{GROUP}"
_WORST = (Result.FAIL, Result.UNKNOWN, Result.PASS)
_TOKEN = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class _Ids:
    """Identifiers that follow from what they are of."""

    report: str

    def of(self, *what: str) -> str:
        return str(uuid5(NAMESPACE_URL, "\0".join((_NS, self.report, *what))))


def written(report: Report) -> str:
    """The document."""
    moments = (report.origin, report.scope, report.version, moment(report.generated_at))
    ids = _Ids("\0".join((*moments, *(one.uid for one in report.sandboxes))))
    plan = ids.of("plan")
    results = {
        "uuid": ids.of("assessment-results"),
        "metadata": {
            "title": "Compliance of ClaudeSandboxes",
            "last-modified": moment(report.generated_at),
            "version": _line(report.version),
            "oscal-version": OSCAL,
        },
        "import-ap": {"href": f"#{plan}"},
        "results": [_result(report, ids)],
        "back-matter": {
            "resources": [
                {
                    "uuid": plan,
                    "title": "The catalogue of controls",
                    "description": "What is assessed, and how: docs/reference/controls.md of claude-sandbox-operator.",
                }
            ]
        },
    }
    return json.dumps({"assessment-results": results}, indent=2, ensure_ascii=False)


def _result(report: Report, ids: _Ids) -> dict[str, Any]:
    found = list(gathered(report, *Result, doubted=True))
    told = (sentence(report), f"Asked for: {report.scope}.", f"Read from {report.origin}.", report.note)
    selection: dict[str, Any] = {"include-controls": [{"control-id": _token(one)} for one in report.controls]}
    components = {"components": [_component(one, ids) for one in report.sandboxes]}
    observations = [_observation(one, report, ids) for one in found]
    findings = list(_findings(report, found, ids))
    return {
        "uuid": ids.of("result"),
        "title": "What the operator measured",
        "description": " ".join(filter(None, told)),
        "start": moment(report.generated_at),
        "end": moment(report.generated_at),
        # No list may be empty.
        **({"local-definitions": components} if report.sandboxes else {}),
        "reviewed-controls": {"control-selections": [selection if report.controls else {"include-all": {}}]},
        **({"observations": observations} if observations else {}),
        **({"findings": findings} if findings else {}),
    }


def _component(sandbox: Sandbox, ids: _Ids) -> dict[str, Any]:
    told = {
        "uid": sandbox.uid,
        "backend": sandbox.backend.value,
        "profile": sandbox.profile.value,
        "verdict": sandbox.verdict.value,
        "image": sandbox.image,
    }
    return {
        "uuid": _component_id(sandbox.full_name, ids),
        "type": "service",
        "title": sandbox.full_name,
        "description": f"ClaudeSandbox {sandbox.full_name}" + (f": {sandbox.doubt}" if sandbox.doubt else ""),
        "props": [{"name": name, "ns": _NS, "value": _line(value)} for name, value in told.items() if _line(value)],
        "status": {"state": "operational" if sandbox.workload else "other"},
    }


def _observation(found: Found, report: Report, ids: _Ids) -> dict[str, Any]:
    control, outcome = found.control, found.outcome
    told = f"{outcome.result.value}: {outcome.message}" if outcome.message else outcome.result.value
    evidence = outcome.evidence
    at = evidence.observed_at if evidence is not None else None
    read = [f"Read from {evidence.source}", evidence.value] if evidence is not None else []
    props = {"control": control.id, "result": outcome.result.value, "required": str(outcome.required).lower()}
    remarks = [f"Excepted {excepted(outcome)}."] if outcome.exemption else []
    remarks += [f"Remedy: {outcome.remedy}"] if outcome.remedy else []
    return {
        "uuid": _observation_id(found, ids),
        "title": _line(f"{control.id} {control.title}"),
        "description": told,
        "props": [{"name": name, "ns": _NS, "value": _line(value) or "-"} for name, value in props.items()],
        "methods": ["EXAMINE" if outcome.result in (Result.PASS, Result.FAIL) else "UNKNOWN"],
        "subjects": [{"subject-uuid": _component_id(name, ids), "type": "component"} for name in found.sandboxes],
        **({"relevant-evidence": [{"description": ": ".join(filter(None, read))}]} if read else {}),
        "collected": moment(at or report.generated_at),
        **({"remarks": " ".join(remarks)} if remarks else {}),
    }


def _findings(report: Report, found: Iterable[Found], ids: _Ids) -> Iterator[dict[str, Any]]:
    those: dict[str, list[Found]] = {}
    for one in found:
        if one.outcome.result is not Result.NOT_APPLICABLE:
            those.setdefault(one.control.id, []).append(one)
    for control in report.controls.values():
        if control.id in those:
            yield _finding(control, those[control.id], ids)


def _finding(control: ControlEntry, found: list[Found], ids: _Ids) -> dict[str, Any]:
    worst = min((one.outcome.result for one in found), key=_WORST.index)
    status: dict[str, Any] = {"state": "satisfied", "reason": "pass"}
    if worst is Result.FAIL:
        status = {"state": "not-satisfied", "reason": "fail"}
    if worst is Result.UNKNOWN:
        status = {"state": "not-satisfied", "reason": "other", "remarks": "Unknown: it could not be verified."}
    count = {result: sum(len(one.sandboxes) for one in found if one.outcome.result is result) for result in _WORST}
    return {
        "uuid": ids.of("finding", control.id),
        "title": _line(f"{control.id} {control.title}"),
        "description": ", ".join(f"{result.value} in {number}" for result, number in count.items() if number)
        + f" of the sandboxes. Severity {control.severity.value}.",
        "target": {"type": "objective-id", "target-id": _token(control.id), "status": status},
        "related-observations": [{"observation-uuid": _observation_id(one, ids)} for one in found],
    }


def _component_id(full_name: str, ids: _Ids) -> str:
    return ids.of("component", full_name)


def _observation_id(found: Found, ids: _Ids) -> str:
    one = found.outcome
    return ids.of("observation", found.control.id, one.result.value, str(one.required), one.message, excepted(one))


def _token(identifier: str) -> str:
    """As a token of OSCAL: it begins with a letter or an underscore."""
    token = _TOKEN.sub("_", identifier)
    return token if token[:1].isalpha() else f"_{token}"


def _line(text: str) -> str:
    """As a text of OSCAL, which neither begins nor ends with a space."""
    return text.strip()
