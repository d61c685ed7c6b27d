"""How it went: what a report makes of the audit trail, day by day."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from click import unstyle
from reported_sandboxes import on_kubernetes, reported, with_result
from test_report_json import SCHEMA, problems

from claude_sandbox.api.status import Result
from claude_sandbox.controller.trail.changes import of_status
from claude_sandbox.report.formats import documents, markdown, terminal
from claude_sandbox.report.formats.html import page
from claude_sandbox.report.model import Report, Trend, Verdict
from claude_sandbox.report.trend import Event, trend

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TODAY = date(2026, 3, 5)


def on(day: int, kind: str, uid: str = "a", **data: Any) -> Event:
    return Event(START + timedelta(days=day), kind, uid, data)


def stands(day: int, status: str, uid: str = "a") -> Event:
    return on(day, "ConditionChanged", uid, conditions=[{"type": "Compliant", "before": None, "after": status}])


def told(events: Iterable[Event], days: int = 30) -> Trend:
    found = trend(events, TODAY, days)
    assert found is not None
    return found


def shares(found: Trend) -> list[tuple[int, int, int]]:
    """Compliant, not compliant, not verified, by day."""
    order = (Verdict.COMPLIANT, Verdict.NOT_COMPLIANT, Verdict.NOT_VERIFIED)
    return [tuple(one.sandboxes[verdict] for verdict in order) for one in found.days]  # type: ignore[misc]


def test_each_day_has_how_sandboxes_stood_at_its_end() -> None:
    events = [
        stands(0, "Unknown"),
        stands(0, "True"),
        stands(1, "True", "b"),
        stands(3, "False"),
        on(4, "SandboxDeleted"),
    ]
    found = told(events)
    assert [one.day.day for one in found.days] == [1, 2, 3, 4, 5]
    assert shares(found) == [(1, 0, 0), (2, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 0)]


def test_a_status_as_the_operator_records_it_is_counted() -> None:
    """What is worse than before, by the trail's own writer."""
    before = on_kubernetes()["status"]
    after = with_result(on_kubernetes(), "NET-01", Result.FAIL, "it is open", required=True)["status"]
    for one in after["conditions"]:
        if one["type"] == "Compliant":
            one["status"] = "False"
    there = [on(0, str(kind), **data) for kind, data in of_status(before, after)]
    back = [on(1, str(kind), **data) for kind, data in of_status(after, before)]
    found = told([*there, *back])
    assert [(one.worse, one.better) for one in found.days[:2]] == [(1, 0), (0, 1)]
    assert shares(found)[:2] == [(0, 1, 0), (1, 0, 0)]


def test_only_the_last_days_are_told_and_begin_as_it_stood() -> None:
    found = told([stands(0, "False"), on(0, "Healed"), on(3, "Healed"), on(3, "Denied")], days=2)
    assert [one.day.day for one in found.days] == [4, 5]
    assert shares(found) == [(0, 1, 0), (0, 1, 0)]
    assert [(one.healed, one.denied) for one in found.days] == [(1, 1), (0, 0)]


@pytest.mark.parametrize(
    "data",
    [
        {"conditions": "x"},
        {"conditions": [{"type": "Compliant", "after": "<b>"}]},
        {"changes": [{"before": 1, "after": None}]},
        {"changes": ["x", {}]},
    ],
)
def test_what_is_no_record_of_the_operators_makes_nothing_better(data: dict[str, Any]) -> None:
    found = told([on(0, "ConditionChanged", **data), on(0, "ResultsChanged", **data)])
    assert {one.sandboxes[Verdict.COMPLIANT] for one in found.days} == {0}
    assert {(one.worse, one.better) for one in found.days} == {(0, 0)}


def test_of_nothing_there_is_none() -> None:
    assert trend([], TODAY, 30) is None
    assert trend([replace(stands(0, "True"), at=START + timedelta(days=9))], TODAY, 30) is None


@pytest.fixture
def report() -> Report:
    events = [stands(0, "True"), stands(1, "True", "b"), stands(2, "False", "b"), on(2, "Healed")]
    return replace(reported(on_kubernetes()), trend=replace(told(events), source="/var/lib/trail"))


def test_it_is_in_json_by_the_schema(report: Report) -> None:
    found = json.loads(documents.written(report))
    assert problems(found, SCHEMA) == []
    assert found["trend"]["days"][2] == {
        "day": "2026-03-03",
        "sandboxes": {"Compliant": 1, "NotCompliant": 1, "NotVerified": 0},
        "worse": 0,
        "better": 0,
        "healed": 1,
        "denied": 0,
    }


@pytest.mark.parametrize("written", [terminal.written, markdown.written, page.written])
def test_it_is_shown_to_people_with_its_source(report: Report, written: Any) -> None:
    text = unstyle(written(report))
    assert "2026-03-03" in text
    assert "/var/lib/trail" in text
    assert "2026-03-03" not in unstyle(written(replace(report, trend=None)))


def test_what_the_chart_shows_is_told_in_words_too(report: Report) -> None:
    assert "From 2026-03-01 to 2026-03-05, up to 2 sandboxes: 1 compliant, then 1 compliant, 1 not compliant" in (
        page.written(report).replace("1 not compliant, 1 compliant", "1 compliant, 1 not compliant")
    )
