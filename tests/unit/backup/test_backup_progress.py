"""How far a helper says that it is."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from restickit import restic

from claude_sandbox.backup import progress as told
from claude_sandbox.backup import restic as program
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.progress import COMPARE, LIST, RESTORE, SAVE, Amount, Progress
from claude_sandbox.backup.restic import Repository
from claude_sandbox.backup.tree import Entry

FILES, SIZE = 1500, 128 << 10


@dataclasses.dataclass
class Lines:
    clock: float = 0.0
    said: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def progress(self) -> Progress:
        return Progress(self.said.append, lambda: self.clock)


def test_each_part_of_a_backup_and_of_a_restore_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in ("source/workspace", "repository", "scratch", "cache", "restored"):
        (tmp_path / one).mkdir(parents=True)
    for number in range(FILES):
        (tmp_path / f"source/workspace/{number}").write_bytes(os.urandom(SIZE))
    monkeypatch.setattr(told, "EVERY", 0.05)
    monkeypatch.setattr(program, "_LOOK", 0.05)
    monkeypatch.setattr(program, "_SAVING", {"RESTIC_PROGRESS_FPS": "20"})
    places = Places(tmp_path / "source", tmp_path / "scratch", tmp_path / "restored")
    repository = Repository(str(tmp_path / "repository"), b"secret", str(tmp_path / "cache"), restic())
    whole = {"files": FILES, "bytes": FILES * SIZE}
    said: list[dict[str, Any]] = []
    made = carry_out(Order("backup", "alice", "u1"), repository, places, Progress(said.append))
    assert made["different"] == 0
    assert phases(said) == [LIST, SAVE, RESTORE, COMPARE]
    assert_goes_up(said, whole)
    said = []
    places.filled("workspace").mkdir(parents=True)
    order = Order("restore", "bob", "u2", snapshot=made["snapshot"])
    assert carry_out(order, repository, places, Progress(said.append))["different"] == 0
    assert phases(said) == [RESTORE, COMPARE]
    assert_goes_up(said, whole)


def phases(said: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["phase"] for one in said))


def assert_goes_up(said: list[dict[str, Any]], whole: dict[str, int]) -> None:
    for phase in phases(said):
        done = [one["done"] for one in said if one["phase"] == phase]
        assert all(one["whole"] == whole for one in said if one["phase"] == phase)
        assert [one["bytes"] for one in done] == sorted(one["bytes"] for one in done)
        assert 0 < done[-1]["bytes"] <= whole["bytes"], phase


def test_a_line_comes_at_most_each_few_seconds() -> None:
    lines = Lines()
    progress = lines.progress()
    progress.begin(LIST, Amount(100, 1000))
    for _ in progress.counted(Entry(b"a", "file", 0, 10, 0) for _ in range(100)):
        lines.clock += 0.2
    assert len(lines.said) == 3
    assert lines.said[0] == {
        "phase": LIST, "done": {"files": 26, "bytes": 260}, "whole": {"files": 100, "bytes": 1000},
    }  # fmt: skip


@pytest.mark.parametrize("line", ["{", "[]", '"status"', '{"message_type": "error"}'])
def test_what_restic_says_otherwise_is_passed_over(line: str) -> None:
    lines = Lines()
    progress = lines.progress()
    progress.begin(SAVE, Amount(10, 100))
    lines.clock = 9.0
    progress.heard(line)
    assert lines.said == []
    status = json.dumps({"message_type": "status", "files_done": 3, "bytes_done": 200})
    progress.heard(f"{status}\n{line}")
    # No more than there was.
    assert lines.said[0]["done"] == {"files": 3, "bytes": 100}
