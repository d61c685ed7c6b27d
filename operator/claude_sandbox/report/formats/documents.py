"""A report as JSON, in a schema of its own: docs/reference/report.schema.json."""

import json
from collections.abc import Iterable
from typing import Any

from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.report.checklists import CheckedList, checked
from claude_sandbox.report.formats.words import moment
from claude_sandbox.report.model import Change, Changes, Condition, ControlEntry, Host, Outcome, Report, Sandbox, Trend

SCHEMA_VERSION = "1.1"
"""Major and minor: a major one takes something away or gives it another meaning, a minor one adds."""


def written(report: Report) -> str:
    """Whole, indented, for programs and for whoever reads it."""
    return json.dumps(document(report), indent=2, ensure_ascii=False)


def document(report: Report) -> dict[str, Any]:
    """As docs/reference/report.schema.json describes it. What is empty is left out, but for lists and messages."""
    passed = [one.required for one in report.sandboxes]
    return {
        "kind": "ClaudeSandboxReport",
        "schemaVersion": SCHEMA_VERSION,
        "generatedAt": moment(report.generated_at),
        "tool": {"name": "claude-sandbox", "version": report.version},
        "origin": report.origin,
        "scope": report.scope,
        **({"note": report.note} if report.note else {}),
        "verdict": report.verdict.value,
        "summary": {
            "sandboxes": {verdict.value: count for verdict, count in report.verdicts.items()},
            "results": {result.value: count for result, count in report.counts.items()},
            "required": {"passed": sum(one[0] for one in passed), "all": sum(one[1] for one in passed)},
        },
        "controls": [_control(one) for one in report.controls.values()],
        "sandboxes": [_sandbox(one) for one in report.sandboxes],
        **(
            {
                "hosts": [_host(one) for one in report.hosts],
                "hostControls": [_control(one) for one in report.host_controls.values()],
            }
            if report.hosts
            else {}
        ),
        "checklists": [_checklist(one) for one in checked(report)],
        **({"changes": _changes(report.changes)} if report.changes else {}),
        **({"trend": _trend(report.trend)} if report.trend else {}),
    }


def _changes(found: Changes) -> dict[str, Any]:
    return {
        "since": found.since,
        "worse": [_change(one) for one in found.worse],
        "better": [_change(one) for one in found.better],
        "new": list(found.new),
        "gone": list(found.gone),
    }


def _trend(found: Trend) -> dict[str, Any]:
    days = [
        {
            "day": one.day.isoformat(),
            "sandboxes": {verdict.value: count for verdict, count in one.sandboxes.items()},
            "worse": one.worse,
            "better": one.better,
            "healed": one.healed,
            "denied": one.denied,
        }
        for one in found.days
    ]
    return {"source": found.source, "days": days}


def _change(one: Change) -> dict[str, Any]:
    was = {"was": one.was.value} if one.was else {}
    return {"sandbox": one.sandbox, "control": one.control, **was, "now": one.now.value}


def _control(control: ControlEntry) -> dict[str, Any]:
    return {
        "id": control.id,
        "title": control.title,
        "severity": control.severity.value,
        "family": control.family,
        **({"level": control.level} if control.level else {}),
        "known": control.known,
        **({"meaning": control.meaning, "why": control.why, "page": control.page} if control.known else {}),
        "references": [
            {"framework": one.framework, "id": one.id, **({"version": one.version} if one.version else {})}
            for one in control.references
        ],
    }


def _sandbox(sandbox: Sandbox) -> dict[str, Any]:
    passed, asked = sandbox.required
    told = {
        "workload": sandbox.workload,
        "place": sandbox.place,
        "image": sandbox.image,
        "measuredAt": moment(sandbox.measured_at) if sandbox.measured_at else "",
        "doubt": sandbox.doubt,
    }
    return {
        "namespace": sandbox.namespace,
        "name": sandbox.name,
        "uid": sandbox.uid,
        "generation": sandbox.generation,
        "backend": sandbox.backend.value,
        "profile": sandbox.profile.value,
        "level": sandbox.level.value,
        "verdict": sandbox.verdict.value,
        **{key: value for key, value in told.items() if value},
        "summary": {
            "results": {result.value: count for result, count in sandbox.counts.items()},
            "required": {"passed": passed, "all": asked},
        },
        "conditions": _conditions(sandbox.conditions),
        "results": [_outcome(one) for one in sandbox.outcomes],
    }


def _host(host: Host) -> dict[str, Any]:
    told = {
        "endpoint": host.endpoint,
        "measuredAt": moment(host.measured_at) if host.measured_at else "",
        "doubt": host.doubt,
    }
    return {
        "name": host.name,
        "uid": host.uid,
        "generation": host.generation,
        "verdict": host.verdict.value,
        **{key: value for key, value in told.items() if value},
        "facts": [{"name": name, "value": value} for name, value in host.facts.items()],
        "placed": host.placed,
        "sandboxes": list(host.sandboxes),
        "conditions": _conditions(host.conditions),
        "results": [_outcome(one) for one in host.outcomes],
    }


def _conditions(conditions: Iterable[Condition]) -> list[dict[str, str]]:
    return [
        {"type": one.type, "status": one.status, "reason": one.reason, "message": one.message} for one in conditions
    ]


def _outcome(outcome: Outcome) -> dict[str, Any]:
    read = outcome.evidence
    evidence: dict[str, Any] = {}
    if read is not None:
        told = {"observedAt": moment(read.observed_at) if read.observed_at else "", "value": read.value}
        evidence = {"evidence": {"source": read.source, **{key: value for key, value in told.items() if value}}}
    return {
        "control": outcome.control,
        "result": outcome.result.value,
        "required": outcome.required,
        "message": outcome.message,
        **({"remedy": outcome.remedy} if outcome.remedy else {}),
        **evidence,
        **({"exception": _exception(outcome.exemption)} if outcome.exemption else {}),
    }


def _exception(one: Exemption) -> dict[str, Any]:
    return {"reason": one.reason, "owner": one.owner, "expires": one.expires.isoformat()}


def _checklist(found: CheckedList) -> dict[str, Any]:
    return {
        "title": found.title,
        "lines": [
            {
                "text": line.text,
                "result": line.result.value,
                "why": line.why,
                "controls": list(line.controls),
                "sandboxes": list(line.sandboxes),
            }
            for line in found.lines
        ],
    }
