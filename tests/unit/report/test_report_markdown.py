"""The report on code hosts: what it says, and that no text in it can be more than text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from reported_sandboxes import ATTACKS, hostile_report, on_kubernetes, reported, unmeasured, with_result

from claude_sandbox.api.clip import plain
from claude_sandbox.api.status import Result
from claude_sandbox.report.formats import markdown

PARSER = MarkdownIt("gfm-like", {"linkify": False}).enable("table")

MARKDOWN = [
    "` ``` </code><script>alert(1)</script>",
    "https://evil.example",
    "[x](javascript:alert(1)) ![x](https://evil.example/pixel.png)",
    "@everyone see #1 and https://evil.example",
    "| a | b |",
    "\\`x\\`",
    "`",
    " ` ",
    "<!-- ",
    "&lt;b&gt; &#96;",
]


def tokens(text: str) -> list[Token]:
    found = []
    for token in PARSER.parse(text):
        found += [token, *(token.children or ())]
    return found


def test_it_names_what_fails_what_is_unknown_and_what_counts_for_nothing() -> None:
    failing = with_result(on_kubernetes(), "PRIV-01", Result.FAIL, "it is", required=True, remedy="Do it.")
    text = markdown.written(reported(failing, unmeasured()))
    assert "**2 sandboxes: 1 not compliant, 1 not verified.**" in text
    assert re.search(r"\*\*PRIV-01 Not privileged\*\* \(Critical, required\): `it is`\n  - in `agents/alice`", text)
    assert "remedy: `Do it.`" in text
    assert "- `agents/new`: `the operator has not measured it; see whether the operator runs`" in text


def test_a_message_that_many_sandboxes_have_is_there_once() -> None:
    failing = [
        with_result(on_kubernetes(name=f"a{number}"), "PRIV-01", Result.FAIL, "it is the same") for number in range(40)
    ]
    text = markdown.written(reported(*failing))
    assert text.count("it is the same") == 1
    assert "and 30 more" in text


@pytest.mark.parametrize("attack", [*MARKDOWN, *ATTACKS])
def test_a_hostile_text_stays_text(attack: str) -> None:
    found = tokens(markdown.written(hostile_report(attack)))
    assert not {one.type for one in found} & {"link_open", "image", "html_inline", "html_block", "fence"}
    said = [one.content for one in found if one.type == "code_inline"]
    assert said.count(plain(attack)) >= 3, said
    assert not [one.content for one in found if one.type == "text" and plain(attack) in one.content]


@given(st.text(min_size=1).map(plain) | st.text("` a", min_size=1))
def test_any_text_comes_out_of_its_code_span_as_it_went_in(text: str) -> None:
    (inline,) = (one for one in PARSER.parse(f"- in {markdown.code(text)}: end") if one.type == "inline")
    assert [one.type for one in inline.children or ()] == ["text", "code_inline", "text"]
    found = (inline.children or ())[1].content
    assert found == text
