"""Packs are read as git itself reads them, and what git would not read isn't read either."""

import hashlib
import random
import zlib

import pytest
from git_repository import Repository, read
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.gateway.git.pack import Limits, PackReader, TooLargeError, patched
from claude_sandbox.gateway.git.pkt_line import MalformedError

TEXT = "".join(f"{random.Random(number).random()}\n" for number in range(200))  # noqa: S311 - only not the same twice


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A history with directories that change a little each time, so that git packs them as deltas."""
    repository = Repository.made(tmp_path_factory.mktemp("git") / "worked")
    files = [(f"dir/{number}/{name}.txt", TEXT) for number in range(3) for name in range(30)]
    repository.commit(*files)
    for number in range(12):
        repository.commit((f"dir/{number % 3}/{number}.txt", TEXT + str(number)), message=f"change {number}")
    return repository


def _known(repository: Repository) -> set[bytes]:
    listed = repository.git("cat-file", "--batch-all-objects", "--batch-check").split(b"\n")
    return {line.split()[0] for line in listed if line and line.split()[1] != b"blob"}


@pytest.mark.parametrize("step", [0, 1, 7, 4096])
def test_commits_and_trees_are_those_that_git_sees(worked: Repository, step: int) -> None:
    pack = worked.pack(worked.id("HEAD"), thin=False)
    found = read(pack, step=step).objects({})
    assert set(found) == _known(worked)
    assert all(found[name] == worked.object(name) for name in found)


def test_a_thin_pack_is_read_with_what_the_server_has(worked: Repository) -> None:
    base = worked.id("HEAD~5")
    pack = worked.pack(worked.id("HEAD"), base)
    without, found = read(pack).objects({}), read(pack).objects(worked.objects(base))
    assert len(without) < len(found)
    assert {worked.id(f"HEAD~{number}^{{tree}}") for number in range(5)} <= set(found)
    assert all(found[name] == worked.object(name) for name in found)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_changed_pack_is_read(worked: Repository, data: st.DataObject) -> None:
    pack = bytearray(worked.pack(worked.id("HEAD"), worked.id("HEAD~3"), thin=False))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(pack) - 1))
        pack[at] ^= data.draw(st.integers(1, 255))
    else:
        del pack[data.draw(st.integers(1, len(pack) - 1)) :]
    with pytest.raises((MalformedError, TooLargeError)):
        read(bytes(pack))


def test_nothing_may_come_behind_a_pack(worked: Repository) -> None:
    pack = worked.pack(worked.id("HEAD"), worked.id("HEAD~1"))
    with pytest.raises(MalformedError):
        read(pack + pack)


def _entry(kind: int, content: bytes, size: int | None = None, base: bytes = b"") -> bytes:
    left = len(content) if size is None else size
    head, left = bytearray([kind << 4 | left & 15]), left >> 4
    while left:
        head[-1] |= 128
        head.append(left & 127)
        left >>= 7
    return bytes(head) + base + zlib.compress(content)


def _pack(*entries: bytes, count: int | None = None) -> bytes:
    data = b"PACK\0\0\0\2" + (len(entries) if count is None else count).to_bytes(4, "big") + b"".join(entries)
    return data + hashlib.sha1(data).digest()  # noqa: S324 - git's


@pytest.mark.parametrize(
    "pack",
    [
        _pack(_entry(1, b"tree", size=3)),
        _pack(_entry(1, b"tree", size=5)),
        _pack(_entry(0, b"x")),
        _pack(_entry(5, b"x")),
        _pack(_entry(6, b"\x01\x01\x01x", base=b"\x05")),
        _pack(_entry(6, b"\x01\x01\x01x", base=b"\x00")),
        _pack(_entry(3, b"x"), count=2),
        _pack(_entry(3, b"x"), count=0),
    ],
)
def test_what_lies_about_itself_is_refused(pack: bytes) -> None:
    with pytest.raises(MalformedError):
        read(pack)


@pytest.mark.parametrize(
    ("limits", "entries"),
    [
        (Limits(objects=1), [_entry(3, b"a"), _entry(3, b"b")]),
        (Limits(object=1000), [_entry(2, bytes(1001))]),
        (Limits(held=1800), [_entry(2, bytes(501)), _entry(1, bytes(501))]),
        (Limits(object=1000), [_entry(7, bytes(1001), base=bytes(20))]),
    ],
)
def test_a_pack_is_held_up_to_a_limit(limits: Limits, entries: list[bytes]) -> None:
    reader = PackReader(limits=limits)
    with pytest.raises(TooLargeError):
        reader.feed(_pack(*entries))


def test_a_blob_is_not_held_however_large_it_is() -> None:
    reader = PackReader(limits=Limits(object=1000, held=1000))
    reader.feed(_pack(_entry(3, bytes(10_000_000))))
    assert reader.done
    assert not reader.objects({})


def test_what_is_more_than_it_says_is_not_inflated_to_its_end() -> None:
    reader = PackReader(limits=Limits(held=100_000))
    with pytest.raises(MalformedError):
        reader.feed(_pack(_entry(2, bytes(10_000_000), size=10)))


def test_deltas_of_deltas_of_one_base_are_held_up_to_the_limit() -> None:
    tree = bytes(900)
    delta = b"\x84\x07\x84\x07\xb0\x84\x03"
    first = _entry(2, tree)
    second = _entry(6, delta, base=bytes([len(first)]))
    reader = PackReader(limits=Limits(held=2600))
    reader.feed(_pack(first, second))
    with pytest.raises(TooLargeError):
        reader.objects({})


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_delta_is_more_than_it_says_or_takes_what_is_not_there(base: bytes, delta: bytes) -> None:
    try:
        made = patched(base, delta, 1000)
    except (MalformedError, TooLargeError):
        return
    assert len(made) <= 1000
