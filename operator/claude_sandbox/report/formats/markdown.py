"""A report as Markdown that code hosts show: GitHub's flavour, without HTML.

Tables and headings hold only words of our own, numbers, and names that the API server would take. Every other text is
in a code span in a list, where nothing in it means anything: no link, no mention, no HTML, no cell's end.
"""

import re
from collections.abc import Iterator

from claude_sandbox.api.status import Result
from claude_sandbox.report.checklists import checked
from claude_sandbox.report.formats.words import (
    RESULTS,
    VERDICTS,
    Found,
    asked,
    changed,
    conditions_of,
    doubts,
    excepted,
    gathered,
    gathered_of_hosts,
    moment,
    required,
    some,
)
from claude_sandbox.report.model import Host, Report, Sandbox, Trend, sentence

_NAMED = 10
_DAYS = 14
_MARKS = {Result.PASS: "✅", Result.FAIL: "❌", Result.UNKNOWN: "❔", Result.NOT_APPLICABLE: "⚪"}


def written(report: Report) -> str:
    """Sandboxes, what fails, what is not known, and the guide's checklists."""
    return "\n".join(_lines(report))


def code(text: str) -> str:
    """The text, which is of one line, as a code span."""
    if not text:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    # A reader takes one space away on each side, where there is one on both and something between.
    room = " " if text.strip(" ") and (text[0] in "` " or text[-1] in "` ") else ""
    return f"{fence}{room}{text}{room}{fence}"


def _lines(report: Report) -> Iterator[str]:
    yield "# Compliance of ClaudeSandboxes"
    yield f"\n**{sentence(report)}**"
    yield f"\n- Read at {moment(report.generated_at)} from {code(report.origin)}: {code(report.scope)}"
    yield f"- Written by claude-sandbox {code(report.version)}"
    if report.note:
        yield f"- Note: {code(report.note)}"
    if report.sandboxes:
        yield from _sandboxes(report)
    if report.changes is not None:
        yield f"\n## Since {report.changes.since}\n"
        changes = [f"- {code(what)}: {_named(names)}" for what, names in changed(report)]
        yield from changes or ["Nothing changed."]
    if report.trend is not None:
        yield from _trend(report.trend)
    yield from _findings(report, "What fails", Result.FAIL)
    yield from _findings(report, "What is not known", Result.UNKNOWN)
    if report.hosts:
        yield from _hosts(report)
    yield from _checklists(report)


def _trend(found: Trend) -> Iterator[str]:
    yield f"\n## Trend\n\nBy the audit trail in {code(found.source)}; a day's sandboxes are those at its end, in UTC.\n"
    yield f"| day | {' | '.join(VERDICTS.values())} | worse | better | healed | denied |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in found.days[-_DAYS:]:
        counts = (*(one.sandboxes[verdict] for verdict in VERDICTS), one.worse, one.better, one.healed, one.denied)
        yield f"| {one.day} | {' | '.join(map(str, counts))} |"


def _hosts(report: Report) -> Iterator[str]:
    yield "\n## Docker hosts\n"
    yield "| host | verdict | required | fail | unknown | sandboxes | measured |"
    yield "|---|---|---|---|---|---|---|"
    for one in report.hosts:
        yield _row(one.name, one, str(one.placed))
    yield ""
    for one in report.hosts:
        yield f"- `{one.name}`: {code('; '.join(f'{word} {said}' for word, said in one.facts.items())) or 'not known'}"
        if one.sandboxes:
            yield f"  - has {_named(one.sandboxes)}"
        if told := conditions_of(one):
            yield f"  - {code(told)}"
        if one.doubt:
            yield f"  - no pass counts: {code(one.doubt)}"
    for found in gathered_of_hosts(report, Result.FAIL, Result.UNKNOWN):
        yield from _finding(found)


def _sandboxes(report: Report) -> Iterator[str]:
    yield "\n## Sandboxes\n"
    yield "| sandbox | verdict | required | fail | unknown | backend | profile | measured |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in report.sandboxes:
        yield _row(one.full_name, one, one.backend.value, one.profile.value)
    doubted = doubts(report)
    if doubted:
        yield "\nOf these no pass counts:\n"
        yield from (f"- {_named(names)}: {code(doubt)}" for doubt, names in doubted.items())


def _row(name: str, one: Sandbox | Host, *facts: str) -> str:
    """Of a table of what was measured: `facts` are what only such a one has."""
    count = one.counts
    results = VERDICTS[one.verdict], required(one), str(count[Result.FAIL]), str(count[Result.UNKNOWN])
    measured = "never" if one.measured_at is None else moment(one.measured_at)
    return f"| {' | '.join((f'`{name}`', *results, *facts, measured))} |"


def _findings(report: Report, title: str, result: Result) -> Iterator[str]:
    found = list(gathered(report, result))
    yield f"\n## {title}\n"
    if not found:
        yield "Nothing."
    for one in found:
        yield from _finding(one)


def _finding(found: Found) -> Iterator[str]:
    control, outcome = found.control, found.outcome
    known = f"**{control.id} {control.title}**" if control.known else code(f"{control.id} {control.title}")
    yield f"- {known} ({control.severity.value}, {asked(outcome)}): {code(outcome.message) or 'no reason is given'}"
    yield f"  - in {_named(found.sandboxes)}"
    if outcome.evidence is not None and outcome.evidence.value:
        yield f"  - evidence: {code(outcome.evidence.value)}"
    if outcome.exemption:
        yield f"  - excepted {code(excepted(outcome))}"
    if outcome.remedy:
        yield f"  - remedy: {code(outcome.remedy)}"


def _named(sandboxes: tuple[str, ...]) -> str:
    names, more = some(sandboxes, _NAMED)
    return ", ".join(f"`{name}`" for name in names) + (f" and {more} more" if more else "")


def _checklists(report: Report) -> Iterator[str]:
    yield "\n## Checklists"
    for one in checked(report):
        yield f"\n### {one.title}\n"
        for line in one.lines:
            yield f"- {_MARKS[line.result]} **{line.text}**: {RESULTS[line.result]}. {line.why}"
