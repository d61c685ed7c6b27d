"""The parts of the page, but for the heat map."""

from collections.abc import Iterable

from claude_sandbox.api.status import Result
from claude_sandbox.report.checklists import CheckedLine, CheckedList, checked
from claude_sandbox.report.formats.html.heatmap import CLASSES, MARKS
from claude_sandbox.report.formats.html.markup import Markup, joined, tag
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
from claude_sandbox.report.model import ControlEntry, Host, Report, Sandbox, sentence

_NAMED = 12
_BAR = 1000


def head(report: Report) -> Markup:
    """What this is, what it comes to, and where it is from."""
    told = {
        "Asked for": report.scope,
        "Read from": report.origin,
        "Read at": moment(report.generated_at),
        "Written by": f"claude-sandbox {report.version}",
        "Note": report.note,
    }
    return tag(
        "header",
        tag("h1", "Compliance of ClaudeSandboxes"),
        tag("p", sentence(report), class_=f"sentence {report.verdict.value}"),
        tag("dl", [joined(tag("dt", name), tag("dd", value)) for name, value in told.items() if value], class_="facts"),
    )


def summary(report: Report) -> Markup:
    """Counts: sandboxes by verdict, results in all."""
    cards = [
        tag("li", tag("strong", str(count)), f" {VERDICTS[verdict]}", class_=f"card {verdict.value}")
        for verdict, count in report.verdicts.items()
    ]
    passed = [one.required for one in report.sandboxes]
    count = f"{sum(one[0] for one in passed)} of {sum(one[1] for one in passed)}"
    cards.append(tag("li", tag("strong", count), " required results pass", class_="card"))
    return tag(
        "section",
        tag("h2", "Summary"),
        tag("ul", cards, class_="cards"),
        _bar(report),
        changes(report),
        _doubts(report),
        id="summary",
    )


def changes(report: Report) -> Markup:
    """What is different from an earlier report; nothing where there is none."""
    if report.changes is None:
        return Markup("")
    lines = [tag("li", what, ": ", _named(names)) for what, names in changed(report)]
    shown = tag("ul", lines) if lines else tag("p", "Nothing changed.")
    return joined(tag("h3", f"Since {report.changes.since}"), shown)


def checklists(report: Report) -> Markup:
    """The guide's lists, answered."""
    return tag(
        "section",
        tag("h2", "Checklists of the security guide"),
        tag("p", "Each line is answered by what was measured; the worst of all sandboxes counts."),
        tag("div", map(_checklist, checked(report)), class_="columns"),
        id="checklists",
    )


def findings(report: Report, title: str, identifier: str, result: Result) -> Markup:
    """Everything with this result, the most severe first."""
    found = [_finding(one) for one in gathered(report, result)]
    return tag("section", tag("h2", title), found or tag("p", "Nothing."), id=identifier)


def sandboxes(report: Report) -> Markup:
    """What is known of each beside its results."""
    names = (
        "Sandbox",
        "Verdict",
        "Required",
        "Fail",
        "Unknown",
        "Backend",
        "Profile",
        "Level",
        "Runs on",
        "Image",
        "Measured",
    )
    return _table("sandboxes", "Sandboxes", names, map(_sandbox, report.sandboxes))


def hosts(report: Report) -> Markup:
    """DockerHosts: their conditions, what their engines say of themselves, and which sandboxes they have."""
    names = ("Docker host", "Verdict", "Required", "Fail", "Unknown", "Placed", "Sandboxes", "Engine", "Measured")
    found = [_finding(one) for one in gathered_of_hosts(report, Result.FAIL, Result.UNKNOWN)]
    table = _table("hosts", "Docker hosts", names, map(_host, report.hosts))
    told = [_conditions(one) for one in report.hosts]
    if not found and not told:
        return table
    return joined(table, tag("div", told, found, class_="of-hosts"))


def _conditions(host: Host) -> Markup:
    facts = {"Conditions": conditions_of(host), "Reached by": host.endpoint, "Where no pass counts": host.doubt}
    told = [joined(tag("dt", name), tag("dd", value)) for name, value in facts.items() if value]
    return tag("article", tag("h3", host.name), tag("dl", told), class_="finding") if told else Markup("")


def _host(one: Host) -> tuple[str, ...]:
    count = one.counts
    return (
        one.name,
        tag("span", VERDICTS[one.verdict], class_=f"verdict {one.verdict.value}"),
        required(one),
        str(count[Result.FAIL]),
        str(count[Result.UNKNOWN]),
        str(one.placed),
        _named(one.sandboxes),
        "; ".join(f"{word} {said}" for word, said in one.facts.items()),
        "never" if one.measured_at is None else moment(one.measured_at),
    )


