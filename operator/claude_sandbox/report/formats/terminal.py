"""A report for people at a terminal."""

from collections.abc import Iterator, Sequence

import click

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.words import (
    VERDICTS,
    Found,
    changed,
    conditions_of,
    doubts,
    excepted,
    gathered,
    gathered_of_hosts,
    required,
    some,
)
from claude_sandbox.report.model import Report, Sandbox, Trend, Verdict, many, sentence

_COLOURS = {Verdict.COMPLIANT: "green", Verdict.NOT_COMPLIANT: "red", Verdict.NOT_VERIFIED: "yellow"}
_HEAD = ("SANDBOX", "VERDICT", "REQUIRED", "FAIL", "UNKNOWN", "BACKEND", "PROFILE", "MEASURED")
_NAMED = 6
"""Sandboxes that are named with a finding."""
_DAYS = 7
"""Days of a trend that are shown; the page shows all."""


def written(report: Report) -> str:
    """A line for each sandbox, what fails with its remedy, and what is required and not known. Coloured."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    if report.sandboxes:
        yield from _sandboxes(report.sandboxes)
    yield from _findings(report, "What fails", Result.FAIL)
    yield from _findings(report, "What is not known", Result.UNKNOWN)
    if report.hosts:
        yield from _hosts(report)
    exceptions = [one for one in gathered(report, Result.FAIL, Result.UNKNOWN) if one.outcome.exemption]
    if exceptions:
        yield _title("What is excepted")
        for one in exceptions:
            yield from _finding(one)
    for doubt, names in doubts(report).items():
        yield f"\nNo pass counts of {_named(names)}: {doubt}."
    if report.changes is not None:
        yield _title(f"Since {report.changes.since}")
        yield from [f"  {what}: {_named(names)}" for what, names in changed(report)] or ["  nothing changed"]
    if report.trend is not None:
        yield from _trend(report.trend)
    if report.note:
        yield f"\nNote: {report.note}"
    if report.sandboxes:
        yield ""
    yield click.style(sentence(report), fg=_COLOURS[report.verdict] if report.sandboxes else None)


def _findings(report: Report, title: str, result: Result) -> Iterator[str]:
    """What the verdict depends on, with its remedy; what is not required by its name."""
    found = list(gathered(report, result))
    deciding = [one for one in found if one.outcome.decides]
    if deciding:
        yield _title(title)
        for one in deciding:
            yield from _finding(one)
    if optional := dict.fromkeys(one.control.id for one in found if not one.outcome.required):
        yield f"\n{title}, and is not required: {', '.join(optional)}."


def _title(title: str) -> str:
    return "\n" + click.style(f"{title}:", bold=True)


def _named(names: Sequence[str]) -> str:
    shown, more = some(names, _NAMED)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _sandboxes(sandboxes: Sequence[Sandbox]) -> Iterator[str]:
    rows = [_row(one) for one in sandboxes]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    yield "  ".join(cell.ljust(width) for cell, width in zip(_HEAD, widths, strict=True)).rstrip()
    for sandbox, row in zip(sandboxes, rows, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[1] = click.style(cells[1], fg=_COLOURS[sandbox.verdict])
        yield "  ".join(cells).rstrip()


def _row(sandbox: Sandbox) -> tuple[str, ...]:
    count = sandbox.counts
    return (
        sandbox.full_name,
        VERDICTS[sandbox.verdict],
        required(sandbox),
        str(count[Result.FAIL]),
        str(count[Result.UNKNOWN]),
        sandbox.backend.value,
        sandbox.profile.value,
        "never" if sandbox.measured_at is None else sandbox.measured_at.strftime("%Y-%m-%d %H:%M"),
    )


def _trend(found: Trend) -> Iterator[str]:
    yield _title(f"The last days, by the audit trail in {found.source}")
    yield f"  {'DAY':<10}  {'  '.join(word.upper() for word in VERDICTS.values())}  WORSE  BETTER  HEALED  DENIED"
    for one in found.days[-_DAYS:]:
        stood = "  ".join(f"{one.sandboxes[verdict]:<{len(word)}}" for verdict, word in VERDICTS.items())
        yield f"  {one.day}  {stood}  {one.worse:<5}  {one.better:<6}  {one.healed:<6}  {one.denied}"


def _hosts(report: Report) -> Iterator[str]:
    yield _title("Docker hosts")
    for one in report.hosts:
        verdict = click.style(VERDICTS[one.verdict], fg=_COLOURS[one.verdict])
        named = f": {_named(one.sandboxes)}" if one.sandboxes else ""
        yield f"  {one.name}  {verdict}  {required(one)}  {many(one.placed, 'sandbox', 'sandboxes')}{named}"
        if one.facts:
            yield f"           {'; '.join(f'{word} {said}' for word, said in one.facts.items())}"
        if told := conditions_of(one):
            yield f"           {told}"
        if one.doubt:
            yield f"           No pass counts: {one.doubt}."
    for found in gathered_of_hosts(report, Result.FAIL, Result.UNKNOWN):
        if found.outcome.decides:
            yield from _finding(found)


def _finding(found: Found) -> Iterator[str]:
    control = found.control
    why = found.outcome.message or "no reason is given"
    yield f"  {control.id:<8} {control.title} ({control.severity.value}): {why}"
    yield f"           in {_named(found.sandboxes)}"
    if found.outcome.exemption:
        yield f"           {found.outcome.result.value}, excepted {excepted(found.outcome)}"
    if found.outcome.remedy:
        yield f"           Remedy: {found.outcome.remedy}"
