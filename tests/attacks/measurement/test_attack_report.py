"""A report that does something else than report.

What a status says may come from a hostile place: an image's name, a runtime's message, and of a report from a file
all of it. Put into a page as it is, it runs a script in an auditor's browser, with the report's origin; in Markdown it
is a link or an image that tells who reads it; in a terminal it hides lines; in XML it ends the document. It is text in
every format: escaped where it is written, and in the page there is no way for it to become more, even by mistake.
"""

import json
import re
from functools import cache
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click import unstyle
from reported_sandboxes import ATTACKS
from reported_sandboxes import hostile_report as report_of

from claude_sandbox.api.clip import plain
from claude_sandbox.report.formats import documents, junit, oscal, sarif, terminal
from claude_sandbox.report.formats.html import page
from claude_sandbox.report.formats.html.markup import data_block, raw, tag

OWN = {
    *("html", "head", "meta", "title", "style", "body", "script", "a", "nav", "main", "header", "section", "article"),
    *("h1", "h2", "h3", "p", "div", "span", "strong", "abbr", "ul", "li", "dl", "dt", "dd", "figure", "figcaption"),
    *("svg", "rect", "label", "input", "select", "option"),
    *("table", "caption", "colgroup", "thead", "tbody", "tr", "th", "td"),
}


@cache
def page_of(text: str) -> str:
    return page.written(report_of(text))


class Page(HTMLParser):
    """What a browser makes of a page: elements, the names of attributes, and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def handlers(self) -> set[str]:
        """Attributes that run something."""
        return {name for name in self.attributes if name.startswith("on") or name in ("style", "src", "srcdoc")}


@pytest.mark.parametrize("attack", ATTACKS[:7])
def test_a_text_that_is_written_into_a_page_as_it_is_makes_elements_of_its_own(attack: str) -> None:
    """The attack, where nothing stops it."""
    told = Page(f"<p>{attack}</p><p title='{attack}'></p><script>{json.dumps(attack)}</script>")
    expected = Page("<p></p><p title=''></p><script></script>")
    assert told.elements != expected.elements or told.handlers


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_page_has_the_same_elements_whatever_the_texts(attack: str) -> None:
    told, harmless = Page(page_of(attack)), Page(page_of("x"))
    assert told.elements == harmless.elements
    assert set(told.elements) <= OWN
    assert not told.handlers
    assert told.attributes == harmless.attributes
    assert any(plain(attack) in text for text in told.texts)


@pytest.mark.parametrize("attack", ATTACKS)
def test_data_for_the_script_can_neither_end_its_element_nor_begin_another(attack: str) -> None:
    block = data_block("data", {"text": plain(attack)})
    content = block[block.index(">") + 1 : block.rindex("</script>")]
    assert not set(content) & set("<>&\u2028\u2029")
    assert json.loads(content) == {"text": plain(attack)}


def test_the_page_may_run_its_own_script_alone_and_load_nothing() -> None:
    text = page_of("x")
    policy = page.policy()
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert text.index("Content-Security-Policy") < min(text.index("<style"), text.index("<script"))
    assert not re.search(r"(?:src|href)=\"(?!#)", text)


def test_the_script_makes_text_of_texts() -> None:
    script = page._own("page.js")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function|setAttribute\(\"on", script)


def test_attributes_are_escaped_too() -> None:
    assert tag("p", "a", title="\"'<>&") == '<p title="&quot;&#x27;&lt;&gt;&amp;">a</p>'


def test_a_script_that_would_end_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="its own end"):
        raw("script", "'</SCRIPT>'")


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_format_has_a_character_that_is_not_seen(attack: str) -> None:
    found = report_of(attack)
    for written in (documents.written, sarif.written, oscal.written, junit.written, lambda _: page_of(attack)):
        assert written(found).replace("\n", "").isprintable()
    shown = terminal.written(found)
    assert unstyle(shown).replace("\n", "").isprintable()
    assert plain(attack) in unstyle(shown)


@pytest.mark.parametrize("attack", ATTACKS)
def test_xml_and_json_hold_the_text_and_nothing_of_it_is_more(attack: str) -> None:
    found = report_of(attack)
    root: Any = ET.fromstring(junit.written(found))  # noqa: S314 - an attack on a reader is what is looked for
    assert {one.tag for one in root.iter()} <= {
        *("testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "skipped")
    }
    document = json.loads(documents.written(found))
    assert plain(attack) in [one["message"] for one in document["sandboxes"][0]["results"]]
    (run,) = json.loads(sarif.written(found))["runs"]
    assert len(run["results"]) == 1
    (result,) = json.loads(oscal.written(found))["assessment-results"]["results"]
    assert f"Fail: {plain(attack)}" in [one["description"] for one in result["observations"]]
