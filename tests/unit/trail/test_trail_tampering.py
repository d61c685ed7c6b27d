"""Whatever is done to a trail is found, or it says what it said before."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from independent_verifier import is_genuine
from trails import Trail, begun, healed, made

from claude_sandbox.trail.chain import Head, Signer, appended, checkpointed
from claude_sandbox.trail.chain import begun as begun_segment
from claude_sandbox.trail.keys import signer
from claude_sandbox.trail.segments import path_of, present
from claude_sandbox.trail.verification import verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trail:
    return made(tmp_path_factory.mktemp("whole"))


def _copy(trail: Trail, directory: Path) -> Trail:
    shutil.copytree(trail.directory, directory / "trail")
    return Trail(directory / "trail", trail.store, trail.clock, list(trail.copied))


def test_what_was_written_is_genuine(whole: Trail) -> None:
    verdict = whole.verdict()
    assert verdict.ok, verdict.findings
    assert verdict.segments > 3
    assert (verdict.lines, verdict.remembered, verdict.unfinished) == (len(whole.copied), len(whole.copied), 0)
    assert is_genuine(whole.directory, whole.store.public_key)


LINE = {
    "a line is removed": lambda lines, at: lines[:at] + lines[at + 1 :],
    "a line is repeated": lambda lines, at: [*lines[: at + 1], lines[at], *lines[at + 1 :]],
    "two lines change places": lambda lines, at: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
    "an empty line comes in between": lambda lines, at: [*lines[: at + 1], b"", *lines[at + 1 :]],
    "a line comes from elsewhere": lambda lines, at: [*lines[: at + 1], lines[at - 1], *lines[at + 1 :]],
}


@pytest.mark.parametrize("what", LINE)
def test_each_line_is_where_it_was_written(whole: Trail, tmp_path: Path, what: str) -> None:
    trail = _copy(whole, tmp_path)
    for _, path in present(trail.directory):
        data = path.read_bytes()
        lines = data.splitlines()
        for at in range(1, len(lines) - 1):
            path.write_bytes(b"\n".join(LINE[what](lines, at)) + b"\n")
            assert not trail.verdict([]).ok, (path.name, at)
            assert not is_genuine(trail.directory, trail.store.public_key), (path.name, at)
        path.write_bytes(data)
    assert trail.verdict().ok


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_the_bytes_is_found_or_changes_nothing(whole: Trail, data: st.DataObject, tmp_path: Path) -> None:
    number, path = data.draw(st.sampled_from(present(whole.directory)))
    before = path.read_bytes()
    at = data.draw(st.integers(0, len(before)))
    removed = data.draw(st.integers(0, 40))
    added = data.draw(st.binary(max_size=20) | st.sampled_from([b"\n", b" ", b"0", before[at : at + 300]]))
    after = before[:at] + added + before[at + removed :]
    trail = Trail(tmp_path / "changed", whole.store, whole.clock, whole.copied)
    shutil.rmtree(trail.directory, ignore_errors=True)
    shutil.copytree(whole.directory, trail.directory)
    path_of(trail.directory, number).write_bytes(after)
    verdict = trail.verdict(whole.copied[-1:])
    if after == before:
        assert verdict.ok
    elif verdict.ok:
        # What is behind the last checkpoint is said to be vouched for by nothing.
        assert after.startswith(before)
        assert path == present(whole.directory)[-1][1]
        assert verdict.unfinished == len(after) - len(before)


def test_segments_that_are_missing_or_in_anothers_place_are_found(whole: Trail, tmp_path: Path) -> None:
    trail = _copy(whole, tmp_path)
    numbers = [number for number, _ in present(trail.directory)]
    for one in numbers[:-1]:
        path = path_of(trail.directory, one)
        kept = path.read_bytes()
        path.unlink()
        assert not trail.verdict([]).ok, one
        path.write_bytes(path_of(trail.directory, numbers[-1]).read_bytes())
        assert not trail.verdict([]).ok, one
        path.write_bytes(kept)
    first, second = (path_of(trail.directory, one) for one in numbers[:2])
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert not trail.verdict([]).ok


def test_a_segment_of_another_trail_is_found(whole: Trail, tmp_path: Path) -> None:
    trail = _copy(whole, tmp_path)
    other = made(tmp_path / "other")
    shutil.copy(path_of(other.directory, 3), path_of(trail.directory, 3))
    assert not verify(trail.directory, [trail.store.public_key, other.store.public_key]).ok


def test_what_is_cut_off_at_a_checkpoint_is_found_by_a_copy_alone(whole: Trail, tmp_path: Path) -> None:
    trail = _copy(whole, tmp_path)
    present(trail.directory)[-1][1].unlink()
    assert trail.verdict([]).ok
    checkpoint = trail.copied[-1:]
    assert "rolled back" in trail.verdict(checkpoint).findings[0].what
    # The operator may have gone on since.
    trail.store.close()
    rolled = begun(tmp_path)
    for number in range(30):
        rolled.heal(number)
    rolled.store.close()
    assert any("not what was remembered" in one.what for one in rolled.verdict(whole.copied).findings)


def test_a_trail_that_was_begun_anew_is_no_continuation(whole: Trail, tmp_path: Path) -> None:
    key = (whole.directory.parent / "key.pem").read_bytes()
    (tmp_path / "key.pem").write_bytes(key)
    other = made(tmp_path, commits=20)
    assert other.store.public_key == whole.store.public_key
    assert any("another trail" in one.what for one in other.verdict(whole.copied[-1:]).findings)


def test_who_does_not_have_the_key_can_not_sign(whole: Trail, tmp_path: Path) -> None:
    trail = _copy(whole, tmp_path)
    foreign = signer(tmp_path / "foreign.pem")
    number, path = present(trail.directory)[-1]
    verdict = trail.verdict()
    head = Head(verdict.log, number, verdict.last, verdict.last_hash)
    line, head = appended(head, healed(99))
    for forger in (foreign, Signer(trail.store.public_key, foreign.sign)):
        checkpoint, _ = checkpointed(head, trail.clock(), forger)
        kept = path.read_bytes()
        path.write_bytes(kept + line + b"\n" + checkpoint + b"\n")
        assert not trail.verdict([]).ok
        assert not is_genuine(trail.directory, trail.store.public_key)
        path.write_bytes(kept)
    begin, _ = begun_segment(Head(verdict.log, number, verdict.last, verdict.last_hash), trail.clock(), foreign)
    path_of(trail.directory, number + 1).write_bytes(b"".join(one + b"\n" for one in begin))
    assert any("foreign key" in one.what for one in trail.verdict([]).findings)


def test_a_checkpoint_is_of_one_place(whole: Trail, tmp_path: Path) -> None:
    """A genuine checkpoint does not vouch for what it was not made for."""
    trail = _copy(whole, tmp_path)
    checkpoints = [line for line in trail.copied if b'"kind":"Checkpoint"' in line]
    path = present(trail.directory)[-1][1]
    lines = path.read_bytes().splitlines()
    for other in checkpoints[:-1]:
        path.write_bytes(b"\n".join([*lines[:-1], other]) + b"\n")
        assert not trail.verdict([]).ok


def test_a_remembered_checkpoint_of_a_foreign_key_is_none(whole: Trail, tmp_path: Path) -> None:
    other = made(tmp_path)
    found = whole.verdict(other.copied[-1:]).findings
    assert any("not signed by the key" in one.what for one in found)
