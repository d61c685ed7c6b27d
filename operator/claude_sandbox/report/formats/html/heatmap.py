"""The controls by sandbox as a table of marks, and what is shown of each mark when it is asked for.

A mark is one element with one character, so that thousands open at once. What else is known of it is in a data block,
each text once, and the script makes elements of it only for the mark that somebody looks at.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.html.markup import Markup, joined, tag
from claude_sandbox.report.formats.words import RESULTS, VERDICTS, asked, excepted, moment
from claude_sandbox.report.model import ControlEntry, Outcome, Report, Sandbox

MARKS = {Result.PASS: "✓", Result.FAIL: "✕", Result.UNKNOWN: "?", Result.NOT_APPLICABLE: "–"}  # noqa: RUF001
CLASSES = {Result.PASS: "p", Result.FAIL: "f", Result.UNKNOWN: "u", Result.NOT_APPLICABLE: "n"}


def heatmap(report: Report) -> Markup:
    """The table."""
    groups = [(name, list(those)) for name, those in groupby(report.controls.values(), key=_family)]
    families = tag(
        "tr",
        tag("td"),
        [tag("th", name, scope="colgroup", colspan=len(those)) for name, those in groups],
    )
    heads = [_head(control, first=place == 0) for _, those in groups for place, control in enumerate(those)]
    columns = [tag("colgroup"), *(tag("colgroup", span=len(those)) for _, those in groups)]
    rows = [_row(sandbox, list(report.controls)) for sandbox in report.sandboxes]
    head = tag("tr", tag("th", "Sandbox", scope="col"), heads)
    return tag(
        "table",
        tag("caption", "Each mark is what one control found of one sandbox."),
        columns,
        tag("thead", families, head),
        tag("tbody", rows),
        id="heatmap",
    )


def legend() -> Markup:
    """What the marks mean."""
    marks = [
        tag("li", tag("span", MARKS[result], class_=f"mark {CLASSES[result]}", aria_hidden="true"), f" {words}")
        for result, words in RESULTS.items()
    ]
    pale = tag(
        "li", tag("span", MARKS[Result.FAIL], class_="mark f o", aria_hidden="true"), " pale: not required, or excepted"
    )
    return tag("ul", marks, pale, class_="legend")


def details(report: Report) -> dict[str, Any]:
    """What the script shows: texts, and indices of them. The first text is the empty one."""
    pool = _Pool()
    places = {identifier: place for place, identifier in enumerate(report.controls)}
    return {
        "controls": [_control(one, pool) for one in report.controls.values()],
        "sandboxes": [_details(one, places, pool) for one in report.sandboxes],
        "texts": pool.texts,
    }


class _Pool:
    """Gives each text a number, the same for the same text."""

    def __init__(self) -> None:
        self._numbers = {"": 0}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def texts(self) -> list[str]:
        return list(self._numbers)


def _control(control: ControlEntry, pool: _Pool) -> list[int]:
    told = (
        f"{control.id} {control.title}",
        control.severity.value,
        control.level,
        control.elsewhere,
        control.meaning,
        control.why,
        control.page,
    )
    return [pool.number(text) for text in told]


def _details(sandbox: Sandbox, places: dict[str, int], pool: _Pool) -> list[Any]:
    results: list[list[int] | int] = [0] * len(places)
    for outcome in sandbox.outcomes:
        results[places[outcome.control]] = [pool.number(text) for text in _told(outcome, sandbox)]
    return [pool.number(sandbox.full_name), results]


def _told(outcome: Outcome, sandbox: Sandbox) -> Iterable[str]:
    read = outcome.evidence
    at = (read.observed_at if read else None) or sandbox.measured_at
    return (
        outcome.result.value + ("" if outcome.decides else f", {asked(outcome)}"),
        outcome.message,
        outcome.remedy,
        read.source if read else "",
        read.value if read else "",
        moment(at) if read and at else "",
        excepted(outcome),
    )


def _row(sandbox: Sandbox, controls: list[str]) -> Markup:
    results = {one.control: one for one in sandbox.outcomes}
    verdict = tag("span", VERDICTS[sandbox.verdict], class_=f"verdict {sandbox.verdict.value}")
    return tag(
        "tr",
        tag("th", sandbox.full_name, " ", verdict, scope="row"),
        _cells(results.get(control) for control in controls),
        data_verdict=sandbox.verdict.value,
    )


def _cells(outcomes: Iterable[Outcome | None]) -> Iterator[Markup]:
    for one in outcomes:
        if one is None:
            yield tag("td")
        else:
            pale = " o" if not one.decides and one.result in (Result.FAIL, Result.UNKNOWN) else ""
            yield tag("td", MARKS[one.result], class_=CLASSES[one.result] + pale)


def _head(control: ControlEntry, *, first: bool) -> Markup:
    number = control.id.rpartition("-")[2] or control.id
    named = f"{control.id} {control.title}"
    return tag("th", joined(tag("abbr", number, title=named)), scope="col", class_="first" if first else None)


def _family(control: ControlEntry) -> str:
    return control.id.partition("-")[0]
