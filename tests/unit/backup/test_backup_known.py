"""What of a workspace is not read again, since the last list has it as it is now."""

import dataclasses
import functools
import json
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from restickit import fill, restic

from claude_sandbox.backup import store, tree
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.known import READ_AGAIN, KnownFiles
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.restic import Repository
from claude_sandbox.backup.tree import walk

ALWAYS, NEVER = 0.0, 1.0


@dataclasses.dataclass
class Lab:
    root: Path
    read: list[int]
    """The sizes of the files that were read for a list or a comparison."""

    @property
    def workspace(self) -> Path:
        return self.root / "source/workspace"

    def back_up(self, verified: str = "") -> dict[str, Any]:
        self.read.clear()
        order = Order("backup", "alice", "u1", verified=verified)
        repository = Repository(str(self.root / "repository"), b"correct horse", str(self.root / "cache"), restic())
        return carry_out(order, repository, Places(self.root / "source", self.root / "transient", patience=0.1))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """In memory, where a shared mapping is written to without a word of the kernel's. Nothing is read by chance, and
    what was changed a moment ago counts as settled."""
    read: list[int] = []
    real = tree._digest

    def counted(handle: int, size: int, buffer: memoryview) -> str:
        read.append(size)
        return real(handle, size, buffer)

    monkeypatch.setattr(tree, "_digest", counted)
    monkeypatch.setattr(tree, "_SETTLED", -(10**9))
    by_chance(monkeypatch, NEVER)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        for one in ("source/workspace", "repository", "transient", "cache"):
            Path(root, one).mkdir(parents=True)
        made = Lab(Path(root), read)
        fill(made.workspace)
        yield made


def by_chance(monkeypatch: pytest.MonkeyPatch, drawn: float) -> None:
    monkeypatch.setattr(store, "KnownFiles", functools.partial(KnownFiles, chance=lambda: drawn))


def test_what_is_as_it_was_is_read_for_the_comparison_alone(lab: Lab) -> None:
    first = lab.back_up()
    files = len(lab.read) // 2
    assert len(lab.read) == 2 * files
    again = lab.back_up(first["snapshot"])
    assert (again["different"], again["changed"], again["files"]) == (0, 0, first["files"]), again["examples"]
    assert len(lab.read) == files
    # What was not read is as well known to the next one.
    assert lab.back_up(again["snapshot"])["different"] == 0
    assert len(lab.read) == files


def test_what_changed_is_read_whatever_its_times_are_set_to(lab: Lab) -> None:
    first = lab.back_up()
    changed = lab.workspace / "src/run"
    seen = changed.stat()
    changed.write_text("#!/bin/xx\n")
    os.utime(changed, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    (lab.workspace / "src/note").rename(lab.workspace / "src/renamed")
    (lab.workspace / "a-new").write_text("new")
    again = lab.back_up(first["snapshot"])
    assert (again["different"], again["changed"]) == (0, 0), again["examples"]
    assert len(lab.read) == again["files"] + 3


def test_two_files_of_one_moment_that_change_places_are_told_apart(lab: Lab) -> None:
    """Their directories are exchanged: only the number of the file is another then."""
    one, other = lab.workspace / "left/file", lab.workspace / "right/file"
    one.parent.mkdir()
    other.parent.mkdir()
    for _ in range(1000):
        for file, text in ((one, b"left"), (other, b"more")):
            # By calls of its own: where somebody has looked at a file, newer kernels tell the next time more exactly.
            file.unlink(missing_ok=True)
            handle = os.open(file, os.O_WRONLY | os.O_CREAT)
            os.write(handle, text)
            os.close(handle)
        seen, beside = one.stat(), other.stat()
        if same := (seen.st_ctime_ns, seen.st_mtime_ns) == (beside.st_ctime_ns, beside.st_mtime_ns):
            break
    assert same, "the kernel's clock has no ticks"
    first = lab.back_up()
    one.parent.rename(lab.workspace / "aside")
    other.parent.rename(one.parent)
    (lab.workspace / "aside").rename(other.parent)
    again = lab.back_up(first["snapshot"])
    assert again["different"] == 0, again["examples"]
    assert len(lab.read) == again["files"] + 2


@pytest.mark.parametrize(
    ("settled", "drawn", "told"),
    [(3600 * 10**9, NEVER, True), (-(10**9), ALWAYS, True), (-(10**9), NEVER, False)],
    ids=["changed a moment before", "read by chance", "neither"],
)
def test_what_the_kernel_does_not_tell_of_is_found(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, settled: int, drawn: float, told: bool
) -> None:
    """restic takes it for unchanged, and what it keeps is not what is there. The last is the price."""
    monkeypatch.setattr(tree, "_SETTLED", settled)
    by_chance(monkeypatch, drawn)
    with (lab.workspace / "src/run").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        # The first write is told; those after it not, until the kernel has written the page. Here it never does.
        mapped[:1] = b"#"
        first = lab.back_up()
        mapped[:4] = b"XXXX"
        again = lab.back_up(first["snapshot"])
    assert (again["different"], bool(again["examples"])) == (int(told), told)


@pytest.mark.parametrize("gone", ["the snapshot", "the list"])
def test_where_there_is_no_list_all_is_read(lab: Lab, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    first = lab.back_up()
    files = len(lab.read) // 2
    if gone == "the list":
        monkeypatch.setattr(Places, "brought_list_of", lambda *_: None)
    again = lab.back_up("f" * 64 if gone == "the snapshot" else first["snapshot"])
    assert (again["different"], len(lab.read)) == (0, 2 * files)


def test_one_in_some_is_read_by_chance(tmp_path: Path) -> None:
    fill(tmp_path)
    for number in range(4000):
        (tmp_path / str(number)).write_text("x")
    listed = [one._replace(inode=(tmp_path / os.fsdecode(one.path)).lstat().st_ino) for one in
              walk(tmp_path, digests=True)]  # fmt: skip
    known = KnownFiles(listed)
    found = [known(one.path, (tmp_path / os.fsdecode(one.path)).lstat()) for one in listed if one.kind == "file"]
    assert 4000 / READ_AGAIN / 2 < sum(one is None for one in found) < 4000 / READ_AGAIN * 2


def test_a_list_of_before_knows_nothing_and_one_of_later_is_read(tmp_path: Path) -> None:
    fill(tmp_path)
    entry = next(one for one in walk(tmp_path, digests=True) if one.path == b"src/run")
    before = json.loads(json.dumps(entry.written()))[:11]
    assert tree.Entry.read(before) == entry._replace(inode=0)
    assert KnownFiles([tree.Entry.read(before)])(entry.path, (tmp_path / "src/run").stat()) is None
    assert tree.Entry.read([*before, 7, "what comes later"]).inode == 7


def test_what_is_no_digest_names_no_snapshot() -> None:
    told = {"action": "backup", "sandbox": "alice", "uid": "u1"}
    assert Order.read({**told, "verified": "0a"}).verified == "0a"
    with pytest.raises(ValueError, match="digest"):
        Order.read({**told, "verified": "--target=/"})
