"""The list that is made while restic reads, whichever of them comes to a file first."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restickit import fill, restic

from claude_sandbox.backup import gate, order, store
from claude_sandbox.backup.compare import compare
from claude_sandbox.backup.gate import Beside, OverdueError
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.looks import differing, glance, keep, kept, noting
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.restic import Repository, _nanoseconds
from claude_sandbox.backup.tree import parts, walk


def stopped() -> bool:
    """Whether a program of this process's stands still."""
    here = os.getpid()
    children = Path(f"/proc/{here}/task/{here}/children").read_text().split()
    return any(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[0] == "T" for one in children)


def until_it_waits() -> None:
    until = time.monotonic() + 60
    while not stopped():
        assert time.monotonic() < until, "it does not come to the file"
        time.sleep(0.01)


def reads(*files: Path) -> "subprocess.Popen[str]":
    """A program that opens one file after the other."""
    return subprocess.Popen(["cat", *map(str, files)], text=True, stdout=subprocess.PIPE)


def test_a_program_waits_at_the_file_until_the_work_is_done(tmp_path: Path) -> None:
    made = tmp_path / "made"

    def work() -> None:
        until_it_waits()
        made.write_text("whole")

    with Beside(tmp_path / "gate", work).run(lambda: reads(tmp_path / "gate", made)) as running:
        assert running.communicate()[0] == "whole"
    assert running.returncode == 0


def test_work_that_fails_ends_the_program(tmp_path: Path) -> None:
    started = []

    def start() -> "subprocess.Popen[str]":
        started.append(reads(tmp_path / "gate"))
        return started[0]

    def work() -> None:
        until_it_waits()
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        Beside(tmp_path / "gate", work).run(start)
    assert started[0].returncode == -9


def test_a_program_that_stood_still_for_too_long_is_ended_and_the_work_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_LONGEST", 0.0)
    done = []

    def work() -> None:
        until_it_waits()
        done.append(1)

    beside = Beside(tmp_path / "gate", work)
    with pytest.raises(OverdueError):
        beside.run(lambda: reads(tmp_path / "gate"))
    with beside.run(lambda: reads(tmp_path / "gate")) as running:
        running.communicate()
    assert (running.returncode, done) == (0, [1])


def test_where_no_file_can_be_held_the_work_is_done_first(tmp_path: Path) -> None:
    """Signals come to the main thread."""
    order = []

    def start() -> "subprocess.Popen[str]":
        order.append("program")
        return reads(tmp_path / "gate")

    def run() -> None:
        with Beside(tmp_path / "gate", lambda: order.append("work")).run(start) as running:
            running.communicate()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert order == ["work", "program"]


class Backups:
    """A workspace, and a repository. restic comes to the list last, as in the helper."""

    def __init__(self, root: Path) -> None:
        for one in ("source/workspace", "repository", "transient", "cache"):
            (root / one).mkdir(parents=True)
        self.root, self.workspace = root, root / "source/workspace"
        self.places = Places(root / "source", root / "transient", root / "restored", patience=5)
        fill(self.workspace)

    def carried_out(self, order: Order, places: Places | None = None) -> dict[str, Any]:
        repository = Repository(
            str(self.root / "repository"), b"correct horse 4711", str(self.root / "cache"), restic()
        )
        return carry_out(order, repository, places or self.places)


@pytest.fixture
def backups(tmp_path: Path) -> Backups:
    return Backups(tmp_path)


def around_the_list(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None], after: Callable[[], None]) -> None:
    """When restic has read all there is, and the list is about to be made; and when that is done."""
    real = store._list

    def then(*arguments: Any) -> None:
        until_it_waits()
        before()
        real(*arguments)
        after()

    monkeypatch.setattr(store, "_list", then)


