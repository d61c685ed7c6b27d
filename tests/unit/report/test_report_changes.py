"""What changed since an earlier report."""

import json
from dataclasses import replace
from typing import Any

import pytest
from click import unstyle
from reported_sandboxes import on_docker, on_kubernetes, reported, unmeasured, with_result

from claude_sandbox.api.status import Result
from claude_sandbox.report.changes import NotAReportError, changes
from claude_sandbox.report.formats import documents, markdown, terminal
from claude_sandbox.report.formats.html import page
from claude_sandbox.report.model import Change, Report

BAD = with_result(on_kubernetes(), "PRIV-01", Result.FAIL, "it is", required=True)
GOOD = on_kubernetes()


def before(*sandboxes: Any) -> Any:
    return json.loads(documents.written(reported(*sandboxes)))


def compared(earlier: Any, *sandboxes: Any) -> Report:
    found = reported(*sandboxes)
    return replace(found, changes=changes(earlier, found))


def test_what_fails_now_is_worse_and_what_is_mended_better() -> None:
    found = changes(before(GOOD), reported(BAD))
    assert (found.worse, found.better) == ((Change("agents/alice", "PRIV-01", Result.PASS, Result.FAIL),), ())
    found = changes(before(BAD), reported(GOOD))
    assert (found.worse, found.better) == ((), (Change("agents/alice", "PRIV-01", Result.FAIL, Result.PASS),))


@pytest.mark.parametrize(
    ("was", "now", "kind"),
    [
        (Result.PASS, Result.UNKNOWN, "worse"),
        (Result.UNKNOWN, Result.FAIL, "worse"),
        (Result.NOT_APPLICABLE, Result.FAIL, "worse"),
        (Result.FAIL, Result.UNKNOWN, "better"),
        (Result.PASS, Result.NOT_APPLICABLE, ""),
        (Result.FAIL, Result.FAIL, ""),
    ],
)
def test_unknown_is_between_fail_and_pass(was: Result, now: Result, kind: str) -> None:
    first, second = (with_result(GOOD, "PRIV-01", one, "so") for one in (was, now))
    found = changes(before(first), reported(second))
    assert [bool(found.worse), bool(found.better)] == [kind == "worse", kind == "better"]


def test_a_control_that_is_new_and_fails_is_worse() -> None:
    found = changes(before(GOOD), reported(with_result(GOOD, "NEW-01", Result.FAIL, "it is", required=True)))
    assert found.worse == (Change("agents/alice", "NEW-01", None, Result.FAIL),)


def test_sandboxes_come_and_go() -> None:
    found = changes(before(GOOD, on_docker()), reported(GOOD, unmeasured()))
    assert (found.new, found.gone, found.worse) == (("agents/new",), ("agents/dora",), ())


def test_it_is_shown_to_people_and_to_programs() -> None:
    report = compared(before(GOOD, on_docker()), BAD)
    said = "worse: PRIV-01 Not privileged, Pass before, now Fail"
    assert f"Since 2026-03-01T12:05:00Z:\n  {said}: agents/alice\n  gone: agents/dora\n" in unstyle(
        terminal.written(report)
    )
    assert f"## Since 2026-03-01T12:05:00Z\n\n- `{said}`: `agents/alice`\n" in markdown.written(report)
    assert f"<li>{said}: agents/alice</li>" in page.written(report)
    told = json.loads(documents.written(report))["changes"]
    assert told["worse"] == [{"sandbox": "agents/alice", "control": "PRIV-01", "was": "Pass", "now": "Fail"}]


def test_that_nothing_changed_is_said() -> None:
    report = compared(before(GOOD), GOOD)
    assert "nothing changed" in terminal.written(report)
    assert "Nothing changed." in markdown.written(report)
    assert "Nothing changed." in page.written(report)


def test_a_sandbox_that_is_not_measured_any_more_is_told_in_a_line() -> None:
    text = unstyle(terminal.written(compared(before(GOOD), unmeasured(name="alice"))))
    (line,) = [one for one in text.splitlines() if one.startswith("  worse: ")]
    assert line.endswith(" controls, Pass before, now Unknown: agents/alice")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "List"}, "no report"),
        ({"schemaVersion": "2.0"}, "schema"),
        ({"generatedAt": "</script>"}, "when"),
        ({"sandboxes": [{"name": "<b>", "namespace": "a"}]}, "name"),
        (
            {"sandboxes": [{"name": "b", "namespace": "a", "results": [{"control": "A", "result": "Good"}]}]},
            "none",
        ),
    ],
)
def test_what_is_no_report_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(NotAReportError, match=why):
        changes(before(GOOD) | change, reported(GOOD))


@pytest.mark.parametrize("document", [None, [], "x", 1])
def test_other_documents_are_refused(document: Any) -> None:
    with pytest.raises(NotAReportError):
        changes(document, reported(GOOD))
