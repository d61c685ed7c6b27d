"""A helper that is killed at each of its steps, a target without room, a pack that was torn: nothing is lost by any."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from restickit import fill, restic

from claude_sandbox.backup.compare import compare
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.restic import NAME, Repository, RepositoryError
from claude_sandbox.backup.tree import walk

PASSWORD = b"correct horse 4711"
# restic, which is killed with its helper when it is asked for the nth time: before it begins, in the middle, or done.
SHIM = """\
#!/bin/sh
echo >> {count}
if [ "$(wc -l < {count})" -ne {at} ]; then exec {restic} "$@"; fi
case {when} in
before) kill -9 $PPID ;;
middle) {restic} "$@" & sleep 0.05; kill -9 $PPID; kill -9 $! ;;
after) {restic} "$@" >/dev/null 2>&1; kill -9 $PPID ;;
esac
"""
HELPER = """\
import sys
from pathlib import Path
from claude_sandbox.backup import restic
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order, Places
restic.HOST = sys.argv[3]
root, program = Path(sys.argv[1]), sys.argv[2]
order = Order("backup", "alice", "u1", keep={"last": 2})
places = Places(root / "source", root / "scratch", root / "restored")
repository = restic.Repository(str(root / "repository"), sys.stdin.buffer.read(), str(root / "cache"), program)
carry_out(order, repository, places)
"""
STEPS = 3
"""Calls of restic in a backup with retention, into a repository that is known."""


class Lab:
    """A workspace, and a repository with one verified backup of it."""

    def __init__(self, root: Path) -> None:
        self.root, self.program = root, restic()
        for one in ("source/workspace", "repository", "scratch", "cache"):
            (root / one).mkdir(parents=True, exist_ok=True)
        self.places = Places(root / "source", root / "scratch", root / "restored", patience=5)
        self.workspace = root / "source/workspace"

    def repository(self) -> Repository:
        return Repository(str(self.root / "repository"), PASSWORD, str(self.root / "cache"), self.program)

    def back_up(self, **more: Any) -> dict[str, Any]:
        return carry_out(Order("backup", "alice", "u1", **more), self.repository(), self.places)

    def killed(self, at: int, when: str) -> int:
        """A helper that ends at this step: its exit code."""
        shim, count = self.root / "restic", self.root / "count"
        count.write_text("")
        shim.write_text(SHIM.format(count=count, at=at, when=when, restic=self.program))
        shim.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", HELPER, str(self.root), str(shim), platform.node()],
            input=PASSWORD,
            capture_output=True,
            check=False,
        )
        return done.returncode

    def restored(self, snapshot: str, kept: Path) -> list[str]:
        """What of a snapshot's workspace is not as it was kept aside."""
        into = self.root / "again"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        with self.repository().claimed(5):
            self.repository().unlock()
            self.repository().restore(snapshot, str(into))
        found = compare(walk(kept, digests=True), [], walk(into / str(self.workspace).lstrip("/"), digests=True))
        return found.examples

    def check(self) -> None:
        """restic's own word on the whole repository."""
        self.repository().run("check", "--read-data", "--no-lock")


@pytest.fixture(autouse=True)
def _helpers_have_the_name_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper's container has one by which the lock of its restic is known, which may be killed while it has one."""
    monkeypatch.setattr("claude_sandbox.backup.restic.HOST", platform.node())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    found = Lab(tmp_path)
    fill(found.workspace)
    return found


def some(when: str) -> list[Any]:
    """Each step; the one that a normal run takes is not slow."""
    usual = (3, "middle")
    return [
        pytest.param(at, when, marks=[] if (at, when) == usual else [pytest.mark.slow]) for at in range(1, STEPS + 1)
    ]


@pytest.mark.parametrize(("at", "when"), [*some("before"), *some("middle"), *some("after")])
def test_killed_at_a_step_the_next_backup_is_whole_and_so_is_the_one_before(lab: Lab, at: int, when: str) -> None:
    first = lab.back_up()
    kept = lab.root / "kept"
    subprocess.run(["cp", "-a", str(lab.workspace), str(kept)], check=True)
    (lab.workspace / "src/main.py").write_text("print('other')\n")
    (lab.workspace / "more").write_bytes(os.urandom(2 << 20))
    before = {entry.path: entry.digest for entry in walk(lab.workspace, digests=True)}

    code = lab.killed(at, when)
    assert code == -9, "it was not killed"
    assert {entry.path: entry.digest for entry in walk(lab.workspace, digests=True)} == before
    lab.check()
    assert lab.restored(first["snapshot"], kept) == []
    again = lab.back_up()
    assert (again["different"], again["unread"], again["problem"]) == (0, 0, "")
    assert lab.restored(again["snapshot"], lab.workspace) == []
    assert lab.restored(first["snapshot"], kept) == []


@pytest.mark.slow
def test_a_pack_that_was_torn_is_told_by_the_backup_that_needs_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Repository.backup

    def torn(self: Repository, *arguments: Any) -> dict[str, Any]:
        done = given(self, *arguments)
        packs = [one for one in (self.path / "data").rglob("*") if one.is_file()]
        large = max(packs, key=lambda one: one.stat().st_size)
        large.chmod(0o600)
        os.truncate(large, large.stat().st_size // 2)
        return done

    monkeypatch.setattr(Repository, "backup", torn)
    found = lab.back_up()
    assert found["different"] or found["problem"]
    monkeypatch.undo()
    with pytest.raises(RepositoryError):
        lab.check()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Lab]:
    """A target that has 8 MiB."""
    if os.geteuid():
        pytest.skip("needs root, to make a file system that is small")
    found = Lab(tmp_path)
    target = str(tmp_path / "repository")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", target], check=True)
    try:
        yield found
    finally:
        subprocess.run(["umount", target], check=True)


def test_a_target_without_room_is_told_and_what_was_there_can_still_be_restored(small: Lab) -> None:
    fill(small.workspace)
    first = small.back_up()
    kept = small.root / "kept"
    subprocess.run(["cp", "-a", str(small.workspace), str(kept)], check=True)
    (small.workspace / "large").write_bytes(os.urandom(12 << 20))
    with pytest.raises(RepositoryError) as refused:
        small.back_up()
    assert refused.value.reason == "TargetFull"
    assert (small.root / "repository" / NAME / "config").exists()
    # restic needs room for a lock of its own to write; what was half stored is in the way until it is pruned.
    assert small.restored(first["snapshot"], kept) == []
    (small.workspace / "large").unlink()
    assert small.back_up()["different"] == 0
