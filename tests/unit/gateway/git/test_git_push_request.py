"""A push's commands: read as git writes them, written anew the same, and refused where they are anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.git.pkt_line import FLUSH, MalformedError, packet
from claude_sandbox.gateway.git.push.report import refused
from claude_sandbox.gateway.git.push.request import MAX_COMMANDS, PushReader, PushRequest
from claude_sandbox.gateway.git.push.rules import PushRules, refusals

ZERO, OLD, NEW = b"0" * 40, b"a" * 40, b"b" * 40
CAPABILITIES = b" report-status-v2 side-band-64k object-format=sha1 agent=git/2.39.5"
RULES = PushRules(("claude/*",))


def commands(*lines: bytes, capabilities: bytes = CAPABILITIES) -> bytes:
    first, *others = lines
    return b"".join(map(packet, (first + b"\0" + capabilities, *others))) + FLUSH


def line(ref: bytes, old: bytes = ZERO, new: bytes = NEW) -> bytes:
    return b"%s %s %s" % (old, new, ref)


def read(data: bytes) -> PushRequest:
    reader = PushReader()
    assert reader.feed(data)
    assert reader.request is not None
    return reader.request


def reasons(*refs: bytes, rules: PushRules | None = RULES) -> list[str]:
    return list(refusals(read(commands(*map(line, refs))), rules).values())


@given(st.integers(1, 60), st.binary(max_size=50))
def test_commands_are_read_in_whatever_pieces_they_come(step: int, pack: bytes) -> None:
    reader, data = PushReader(), commands(line(b"refs/heads/claude/a"), line(b"refs/heads/b", OLD)) + pack
    rest = b""
    for start in range(0, len(data), step):
        rest = rest + data[start : start + step] if reader.done else b""
        if not reader.done and reader.feed(data[start : start + step]):
            rest = reader.rest()
    assert reader.request is not None
    assert [command.ref for command in reader.request.commands] == [b"refs/heads/claude/a", b"refs/heads/b"]
    assert rest == pack


def test_what_is_passed_on_says_the_same() -> None:
    given = b"".join(packet(b"shallow " + OLD) for _ in range(2)) + commands(line(b"refs/heads/claude/a", OLD, NEW))
    first = read(given)
    again = read(first.head())
    assert again == first
    assert again.shallow == (OLD, OLD)
    assert again.capabilities == (b"report-status-v2", b"side-band-64k")


def test_a_question_whether_one_may_log_in_has_no_commands() -> None:
    reader = PushReader()
    assert reader.feed(FLUSH)
    assert reader.probe
    assert reader.request is None


@pytest.mark.parametrize(
    "data",
    [
        commands(line(b"refs/heads/a"), line(b"refs/heads/a")),
        commands(line(b"refs/heads/a", ZERO, ZERO)),
        commands(line(b"refs/heads/a", OLD.upper())),
        commands(line(b"refs/heads/a", b"a" * 39)),
        commands(line(b"")),
        commands(line(b"refs/heads/a").replace(b" ", b"\t")),
        commands(line(b"refs/heads/a"), capabilities=b"push-options"),
        commands(line(b"refs/heads/a"), capabilities=b"push-cert=nonce"),
        commands(line(b"refs/heads/a"), capabilities=b"object-format=md5"),
        commands(line(b"refs/heads/a"), capabilities=b"invented"),
        commands(line(b"refs/heads/a"), line(b"refs/heads/b") + b"\0atomic"),
        packet(line(b"refs/heads/a")) + FLUSH,
        packet(b"push-cert\0atomic") + FLUSH,
        packet(b"shallow x") + commands(line(b"refs/heads/a")),
        commands(line(b"refs/heads/a"), b"shallow " + OLD),
        b"0003",
        b"0004",
        b"00 5a",
        b"FFFF",
        b"fff5",
        b"+123",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        PushReader().feed(data)


def test_there_may_not_be_more_commands_than_are_read() -> None:
    lines = [line(b"refs/heads/%d" % number) for number in range(MAX_COMMANDS + 1)]
    with pytest.raises(MalformedError):
        PushReader().feed(commands(*lines))
    assert len(read(commands(*lines[:-1])).commands) == MAX_COMMANDS


def test_a_branch_that_was_asked_for_may_be_pushed() -> None:
    assert reasons(b"refs/heads/claude/work") == []


@pytest.mark.parametrize(
    ("ref", "why"),
    [
        (b"refs/heads/main", "only branches claude/*"),
        (b"refs/heads/claude/a/b", "only branches claude/*"),
        (b"refs/heads/Claude/a", "only branches claude/*"),
        (b"refs/heads/claude", "only branches claude/*"),
        (b"refs/tags/claude/a", "no tags"),
        (b"refs/pull/1/head", "no tags"),
        (b"refs/replace/" + OLD, "no tags"),
        (b"refs/notes/claude/a", "no tags"),
        (b"HEAD", "no tags"),
        (b"claude/a", "no tags"),
        (b"refs/heads/claude/../main", "git allows"),
        (b"refs/heads/claude/a.lock", "git allows"),
        (b"refs/heads/claude/.a", "git allows"),
        (b"refs/heads/claude//a", "git allows"),
        (b"refs/heads/claude/a/", "git allows"),
        (b"refs/heads/claude/a\nb", "git allows"),
        (b"refs/heads/claude/a b", "git allows"),
        (b"refs/heads/claude/CLAUDE~1", "git allows"),
        (b"refs/heads/claude/a:b", "git allows"),
        (b"refs/heads/claude/-a", "git allows"),
        ("refs/heads/claude/m\u00e4in".encode(), "plain ASCII"),
        (b"refs/heads/claude/\xff", "plain ASCII"),
        (b"refs/heads/claude/HEAD", "another"),
        (b"refs/heads/claude/" + b"a" * 255, "characters"),
    ],
)
def test_another_ref_is_refused_with_the_reason(ref: bytes, why: str) -> None:
    (reason,) = reasons(ref)
    assert why in reason


def test_nothing_is_pushed_where_nothing_was_asked_for() -> None:
    (reason,) = reasons(b"refs/heads/claude/a", rules=None)
    assert "read-only" in reason


def test_a_deletion_has_to_be_asked_for() -> None:
    request = read(commands(line(b"refs/heads/claude/a", OLD, ZERO)))
    assert "push.delete" in refusals(request, RULES)[b"refs/heads/claude/a"]
    assert not refusals(request, PushRules(("claude/*",), delete=True))
    assert not request.needs_pack


def test_of_a_push_of_several_all_are_told_why_nothing_was_done() -> None:
    request = read(commands(line(b"refs/heads/claude/a"), line(b"refs/heads/main")))
    answer = refused(request, refusals(request, RULES))
    assert b"ng refs/heads/main only branches claude/* may be pushed" in answer
    assert b"ng refs/heads/claude/a another part of this push is refused" in answer
    assert answer.endswith(b"0000")
