"""What was found as JUnit's XML, which CI systems read: a suite for each target, a case for each control.

A system that reads it fails a job for a failure or an error, as the exit code does: what is required is a failure where
it fails and an error where it is not known, and the rest of what does not pass is skipped, with what it is.
"""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from claude_sandbox.api.clip import plain
from claude_sandbox.api.status import Result
from claude_sandbox.cli.check.reports import Report, name_of
from claude_sandbox.compliance.reports.findings import Finding


def as_junit(reports: Sequence[Report], *, only_failures: bool, allow_unknown: bool) -> str:
    """The document, with its declaration. `allow_unknown`: what is not known stops nothing."""
    root = ET.Element("testsuites", name="claude-sandbox check")
    for report in reports:
        root.append(_suite(report, only_failures, allow_unknown))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(report: Report, only_failures: bool, allow_unknown: bool) -> ET.Element:
    name = plain(f"{report.file}: {name_of(report)}" if report.file else name_of(report))
    suite = ET.Element("testsuite", name=name, time="0")
    suite.set("timestamp", report.evaluated_at.strftime("%Y-%m-%dT%H:%M:%S"))
    for finding in report.findings:
        if not only_failures or finding.result is Result.FAIL:
            suite.append(_case(report, finding, allow_unknown))
    suite.set("tests", str(len(suite)))
    for counted, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(counted, str(len(suite.findall(f"testcase/{kind}"))))
    return suite


def _case(report: Report, finding: Finding, allow_unknown: bool) -> ET.Element:
    # A full stop would make a package of what is before it.
    place = plain(name_of(report)).replace(".", "-").replace("/", ".")
    case = ET.Element("testcase", classname=place, name=f"{finding.control.id} {finding.control.title}", time="0")
    if report.file:
        case.set("file", plain(report.file))
    if report.file and report.line:
        case.set("line", str(report.line))
    if finding.result is Result.PASS:
        return case
    why = plain(finding.verdict.message or finding.verdict.value or "no reason is given")
    fails, unknown = (finding.required and finding.result is one for one in (Result.FAIL, Result.UNKNOWN))
    if fails or (unknown and not allow_unknown):
        kind = "failure" if fails else "error"
        bad = ET.SubElement(case, kind, type=finding.control.severity.value, message=f"{finding.result.value}: {why}")
        told = (("Evidence", finding.verdict.value), ("Remedy", finding.remedy))
        bad.text = "\n".join(f"{name}: {plain(value)}" for name, value in told if value)
        return case
    ET.SubElement(case, "skipped", message=f"{finding.result.value}{_why_not_asked(finding)}: {why}")
    return case


def _why_not_asked(finding: Finding) -> str:
    exemption = finding.exemption
    if exemption is not None:
        told = f"until {exemption.expires} by {exemption.owner}: {exemption.reason}"
        return plain(f", excepted {told}")
    return "" if finding.required or finding.result is Result.NOT_APPLICABLE else ", not required"