def controls(report: Report) -> Markup:
    """What was asked, how often it holds, and where else it is asked for."""
    outcomes: dict[str, list[Result]] = {}
    for sandbox in report.sandboxes:
        for one in sandbox.outcomes:
            outcomes.setdefault(one.control, []).append(one.result)
    names = ("Control", "What it means", "Severity", "Level", "Fail", "Unknown", "Pass", "N/A", "Also asked for by")
    rows = (_control(one, outcomes.get(one.id, [])) for one in report.controls.values())
    return _table("controls", "Controls", names, rows)


def _bar(report: Report) -> Markup:
    count = {result: number for result, number in report.counts.items() if number}
    everything, at, parts = sum(count.values()), 0.0, []
    for result in RESULTS:
        if result in count:
            width = _BAR * count[result] / everything
            parts.append(tag("rect", x=f"{at:.1f}", y=0, width=f"{width:.1f}", height=20, class_=CLASSES[result]))
            at += width
    if not parts:
        return Markup("")
    words = ", ".join(f"{count[result]} {words}" for result, words in RESULTS.items() if result in count)
    view = f"0 0 {_BAR} 20"
    bar = tag("svg", parts, viewBox=view, preserveAspectRatio="none", aria_hidden="true", class_="bar")
    return tag("figure", bar, tag("figcaption", f"{everything} results: {words}."))


def _doubts(report: Report) -> Markup:
    found = doubts(report)
    if not found:
        return Markup("")
    lines = [tag("li", _named(names), f": {doubt}.") for doubt, names in found.items()]
    return joined(tag("h3", "Where no pass counts"), tag("ul", lines))


def _checklist(found: CheckedList) -> Markup:
    return tag("div", tag("h3", found.title), tag("ul", map(_line, found.lines), class_="checklist"))


def _line(line: CheckedLine) -> Markup:
    more = [tag("p", "In ", _named(line.sandboxes), class_="small")] if line.sandboxes else []
    by = [tag("p", "By ", _named(line.controls), class_="small")] if line.controls else []
    return tag("li", _badge(line.result), " ", tag("strong", line.text), tag("p", line.why), more, by)


def _finding(found: Found) -> Markup:
    control, outcome = found.control, found.outcome
    evidence = outcome.evidence
    read = (
        f"{evidence.source}: {evidence.value}" if evidence and evidence.value else evidence.source if evidence else ""
    )
    told = {
        "Why": outcome.message or "no reason is given",
        "In": _named(found.sandboxes),
        "Evidence": read,
        "Excepted": excepted(outcome),
        "Remedy": outcome.remedy,
        "What it means": control.meaning,
        "At stake": control.why,
        "Also asked for by": control.elsewhere,
        "More": control.page,
    }
    return tag(
        "article",
        tag("h3", _badge(outcome.result), f" {control.id} {control.title} "),
        tag("p", f"{control.severity.value}, {asked(outcome)}", class_="small"),
        tag("dl", [joined(tag("dt", name), tag("dd", value)) for name, value in told.items() if value]),
        class_=f"finding {CLASSES[outcome.result]}" + ("" if outcome.decides else " o"),
    )


def _sandbox(one: Sandbox) -> tuple[str, ...]:
    count = one.counts
    return (
        one.full_name,
        tag("span", VERDICTS[one.verdict], class_=f"verdict {one.verdict.value}"),
        required(one),
        str(count[Result.FAIL]),
        str(count[Result.UNKNOWN]),
        one.backend.value,
        one.profile.value,
        one.level.value,
        one.place,
        one.image,
        "never" if one.measured_at is None else moment(one.measured_at),
    )


def _control(control: ControlEntry, results: Iterable[Result]) -> tuple[str, ...]:
    those = list(results)
    order = (Result.FAIL, Result.UNKNOWN, Result.PASS, Result.NOT_APPLICABLE)
    return (
        f"{control.id} {control.title}",
        control.meaning,
        control.severity.value,
        control.level,
        *(str(those.count(result)) for result in order),
        control.elsewhere,
    )


def _table(identifier: str, title: str, names: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Markup:
    head_row = tag("tr", [tag("th", name, scope="col") for name in names])
    body = [tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows]
    table = tag("table", tag("thead", head_row), tag("tbody", body))
    # What scrolls has to be reached with the keyboard.
    region = tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=title)
    return tag("section", tag("h2", title), region, id=identifier)


def _badge(result: Result) -> Markup:
    return tag("span", f"{MARKS[result]} {RESULTS[result]}", class_=f"badge {CLASSES[result]}")


def _named(names: Iterable[str]) -> str:
    """The first few; the heat map and the controls have all."""
    shown, more = some(names, _NAMED)
    return ", ".join(shown) + (f" and {more} more" if more else "")
