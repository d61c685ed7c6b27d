"""A policy of one's own: what it requires, and exceptions, which are in every format, are never a pass, and end."""

import json
from datetime import date
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click import unstyle
from reported_sandboxes import on_kubernetes, reported, unmeasured, with_result

from claude_sandbox.api.spec import Level
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.policy import Policy
from claude_sandbox.report.formats import documents, junit, markdown, oscal, policy_reports, sarif, terminal
from claude_sandbox.report.formats.html import page
from claude_sandbox.report.model import Outcome, Report, Verdict
from claude_sandbox.report.policies import by_policy

TODAY = date(2026, 3, 1)
BAD = with_result(on_kubernetes(), "PRIV-01", Result.FAIL, "it is", required=True)


def exemption(**fields: Any) -> Exemption:
    told = {"control": "PRIV-01", "reason": "It builds images.", "owner": "team@example.org", "expires": TODAY}
    return Exemption(**(told | fields))


def judged(policy: Policy, *sandboxes: Any) -> Report:
    return by_policy(reported(*(sandboxes or (BAD,))), policy, TODAY)[0]


def outcome(report: Report, control: str = "PRIV-01") -> Outcome:
    (found,) = (one for one in report.sandboxes[0].outcomes if one.control == control)
    return found


def test_what_is_excepted_stays_what_it_is_and_decides_nothing() -> None:
    found = judged(Policy(exceptions=(exemption(),)))
    assert found.verdict is Verdict.COMPLIANT
    assert outcome(found).result is Result.FAIL
    assert found.counts[Result.FAIL] == 1
    passed, asked = found.sandboxes[0].required
    assert passed == asked - 1


def test_from_the_day_after_its_end_an_exception_counts_for_nothing_and_is_named() -> None:
    found = judged(Policy(exceptions=(exemption(expires=date(2026, 2, 28)),)))
    assert found.verdict is Verdict.NOT_COMPLIANT
    assert outcome(found).message == "it is; its exception by team@example.org expired on 2026-02-28"


@pytest.mark.parametrize(
    ("targets", "verdict"),
    [
        (("ClaudeSandbox agents/a*",), Verdict.COMPLIANT),
        (("ClaudeSandbox others/*",), Verdict.NOT_COMPLIANT),
        (("Container agents/alice",), Verdict.NOT_COMPLIANT),
    ],
)
def test_an_exception_is_of_the_sandboxes_that_it_names(targets: tuple[str, ...], verdict: Verdict) -> None:
    assert judged(Policy(exceptions=(exemption(targets=targets),))).verdict is verdict


def test_an_exception_that_nothing_needs_is_told() -> None:
    one = exemption()
    assert by_policy(reported(on_kubernetes()), Policy(exceptions=(one,)), TODAY)[1] == (one,)
    assert by_policy(reported(BAD), Policy(exceptions=(one,)), TODAY)[1] == ()


def test_a_policy_requires_more_and_less() -> None:
    assert judged(Policy(optional=frozenset({"PRIV-01"}))).verdict is Verdict.COMPLIANT
    assert judged(Policy(required=frozenset({"RES-08"})), on_kubernetes()).verdict is Verdict.NOT_VERIFIED


def test_a_policys_level_decides_what_is_required() -> None:
    assert not outcome(judged(Policy(level=Level.BASELINE)), "FS-01").required
    assert outcome(judged(Policy(level=Level.SANDBOX)), "FS-01").required


def test_a_sandbox_that_was_not_measured_needs_more_than_one_exception() -> None:
    assert judged(Policy(exceptions=(exemption(),)), unmeasured()).verdict is Verdict.NOT_VERIFIED


def test_every_format_tells_of_an_exception_and_none_makes_a_pass_of_it() -> None:
    found = judged(Policy(exceptions=(exemption(),)))
    told = "by team@example.org until 2026-03-01: It builds images."
    assert f"Fail, excepted {told}" in unstyle(terminal.written(found))
    assert f"excepted `{told}`" in markdown.written(found)
    assert f"<dd>{told}</dd>" in page.written(found)
    (case,) = ET.fromstring(junit.written(found)).iterfind(".//testcase[@name='PRIV-01 Not privileged']/*")  # noqa: S314
    assert (case.tag, case.get("message")) == ("skipped", f"Fail, excepted: it is (excepted {told})")
    results = json.loads(documents.written(found))["sandboxes"][0]["results"]
    assert [one["exception"] for one in results if "exception" in one] == [
        {"reason": "It builds images.", "owner": "team@example.org", "expires": "2026-03-01"}
    ]
    (result,) = json.loads(sarif.written(found))["runs"][0]["results"]
    assert result["suppressions"][0]["justification"] == f"Excepted {told}"
    (item,) = json.loads(policy_reports.openreports(found))["items"]
    assert [one["result"] for one in item["results"] if one["rule"] == "PRIV-01"] == ["warn"]
    (assessed,) = json.loads(oscal.written(found))["assessment-results"]["results"]
    states = {one["target"]["target-id"]: one["target"]["status"]["state"] for one in assessed["findings"]}
    assert states["PRIV-01"] == "not-satisfied"


def test_a_hostile_reason_is_shown_as_what_it_is() -> None:
    found = judged(Policy(exceptions=(exemption(reason="\x1b[2J<b>", owner="\u202e"),)))
    shown = unstyle(terminal.written(found))
    assert "Fail, excepted by \\u202e until 2026-03-01: \\x1b[2J<b>" in shown
    assert "&lt;b&gt;" in page.written(found)
