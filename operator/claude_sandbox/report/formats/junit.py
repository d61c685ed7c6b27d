"""A report as JUnit's XML, which CI systems read: a suite for each sandbox, a case for each control.

A system that reads it fails a job for a failure or an error. So what the verdict depends on is one of these, a failure
where it fails and an error where it is not known, and the rest of what does not pass is skipped, with what it is.
"""

from xml.etree import ElementTree as ET

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.words import TOOL, asked, excepted
from claude_sandbox.report.model import ControlEntry, Outcome, Report, Sandbox


def written(report: Report) -> str:
    """The document, with its declaration."""
    root = ET.Element("testsuites", name=TOOL)
    for sandbox in report.sandboxes:
        root.append(_suite(sandbox, report))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(sandbox: Sandbox, report: Report) -> ET.Element:
    suite = ET.Element("testsuite", name=sandbox.full_name, time="0")
    suite.set("timestamp", report.generated_at.strftime("%Y-%m-%dT%H:%M:%S"))
    properties = ET.SubElement(suite, "properties")
    told = {"backend": sandbox.backend.value, "profile": sandbox.profile.value, "verdict": sandbox.verdict.value}
    for name, value in told.items():
        ET.SubElement(properties, "property", name=name, value=value)
    for outcome in sandbox.outcomes:
        suite.append(_case(sandbox, outcome, report.controls[outcome.control]))
    suite.set("tests", str(len(sandbox.outcomes)))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{kind}"))))
    return suite


def _case(sandbox: Sandbox, outcome: Outcome, control: ControlEntry) -> ET.Element:
    # A full stop would make a package of what is before it.
    place = sandbox.full_name.replace(".", "-").replace("/", ".")
    case = ET.Element("testcase", classname=place, name=f"{control.id} {control.title}", time="0")
    if outcome.result is Result.PASS:
        return case
    why = outcome.message or "no reason is given"
    counts = outcome.decides and outcome.result is not Result.NOT_APPLICABLE
    if not counts:
        why = f"{why} (excepted {excepted(outcome)})" if outcome.exemption else why
        told = "" if outcome.result is Result.NOT_APPLICABLE else f", {asked(outcome)}"
        ET.SubElement(case, "skipped", message=f"{outcome.result.value}{told}: {why}")
        return case
    kind = "failure" if outcome.result is Result.FAIL else "error"
    bad = ET.SubElement(case, kind, type=control.severity.value, message=f"{outcome.result.value}: {why}")
    evidence = outcome.evidence.value if outcome.evidence else ""
    bad.text = "\n".join(
        f"{name}: {value}" for name, value in (("Evidence", evidence), ("Remedy", outcome.remedy)) if value
    )
    return case
