"""What was found, for people, for programs and for code scanning: a table, JSON and SARIF."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.reports.findings import Finding, summary
from claude_sandbox.report.formats.sarif import LEVELS, SCHEMA, message

_COLOURS = {Result.PASS: "green", Result.FAIL: "red", Result.UNKNOWN: "yellow", Result.NOT_APPLICABLE: None}
_COLUMNS = ("ID", "RESULT", "SEVERITY", "TITLE", "EVIDENCE")


@dataclass(frozen=True)
class Report:
    """What was found of one target. `target` says what it is: kind, name, and what tells it apart from others."""

    target: Mapping[str, str]
    findings: tuple[Finding, ...]
    evaluated_at: datetime
    file: str = ""
    """The file that was judged, where it was one."""
    line: int = 0
    """Where in the file it begins, from 1; 0 where that is not known."""
    source: str = ""
    """Where all evidence is from, where that is nothing that a status knows."""
    note: str = ""
    """What has to be said about how it was judged."""

    @property
    def failing(self) -> tuple[Finding, ...]:
        """Those required that fail."""
        return tuple(one for one in self.findings if one.required and one.result is Result.FAIL)

    @property
    def undecided(self) -> tuple[Finding, ...]:
        """Those required of which it is not known whether they hold."""
        return tuple(one for one in self.findings if one.required and one.result is Result.UNKNOWN)


def as_table(reports: Sequence[Report], *, only_failures: bool) -> str:
    """For people. Coloured; characters that could play tricks with a terminal are shown as what they are."""
    return "\n\n".join("\n".join(_table(report, only_failures)) for report in reports)


def as_json(reports: Sequence[Report], *, only_failures: bool) -> str:
    """A list with, for each target, what a ClaudeSandbox has in `status.compliance`, and the target."""
    return json.dumps([_document(report, only_failures) for report in reports], indent=2, ensure_ascii=False)


def as_sarif(reports: Sequence[Report], version: str) -> str:
    """SARIF 2.1.0 with what fails and nothing else: some of its readers take every result for an alert."""
    rules: dict[str, Finding] = {}
    results = []
    for report in reports:
        for finding in _failures(report):
            rules.setdefault(finding.control.id, finding)
            index = list(rules).index(finding.control.id)
            results.append(_sarif_result(report, finding, index))
    driver = {"name": "claude-sandbox check", "version": version, "rules": [_rule(one) for one in rules.values()]}
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(log, indent=2, ensure_ascii=False)


def verdict(report: Report) -> str:
    """In one sentence, whether everything required holds."""
    said = []
    if report.failing:
        said.append(f"{_ids(report.failing)} fail" + ("s" if len(report.failing) == 1 else ""))
    if report.undecided:
        said.append(f"{_ids(report.undecided)} can't be verified")
    if not said:
        return f"Compliant: {summary(report.findings).required} required controls pass{_but_for(report)}."
    return f"{'Not compliant' if report.failing else 'Not verified'}: {'; '.join(said)}{_but_for(report)}."


def _but_for(report: Report) -> str:
    excepted = [one for one in report.findings if one.exemption is not None]
    return f"; excepted: {_ids(excepted)}" if excepted else ""


def name_of(report: Report) -> str:
    """The target, as it is called."""
    target = report.target
    name = "/".join(target[key] for key in ("namespace", "name") if key in target)
    return f"{target['kind']} {name}"


def _table(report: Report, only_failures: bool) -> Iterable[str]:
    count = summary(report.findings)
    counts = f"{count.pass_} pass, {count.fail} fail, {count.unknown} unknown, {count.not_applicable} not applicable"
    where = f"{report.file}:{report.line}: " if report.file and report.line else ""
    yield click.style(_plain(where + name_of(report)), bold=True) + f"  {counts}; required: {count.required}"
    if report.note:
        yield f"Note: {_plain(report.note)}."
    shown = _failures(report) if only_failures else report.findings
    if shown:
        yield ""
        yield from _rows(shown)
    failures = tuple(one for one in _failures(report) if one.exemption is None)
    if failures:
        yield ""
        yield "What to do:"
        yield from (f"  {one.control.id:<8} {one.remedy}" for one in failures)
    yield ""
    yield _plain(verdict(report))


def _rows(findings: Sequence[Finding]) -> Iterable[str]:
    rows = [
        (
            one.control.id,
            "Excepted" if one.exemption is not None else one.result.value,
            one.control.severity.value + ("" if one.required or one.exemption is not None else ", optional"),
            one.control.title,
            _plain(_evidence_of(one)),
        )
        for one in findings
    ]
    widths = [max(len(row[column]) for row in (_COLUMNS, *rows)) for column in range(len(_COLUMNS))]
    yield "  ".join(cell.ljust(width) for cell, width in zip(_COLUMNS, widths, strict=True)).rstrip()
    for finding, row in zip(findings, rows, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        colour = _COLOURS[Result.UNKNOWN if finding.exemption is not None else finding.result]
        cells[1] = click.style(cells[1], fg=colour)
        yield "  ".join(cells).rstrip()


def _evidence_of(finding: Finding) -> str:
    exemption = finding.exemption
    told = finding.verdict.message or finding.verdict.value
    if exemption is None:
        return told
    return f"{told} [{finding.result.value}, until {exemption.expires} by {exemption.owner}: {exemption.reason}]"


def _failures(report: Report) -> tuple[Finding, ...]:
    return tuple(one for one in report.findings if one.result is Result.FAIL)


def _document(report: Report, only_failures: bool) -> dict[str, Any]:
    shown = _failures(report) if only_failures else report.findings
    return {
        "target": dict(report.target),
        "summary": summary(report.findings).model_dump(by_alias=True),
        "evaluatedAt": _time(report.evaluated_at),
        "controls": [_control(finding, report) for finding in shown],
        **({"note": report.note} if report.note else {}),
    }


def _control(finding: Finding, report: Report) -> dict[str, Any]:
    control = finding.control
    evidence: dict[str, Any] = {}
    if report.source:
        evidence = {"evidence": {"source": report.source, "value": finding.verdict.value}}
    if finding.source is not None and finding.observed_at is not None:
        read = {"source": finding.source.value, "observedAt": _time(finding.observed_at)}
        evidence = {"evidence": read | {"value": finding.verdict.value}}
    return {
        "id": control.id,
        "title": control.title,
        "result": finding.result.value,
        "severity": control.severity.value,
        "required": finding.required,
        **evidence,
        "message": finding.verdict.message,
        "remedy": finding.remedy,
        **_exception(finding.exemption),
    }


def _exception(exemption: Exemption | None) -> dict[str, Any]:
    if exemption is None:
        return {}
    told = {"reason": exemption.reason, "owner": exemption.owner, "expires": exemption.expires.isoformat()}
    return {"exception": told}


def _sarif_result(report: Report, finding: Finding, index: int) -> dict[str, Any]:
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": name_of(report), "kind": "resource"}]}
    if report.file:
        location["physicalLocation"] = {"artifactLocation": {"uri": report.file}}
    if report.file and report.line:
        location["physicalLocation"]["region"] = {"startLine": report.line}
    return {
        "ruleId": finding.control.id,
        "ruleIndex": index,
        "kind": "fail",
        "level": LEVELS[finding.control.severity],
        "message": message(f"{name_of(report)}: {finding.verdict.message}. {finding.remedy}"),
        "locations": [location],
        "partialFingerprints": {"targetAndControl/v1": f"{_fingerprint(report)} {finding.control.id}"},
        "properties": {"required": finding.required},
        **_suppressed(finding.exemption),
    }


def _suppressed(exemption: Exemption | None) -> dict[str, Any]:
    """Code scanning shows it as dismissed, with the reason (SARIF 2.1.0, 3.35)."""
    if exemption is None:
        return {}
    told = message(f"{exemption.reason} ({exemption.owner}, until {exemption.expires})")["text"]
    return {"suppressions": [{"kind": "external", "status": "accepted", "justification": told}]}


def _fingerprint(report: Report) -> str:
    """What tells it apart from others: the same name may be in several files, and on another line tomorrow."""
    return f"{report.file} {name_of(report)}" if report.line else name_of(report)


def _rule(finding: Finding) -> dict[str, Any]:
    control = finding.control
    return {
        "id": control.id,
        "shortDescription": message(control.title),
        "help": message(finding.remedy),
        "defaultConfiguration": {"level": LEVELS[control.severity]},
        "properties": {"tags": [f"{one.framework} {one.id}" for one in control.mappings]},
    }


def _ids(findings: Iterable[Finding]) -> str:
    return ", ".join(finding.control.id for finding in findings)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
