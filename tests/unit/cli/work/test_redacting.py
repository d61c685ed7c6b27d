"""No credential is in what `claude-sandbox logs` shows, however its bytes come; and what is none stays readable."""

import base64
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from claude_sandbox.cli.work.plain import LONGEST_LINE
from claude_sandbox.cli.work.redacting import RedactedLines
from claude_sandbox.controller.machinery.redaction import REDACTED

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
TOKENS = st.text(LETTERS, min_size=24, max_size=90)
SHAPES = (
    "sk-ant-api03-{}", "sk-ant-oat01-{}", "ghp_{}", "github_pat_{}", "glpat-{}", "Authorization: Bearer {}",
    '{{"x-api-key": "{}"}}', "curl -H 'Authorization: token {}'", "https://user:{}@git.example.org/x",
    "ANTHROPIC_API_KEY={}", 'password: "{}" password="{}"', "\x1b[31msk-ant-api03-{}\x1b[0m",
)  # fmt: skip
NOISE = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\"'\\"), max_size=20)


def shown(written: bytes, cuts: list[int]) -> list[bytes]:
    """What is shown of it where it comes in pieces that end at these places."""
    lines, found, at = RedactedLines(), list[bytes](), 0
    for end in [*sorted({cut % (len(written) + 1) for cut in cuts}), len(written)]:
        found += lines.take(written[at:end])
        at = end
    return found + lines.end()


@given(st.lists(st.tuples(NOISE, st.sampled_from(SHAPES), TOKENS), min_size=1, max_size=6), st.lists(st.integers(0)))
def test_no_credential_is_shown_and_it_does_not_matter_how_its_bytes_come(
    said: list[tuple[str, str, str]], cuts: list[int]
) -> None:
    written = "\n".join(f"{noise} {shape.format(token, token)}" for noise, shape, token in said).encode()
    found = b"\n".join(shown(written, cuts))
    assert not [token for _, _, token in said if token.encode() in found]
    assert found == b"\n".join(shown(written, []))
    assert found.count(b"\n") == written.count(b"\n")


@settings(max_examples=25)
@given(st.integers(0, 130), st.sampled_from(SHAPES), TOKENS, st.lists(st.integers(0), max_size=4))
@example(60, "sk-ant-api03-{}", "A" * 90, [])
def test_nor_where_a_long_line_is_cut_in_the_middle_of_it(before: int, shape: str, token: str, cuts: list[int]) -> None:
    secret = shape.format(token, token)
    for parts in (1, 2):
        written = f"{'x ' * ((LONGEST_LINE * parts - before) // 2)}{secret} {'y ' * 3000}".encode()
        found = b"".join(shown(written, cuts))
        assert token.encode() not in found
        # Nothing of it that is worth anything, at either end.
        assert token[-12:].encode() not in found
        assert token[:16].encode() not in found


def pem(seed: int) -> list[str]:
    body = base64.b64encode(random.Random(seed).randbytes(600)).decode()  # noqa: S311
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return ["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----"]


@settings(max_examples=20)
@pytest.mark.parametrize("prefix", ["", "  ", "2026-03-01T12:00:00.123456789Z "])
@given(st.integers(0), st.lists(st.integers(0)))
def test_a_private_key_goes_with_all_of_its_lines(prefix: str, seed: int, cuts: list[int]) -> None:
    key = pem(seed)
    written = "\n".join(f"{prefix}{line}" for line in ["before", *key, "after", "the end"]).encode()
    found = [line.decode() for line in shown(written, cuts)]
    assert not [line for line in key if any(line in one for one in found)]
    assert [found[0], *found[-2:]] == [f"{prefix}{line}" for line in ("before", "after", "the end")]
    assert all(REDACTED in line for line in found[1:-2])
    assert len(found) == written.count(b"\n") + 1


def test_nor_one_in_a_line_that_is_as_long_as_a_key_and_more() -> None:
    key = "\\n".join(pem(1))
    written = f"{'x ' * (LONGEST_LINE // 2 - 200)}{key} after".encode()
    found = b"".join(shown(written, []))
    assert not [line for line in pem(1)[1:-1] if line.encode() in found]
    assert found.endswith(b" after")


def test_a_beginning_without_an_end_hides_nothing_else() -> None:
    written = b"-----BEGIN PRIVATE KEY-----\nthis is no key, but what the agent did\nand this\n"
    assert shown(written, [])[1:] == [b"this is no key, but what the agent did", b"and this"]


@given(st.lists(st.binary(max_size=200).filter(lambda line: b"\n" not in line), min_size=1), st.lists(st.integers(0)))
def test_bytes_of_any_kind_come_through(lines: list[bytes], cuts: list[int]) -> None:
    written = b"\n".join(lines)
    quiet = [line for line in shown(written, cuts) if REDACTED.encode() not in line]
    assert all(line in lines for line in quiet)


def test_what_is_no_credential_stays() -> None:
    written = b'{"type":"tool_result","data":{"input_tokens":17,"sha":"9f86d081884c7d659a2feaa0c55ad015"}}\nkeys: 3'
    assert shown(written, []) == written.split(b"\n")
