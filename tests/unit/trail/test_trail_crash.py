"""A crash at any byte, or call to the kernel, loses nothing that was acknowledged, and looks like no tampering."""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from independent_verifier import is_genuine
from trails import SMALL, Trail, begun, kinds, made

from claude_sandbox.trail.records import Kind, hashed
from claude_sandbox.trail.segments import DRAFT, present
from claude_sandbox.trail.store import HeldError, Keeping
from claude_sandbox.trail.verification import verify


def _ends(acknowledged: bytes, after: bytes) -> list[int]:
    """Before, at and after the ends of lines."""
    ends = [at for at in range(len(acknowledged), len(after)) if after[at : at + 1] == b"\n"]
    return [at + by for at in ends for by in (-1, 0, 1) if at + by < len(after)]


def test_cut_at_any_byte_of_what_was_not_acknowledged(tmp_path: Path) -> None:
    trail = begun(tmp_path, Keeping(keep=None))
    trail.heal(1)
    trail.store.close()
    path = present(trail.directory)[-1][1]
    acknowledged, copied = path.read_bytes(), list(trail.copied)
    trail.store.open()
    trail.heal(2, 3)
    trail.store.close()
    after = path.read_bytes()
    # Each byte but for the length of hashes and signatures, within which one is as good as another.
    for cut in (*range(len(acknowledged), len(after), 17), *_ends(acknowledged, after)):
        path.write_bytes(after[:cut])
        trail.copied = list(copied)
        trail.reopen()
        trail.heal(4)
        trail.store.close()
        verdict = trail.verdict()
        assert verdict.ok, (cut, verdict.findings)
        assert (Kind.RECOVERED in kinds(trail)) == (cut > len(acknowledged))
    assert is_genuine(trail.directory, trail.store.public_key)


def test_what_was_cut_off_is_said(tmp_path: Path) -> None:
    trail = made(tmp_path, 1)
    path = present(trail.directory)[-1][1]
    path.write_bytes(path.read_bytes() + b'{"trail":1,"seq":5')
    line = trail.reopen()[0]
    assert b'"kind":"Recovered"' in line
    assert hashed(b'{"trail":1,"seq":5').encode() in line


def test_nobody_gets_lines_vouched_for_that_they_added_while_nothing_ran(tmp_path: Path) -> None:
    from trails import healed

    from claude_sandbox.trail.chain import appended

    trail = made(tmp_path, 1)
    path = present(trail.directory)[-1][1]
    forged, _ = appended(trail.store.head, healed(1000))
    path.write_bytes(path.read_bytes() + forged + b"\n")
    assert trail.verdict().unfinished == len(forged) + 1
    trail.reopen()
    trail.store.close()
    assert b"heal 1000" not in path.read_bytes()
    assert trail.verdict().ok


def test_a_change_of_what_was_acknowledged_stays_as_evidence(tmp_path: Path) -> None:
    trail = made(tmp_path, 3, Keeping(keep=None))
    path = present(trail.directory)[-1][1]
    changed = path.read_bytes().replace(b"heal 1", b"heal 7")
    path.write_bytes(changed)
    lines = trail.reopen()
    trail.heal(9)
    trail.store.close()
    assert path.read_bytes() == changed
    assert any(b'"kind":"Damaged"' in line for line in lines)
    assert not verify(trail.directory, [trail.store.public_key]).ok
    # And it goes on, without that being said again at each start.
    assert not any(b'"kind":"Damaged"' in line for line in trail.reopen())


def test_of_two_writers_one_has_it(tmp_path: Path) -> None:
    first = begun(tmp_path)
    with pytest.raises(HeldError):
        begun(tmp_path)
    first.store.close()
    second = begun(tmp_path)
    second.heal(1)
    assert second.verdict().ok


FATAL = ("write", "fsync", "fdatasync", "link", "ftruncate", "unlink", "replace", "rename")


def _fatal(at: int) -> Callable[[], None]:
    """From now on the process dies at its so-many-th call; of what it is to write then it writes a half."""
    calls = 0

    def dying(name: str, real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return call

    def arm() -> None:
        for name in FATAL:
            setattr(os, name, dying(name, getattr(os, name)))

    return arm


def _lives_until(at: int, directory: Path) -> tuple[bool, list[bytes]]:
    """What a process acknowledged that dies at the call; whether it did."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        out = os.fdopen(write, "wb", buffering=0)
        try:
            _fatal(at)()
            trail = begun(directory, Keeping(segment_bytes=1500, keep=timedelta(seconds=4)))
            told = 0
            for number in range(6):
                trail.heal(number)
                # Not by os.write, which is counted.
                out.write(b"".join(line + b"\n" for line in trail.copied[told:]))
                told = len(trail.copied)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as lines:
        told = lines.read().splitlines()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, told


def test_killed_at_each_call_to_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    at = 0
    while True:
        at += 1
        directory = tmp_path / str(at)
        died, told = _lives_until(at, directory)
        trail = begun(directory, Keeping(segment_bytes=1500, keep=timedelta(seconds=4)))
        trail.heal(100)
        trail.store.close()
        verdict = trail.verdict([*told, *trail.copied])
        assert verdict.ok, (at, verdict.findings)
        assert not (trail.directory / DRAFT).exists()
        assert Kind.DAMAGED not in kinds(trail)
        if not died:
            break
    assert at > 40


def test_a_new_key_begins_a_new_segment(tmp_path: Path) -> None:
    trail = made(tmp_path, 2, Keeping(keep=None))
    old = trail.store.public_key
    (tmp_path / "key.pem").unlink()
    trail.reopen()
    trail.heal(5)
    trail.store.close()
    new = trail.store.public_key
    assert old != new
    assert verify(trail.directory, [old, new]).ok
    assert not verify(trail.directory, [old]).ok
    assert not verify(trail.directory, [new]).ok


def _retiring(tmp_path: Path) -> Trail:
    trail = begun(tmp_path, Keeping(segment_bytes=2000, keep=timedelta(seconds=20)))
    for number in range(40):
        trail.heal(number)
    trail.store.close()
    return trail


def test_retention_is_told_from_removal(tmp_path: Path) -> None:
    trail = _retiring(tmp_path)
    verdict = trail.verdict()
    assert verdict.ok, verdict.findings
    assert verdict.retired is not None
    assert verdict.remembered_retired == verdict.retired.seq
    assert verdict.remembered + verdict.remembered_retired == len(trail.copied)
    # One more than is stated.
    present(trail.directory)[0][1].unlink()
    assert not trail.verdict([]).ok


def test_segments_that_retention_did_not_get_to_remove_go_later(tmp_path: Path) -> None:
    trail = begun(tmp_path, Keeping(segment_bytes=2000, keep=None))
    for number in range(20):
        trail.heal(number)
    trail.store.close()
    copied = trail.copied
    trail = begun(tmp_path, Keeping(segment_bytes=2000, keep=timedelta(0)), trail.clock)
    trail.store.close()
    assert len(present(trail.directory)) == 1
    assert trail.verdict(copied).ok


def test_small_segments_are_begun_by_age_as_well(tmp_path: Path) -> None:
    trail = begun(tmp_path, Keeping(segment_age=timedelta(seconds=10), keep=None))
    for number in range(20):
        trail.heal(number)
    assert len(present(trail.directory)) > 1
    assert trail.verdict().ok
    assert SMALL.segment_age == timedelta(days=7)