def test_what_changes_between_restics_look_and_ours_is_told_and_makes_nothing_fail(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = backups.workspace
    for one in ("left", "right", "gone", "gone/deep"):
        (there / one).mkdir()
        (there / one / "file").write_text(one)

    def changes() -> None:
        seen = (there / "src/main.py").stat()
        (there / "src/main.py").write_text("print('HELLO')\n")
        # All that can be set back is: only the time of the change itself can't.
        os.utime(there / "src/main.py", ns=(seen.st_atime_ns, seen.st_mtime_ns))
        shutil.rmtree(there / "gone")
        (there / "left").rename(there / "aside")
        (there / "right").rename(there / "left")
        (there / "aside").rename(there / "right")
        (there / "for a while/deep").mkdir(parents=True)
        (there / "for a while/deep/file").write_text("x")
        (there / "empty").rename(there / "renamed")

    around_the_list(monkeypatch, changes, lambda: shutil.rmtree(there / "for a while"))
    found = backups.carried_out(Order("backup", "alice", "u1"))
    assert (found["different"], found["problem"]) == (0, ""), found["examples"]
    # The root; what left and came; the two names of the file; what was exchanged.
    assert found["changed"] >= 13
    # What nobody touched is compared as strictly as ever.
    assert found["changed"] < found["entries"]


@pytest.mark.parametrize("when", ["restic was first", "the list was first"])
def test_what_changed_without_another_time_or_size_is_no_fault_of_what_is_restored(
    backups: Backups, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def changes() -> None:
        seen = (backups.workspace / "src/run").stat()
        (backups.workspace / "src/run").write_text("#!/bin/xx\n")
        os.utime(backups.workspace / "src/run", ns=(seen.st_atime_ns, seen.st_mtime_ns))
        (backups.workspace / "src/note").chmod(0o600)

    if when == "restic was first":
        around_the_list(monkeypatch, changes, lambda: None)
        made = backups.carried_out(Order("backup", "alice", "u1"))
    else:
        # restic comes to the list before it comes to the workspace.
        early = backups.root / "early"
        early.mkdir()
        real = store._list

        def then(*arguments: Any) -> None:
            real(*arguments)
            changes()

        monkeypatch.setattr(store, "_list", then)
        places = Places(backups.root / "source", early, backups.root / "restored", patience=5)
        made = backups.carried_out(Order("backup", "alice", "u1"), places)
        monkeypatch.setattr(order, "SCRATCH_BEFORE", str(early))
    assert (made["different"], made["changed"]) == (0, 2), made["examples"]
    backups.places.filled("workspace").mkdir(parents=True)
    restored = backups.carried_out(Order("restore", "bob", "u2", snapshot=made["snapshot"]))
    assert (restored["different"], restored["changed"]) == (0, 2), restored["examples"]


def test_what_is_restored_otherwise_than_restic_and_the_list_read_it_is_told(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backups.carried_out(Order("backup", "alice", "u1"))
    real = Repository.restore

    def spoils(self: Repository, snapshot: str, target: str, *more: Any, **how: Any) -> None:
        real(self, snapshot, target, *more, **how)
        restored = backups.places.filled("workspace") / "src/run"
        if restored.exists():
            seen = restored.stat()
            restored.write_text("#!/bin/xx\n")
            os.utime(restored, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    monkeypatch.setattr(Repository, "restore", spoils)
    backups.places.filled("workspace").mkdir(parents=True)
    found = backups.carried_out(Order("restore", "bob", "u2", snapshot=made["snapshot"]))
    assert (found["different"], found["examples"]) == (1, ["src/run: other content"])


@pytest.mark.parametrize(
    ("told", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T00:00:01.02Z", 1_020_000_000),
        ("1970-01-01T02:00:01.000000003+02:00", 1_000_000_003),
        ("1970-01-01T00:00:00.5-01:00", 3600_500_000_000),
        ("1969-12-31T23:59:59.25Z", -750_000_000),
        ("yesterday", 0),
    ],
)
def test_times_are_read_as_restic_writes_them(told: str, nanoseconds: int) -> None:
    assert _nanoseconds(told) == nanoseconds


def test_a_directory_that_was_there_for_a_while_makes_nothing_fail(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """restic has it, with all that is in it, and no look has."""
    short = backups.workspace / "short"
    given = keep

    def then(*arguments: Any) -> None:
        given(*arguments)
        (short / "deep").mkdir(parents=True)
        (short / "deep/file").write_text("x")

    monkeypatch.setattr(store, "keep", then)
    around_the_list(monkeypatch, lambda: shutil.rmtree(short), lambda: None)
    found = backups.carried_out(Order("backup", "alice", "u1"))
    assert (found["different"], found["changed"]) == (0, 4), found["examples"]


def test_content_that_restic_alone_has_otherwise_is_told(backups: Backups, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads first makes no difference: what the kernel calls the same has to be the same."""

    def unseen() -> None:
        (backups.workspace / "src/run").write_text("#!/bin/xx\n")

    def without(entries: Any, _: Any, file: Path) -> Any:
        keep(file, ())
        return entries

    monkeypatch.setattr(store, "differing", lambda *_: iter(()))
    monkeypatch.setattr(store, "noting", without)
    around_the_list(monkeypatch, unseen, lambda: None)
    found = backups.carried_out(Order("backup", "alice", "u1"))
    assert any("src/run: other content" in one for one in found["examples"])


def test_a_snapshot_that_has_its_list_where_it_was_before_is_restored(
    backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = backups.root / "scratch"
    before.mkdir()
    monkeypatch.setattr(order, "SCRATCH_BEFORE", str(before))
    older = Places(backups.root / "source", before, backups.root / "restored", patience=5)
    made = backups.carried_out(Order("backup", "alice", "u1"), older)
    shutil.rmtree(before)
    into = backups.places.filled("workspace")
    into.mkdir(parents=True)
    again = backups.carried_out(Order("restore", "bob", "u2", snapshot=made["snapshot"]))
    assert (again["different"], again["entries"]) == (0, made["entries"])
    assert compare(walk(backups.workspace, digests=True), (), walk(into, digests=True)).different == 0


def test_a_look_tells_of_what_a_walk_tells_of_and_of_what_is_touched(tmp_path: Path) -> None:
    there, before, noted = tmp_path / "there", tmp_path / "before", tmp_path / "noted"
    fill(there)
    for number in range(1200):
        (there / f"{number % 7}-{number}").touch()
    keep(before, glance(there))
    entries = list(walk(there, digests=True))
    assert [path for path, _ in kept(before)] == [one.path for one in entries]
    assert list(noting(entries, kept(before), noted)) == entries
    assert not list(kept(noted))
    (there / "src/main.py").chmod(0o600)
    (there / "a-new").touch()
    for number in range(0, 1200, 2):
        (there / f"{number % 7}-{number}").unlink()
    was, now = dict(kept(before)), dict(glance(there))
    touched = sorted((one for one in {*was, *now} if was.get(one) != now.get(one)), key=parts)
    assert len(touched) > 600
    assert [path for path, _ in differing(kept(before), glance(there))] == touched
    list(noting(walk(there, digests=True), kept(before), noted))
    assert [path for path, _ in kept(noted)] == [one for one in touched if one in now]
