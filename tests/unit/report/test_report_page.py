"""The page for auditors: what is on it, and that what is told by colour can be read."""

import re
from itertools import pairwise

import pytest
from reported_sandboxes import on_docker, on_kubernetes, reported, unmeasured, with_result

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.html import page

CSS = page._own("page.css")
BAD = with_result(on_kubernetes(name="bob"), "PRIV-01", Result.FAIL, "it is", required=True, remedy="Do it.")


def text_of(text: str) -> str:
    """What is read, roughly."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


def test_it_has_the_counts_the_failures_with_remedies_and_the_mappings() -> None:
    text = text_of(page.written(reported(on_kubernetes(), BAD, on_docker(), unmeasured())))
    assert "4 sandboxes: 1 not compliant, 1 not verified, 2 compliant." in text
    assert re.search(r"PRIV-01 Not privileged.*Why it is In agents/bob.*Remedy Do it\.", text)
    assert "Kubescape: C-0057" in text
    assert (
        "agents/new : the operator has not measured it" in text or "agents/new: the operator has not measured" in text
    )


def test_every_line_of_the_three_checklists_is_on_it() -> None:
    text = page.written(reported(on_kubernetes()))
    assert text.count('<ul class="checklist">') == 3
    assert sum(one.count("<li>") for one in re.findall(r'<ul class="checklist">.*?</ul>', text)) == 13


def test_the_heat_map_has_a_mark_for_every_result_and_none_for_what_is_not_asked_of_a_backend() -> None:
    report = reported(BAD, on_docker())
    (table,) = re.findall(r'<table id="heatmap">.*?</table>', page.written(report))
    marks = re.findall(r"<td(?: class=\"([a-z ]+)\")?>([^<]*)</td>", table.partition("<tbody>")[2])
    assert len(marks) == 2 * len(report.controls)
    assert sum(1 for kind, _ in marks if kind) == sum(len(one.outcomes) for one in report.sandboxes)
    assert marks[0] == ("f", "✕")


def test_without_a_sandbox_it_says_so() -> None:
    text = page.written(reported())
    assert "No ClaudeSandbox was found" in text
    assert "heatmap" not in text.partition("<main")[2].partition("<script")[0]


def luminance(colour: str) -> float:
    """Relative, as WCAG 2.2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", range(3), ids=["light", "dark", "print"])
def test_everything_can_be_read(palette: int) -> None:
    """WCAG 2.2, success criterion 1.4.3: at least 4.5 to 1. An engine can't decide it of single characters."""
    roots = [match.start() for match in re.finditer(r":root \{", CSS)]
    (begin, end) = list(pairwise([*roots, len(CSS)]))[palette]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", CSS[begin : CSS.index("}", begin)]))
    pairs = [(name.removesuffix("-ink"), name) for name in colours if name.endswith("-ink")]
    pairs += [(back, ink) for back in ("page", "panel") for ink in ("ink", "soft", "link")]
    assert len(pairs) == 12
    for back, ink in pairs:
        low, high = sorted(luminance(colours[one]) for one in (back, ink))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (back, ink)
    assert end > begin
