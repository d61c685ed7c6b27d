"""How it went, day by day: bars for who looks, and a table of the same for who does not."""

from collections.abc import Iterator

from claude_sandbox.report.formats.html.markup import Markup, tag
from claude_sandbox.report.formats.words import VERDICTS
from claude_sandbox.report.model import Day, Trend, Verdict

_CLASSES = {Verdict.COMPLIANT: "p", Verdict.NOT_VERIFIED: "u", Verdict.NOT_COMPLIANT: "f"}
"""From the foot of a bar on."""
_WIDTH, _HEIGHT = 10, 100


def trend(found: Trend) -> Markup:
    """The section."""
    names = ("Day", *(word.capitalize() for word in VERDICTS.values()), "Worse", "Better", "Healed", "Denied")
    head = tag("tr", [tag("th", name, scope="col") for name in names])
    table = tag("table", tag("thead", head), tag("tbody", [_row(one) for one in reversed(found.days)]))
    # What scrolls has to be reached with the keyboard.
    region = tag("div", table, class_="scroll days", tabindex=0, role="region", aria_label="Trend, day by day")
    said = f"Sandboxes at the end of each day, in UTC, by the audit trail in {found.source}."
    return tag("section", tag("h2", "Trend"), tag("p", said), _chart(found), region, id="trend")


def _row(one: Day) -> Markup:
    counts = (*(one.sandboxes[verdict] for verdict in VERDICTS), one.worse, one.better, one.healed, one.denied)
    return tag("tr", tag("th", one.day.isoformat(), scope="row"), [tag("td", str(count)) for count in counts])


def _chart(found: Trend) -> Markup:
    most = max(sum(one.sandboxes.values()) for one in found.days)
    if not most:
        return Markup("")
    bars = [bar for place, one in enumerate(found.days) for bar in _bars(place, one, most)]
    view = f"0 0 {_WIDTH * len(found.days)} {_HEIGHT}"
    chart = tag("svg", bars, viewBox=view, preserveAspectRatio="none", aria_hidden="true", class_="trend")
    first, last = found.days[0], found.days[-1]
    worse, better = sum(one.worse for one in found.days), sum(one.better for one in found.days)
    changes = f"{worse} results became worse and {better} better"
    said = f"From {first.day} to {last.day}, up to {most} sandboxes: {_stood(first)}, then {_stood(last)}; {changes}."
    return tag("figure", chart, tag("figcaption", said))


def _bars(place: int, one: Day, most: int) -> Iterator[Markup]:
    foot = float(_HEIGHT)
    for verdict, name in _CLASSES.items():
        if count := one.sandboxes[verdict]:
            height = _HEIGHT * count / most
            foot -= height
            yield tag("rect", x=_WIDTH * place, y=f"{foot:.2f}", width=_WIDTH - 1, height=f"{height:.2f}", class_=name)


def _stood(one: Day) -> str:
    told = [f"{one.sandboxes[verdict]} {word}" for verdict, word in VERDICTS.items() if one.sandboxes[verdict]]
    return ", ".join(told) or "none"
