"""Packs have room up to their bounds, each its share for certain, and nothing is left of one that is closed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.git.pack import TooLargeError
from claude_sandbox.gateway.git.spool import FullError, Room, Spool, room_of


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_is_written_is_read_and_has_no_name(tmp_path: Path, in_memory: bool) -> None:
    spool = Spool(Room(None if in_memory else tmp_path, 100, 400), 4)
    with spool.open() as one:
        one.write(b"first ")
        one.write(b"second")
        assert list(tmp_path.iterdir()) == []
        one.rewind()
        assert (one.read(6), one.read(100), one.read(1), one.size) == (b"first ", b"second", b"", 12)


def test_one_has_no_more_than_its_bound(tmp_path: Path) -> None:
    with Spool(Room(tmp_path, 10, 100), 4).open() as one:
        one.write(bytes(10))
        with pytest.raises(TooLargeError, match="more than 10 bytes: push it in parts"):
            one.write(b"x")


def test_the_only_place_has_all_the_room() -> None:
    with Spool(room_of(None, 100, 100), 1).open() as one:
        one.write(bytes(100))


@pytest.mark.parametrize(
    ("directory", "given", "found"),
    [
        (None, (None, None), (24 << 20, 96 << 20)),
        (Path("/spool"), (None, None), (1 << 30, 4 << 30)),
        (None, (7, 9), (7, 9)),
        (Path("/spool"), (7, None), (7, 4 << 30)),
    ],
)
def test_what_is_not_said_suits_the_place(
    directory: Path | None, given: tuple[int | None, int | None], found: tuple[int, int]
) -> None:
    assert room_of(directory, *given) == Room(directory, *found)


def test_a_large_one_leaves_the_others_their_share() -> None:
    spool = Spool(Room(None, 100, 100), 4)
    with spool.open() as large, spool.open() as small:
        large.write(bytes(25))
        with pytest.raises(FullError):
            large.write(b"x")
        small.write(bytes(25))
    with spool.open() as again:
        again.write(bytes(25))


def test_what_nobody_else_needs_may_be_had() -> None:
    spool = Spool(Room(None, 1000, 1000), 2)
    with spool.open() as one:
        one.write(bytes(500))
        with spool.open() as other:
            other.write(bytes(500))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=40))
def test_all_together_never_have_more_and_each_can_have_its_share(writes: list[tuple[int, int]]) -> None:
    spool = Spool(Room(None, 80, 100), 4)
    packs = [spool.open() for _ in range(4)]
    for place, size in writes:
        before = packs[place].size
        try:
            packs[place].write(bytes(size))
        except (FullError, TooLargeError):
            assert packs[place].size == before
            assert before + size > 25
    assert sum(one.size for one in packs) <= 100


def test_a_directory_that_takes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FullError, match="No such file"):
        Spool(Room(tmp_path / "none", 10, 10), 1).open()
    full = Path("/dev/full")
    spool = Spool(Room(None, 10, 10), 1)
    with spool.open() as one, full.open("wb", buffering=0) as disk:
        one._file = disk
        with pytest.raises(FullError, match="No space left"):
            one.write(b"x")
