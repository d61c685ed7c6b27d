"""The page as a whole. It loads nothing, runs nothing but its own script, and works from a file."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.html import sections, trend
from claude_sandbox.report.formats.html.heatmap import details, heatmap, legend
from claude_sandbox.report.formats.html.markup import Markup, data_block, raw, tag
from claude_sandbox.report.formats.words import VERDICTS
from claude_sandbox.report.model import Report

_PARTS = {
    "summary": "Summary",
    "trend": "Trend",
    "checklists": "Checklists",
    "map": "Heat map",
    "fails": "What fails",
    "unknown": "What is not known",
    "sandboxes": "Sandboxes",
    "hosts": "Docker hosts",
    "controls": "Controls",
}


def written(report: Report) -> str:
    """The document."""
    main = tag(
        "main",
        sections.head(report),
        sections.summary(report),
        *([trend.trend(report.trend)] if report.trend else []),
        sections.checklists(report),
        *([_map(report)] if report.sandboxes else []),
        sections.findings(report, "What fails", "fails", Result.FAIL),
        sections.findings(report, "What is not known", "unknown", Result.UNKNOWN),
        sections.sandboxes(report),
        *([sections.hosts(report)] if report.hosts else []),
        sections.controls(report),
        id="main",
    )
    skip = tag("a", "Skip to the report", href="#main", class_="skip")
    there = {"map": report.sandboxes, "hosts": report.hosts, "trend": report.trend}
    parts = {identifier: name for identifier, name in _PARTS.items() if there.get(identifier, True)}
    links = [tag("li", tag("a", name, href=f"#{identifier}")) for identifier, name in parts.items()]
    navigation = tag("nav", tag("ul", links), aria_label="Parts of the report")
    body = tag("body", skip, navigation, main, data_block("data", details(report)), raw("script", _own("page.js")))
    return "<!DOCTYPE html>\n" + tag("html", _head(), body, lang="en")


def policy() -> str:
    """The page's Content-Security-Policy: its own script and style by their hashes, and nothing from anywhere."""
    rules = (
        "default-src 'none'",
        f"script-src '{_hash(_own('page.js'))}'",
        f"style-src '{_hash(_own('page.css'))}'",
        "base-uri 'none'",
        "form-action 'none'",
        # No text becomes HTML or a script, whatever the script does with it.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return "; ".join(rules)


def _head() -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy()),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", "Compliance of ClaudeSandboxes"),
        raw("style", _own("page.css")),
    )


def _map(report: Report) -> Markup:
    choices = [
        tag("option", "all", value=""),
        *(tag("option", words, value=one.value) for one, words in VERDICTS.items()),
    ]
    filters = tag(
        "div",
        tag("label", "Sandbox ", tag("input", type="search", id="named", autocomplete="off")),
        tag("label", "Verdict ", tag("select", choices, id="judged")),
        tag("p", id="shown", role="status"),
        id="filters",
        hidden=True,
    )
    # Only the script can show anything there.
    shown = tag("div", id="details", role="region", aria_label="Details of a mark", aria_live="polite", hidden=True)
    region = tag("div", heatmap(report), class_="scroll map", tabindex=0, role="region", aria_label="Heat map")
    hint = "Choose a mark for its evidence and remedy: by a click, or with the arrow keys and Enter. Escape closes it."
    return tag(
        "section",
        tag("h2", "Controls by sandbox"),
        legend(),
        tag("p", hint, id="hint", hidden=True),
        filters,
        region,
        shown,
        id="map",
    )


@cache
def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + b64encode(sha256(content.encode()).digest()).decode()
