"""An agent makes files longer than any disk, and has the backup take the disk, or the time, of others.

A file with a hole takes nothing and has any length. In a repository it takes next to nothing as well; restored, to
prove the backup, it takes all of it: on a Docker host the disk of every sandbox there, where the agent's own volume has
a size. Before that it is read for hours, in which the repository has no room for the namespace's other sandboxes. What
closes it: no file is read that is longer than its file system, nor many that are together, nor what became longer once
it was looked at; and a copy is made where there is room, and ended where there is none left.

Who restores a snapshot that he wrote himself can do the same with what goes along with it.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from restickit import restic

from claude_sandbox.backup import bounds
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.restic import Repository, RepositoryError

LONG = 3 << 30
"""Bytes: read and written in some seconds, where that is done."""


@dataclass
class Lab:
    root: Path
    places: Places
    program: str

    @property
    def workspace(self) -> Path:
        return self.root / "source/workspace"

    def repository(self) -> Repository:
        return Repository(
            str(self.root / "repository"), b"not-really-a-password", str(self.root / "cache"), self.program
        )

    def back_up(self, sandbox: str = "alice") -> dict[str, Any]:
        return carry_out(Order("backup", sandbox, f"uid-{sandbox}"), self.repository(), self.places)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """The workspace is in a file system of 8 MiB."""
    for one in ("source/workspace", "repository", "scratch", "cache"):
        (tmp_path / one).mkdir(parents=True)
    with mounted(tmp_path / "source/workspace", "8m"):
        (tmp_path / "source/workspace/main.py").write_text("print('hello')\n")
        places = Places(tmp_path / "source", tmp_path / "scratch", tmp_path / "restored", patience=0.1)
        yield Lab(tmp_path, places, restic())


@contextmanager
def mounted(place: Path, size: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def lengthen(file: Path, size: int) -> None:
    with file.open("ab") as opened:
        opened.truncate(size)


def test_what_is_longer_than_its_file_system_is_left_out_and_the_rest_is_verified(lab: Lab) -> None:
    lengthen(lab.workspace / "long", LONG)
    found = lab.back_up()
    assert (found["files"], found["unread"], found["different"], found["problem"]) == (1, 1, 0, "")
    assert found["unreadExamples"] == ["long: it is longer than all its file system has room for"]
    # It is not in the snapshot either.
    assert "long" not in lab.repository().run("ls", found["snapshot"]).split("/")


def test_many_that_are_longer_together_end_the_backup_and_others_have_the_repository(lab: Lab) -> None:
    for number in range(6):
        lengthen(lab.workspace / f"long-{number}", 7 << 20)
    with pytest.raises(RepositoryError, match="files with holes"):
        lab.back_up()
    for number in range(6):
        (lab.workspace / f"long-{number}").unlink()
    assert lab.back_up("bob")["problem"] == ""


def test_some_that_fit_nowhere_together_are_stored_and_not_copied(lab: Lab) -> None:
    for number in range(2):
        lengthen(lab.workspace / f"long-{number}", 7 << 20)
    # Names of one file take its room once.
    found = lab.back_up()
    assert found["snapshot"]
    assert "a restored copy takes" in found["problem"]
    (lab.workspace / "long-1").unlink()
    os.link(lab.workspace / "long-0", lab.workspace / "again")
    assert lab.back_up()["problem"] == ""


def test_what_becomes_longer_once_it_was_looked_at_is_not_read_to_its_end(lab: Lab) -> None:
    """As an agent can that sees which files of its own are opened."""
    program = lab.root / "restic"
    long = lab.workspace / "long"
    # It is longer when restic reads it than when restic, or the list, looked at it.
    drop = 'case $one in --exclude-larger-than) skip=1;; *) set -- "$@" "$one";; esac'
    without = f'for one; do shift; [ "$skip" ] && skip= && continue; {drop}; done'
    script = f'#!/bin/sh\nif [ "$1" = backup ]; then truncate -s {LONG} {long}; {without}; fi\nexec {restic()} "$@"\n'
    program.write_text(script)
    program.chmod(0o755)
    lab.program = str(program)
    with pytest.raises(RepositoryError, match=r"restic has read \d+ bytes"):
        lab.back_up()


def test_a_list_that_somebody_wrote_himself_takes_no_disk(lab: Lab) -> None:
    about = lab.places.about
    about.mkdir()
    lengthen(about / "workspace.list", LONG)
    repository = lab.repository()
    with repository.claimed(1.0):
        repository.prepare()
        repository.run("backup", "--host", "somebody", str(lab.workspace), str(about))
    (snapshot,) = repository.snapshot_names()
    lab.places.filled("workspace").mkdir(parents=True)
    with mounted(lab.root / "scratch", "256m"):
        with pytest.raises(RepositoryError, match=f"it needs {LONG} bytes"):
            carry_out(Order("restore", "bob", "u2", snapshot=snapshot), lab.repository(), lab.places)
        assert not list(lab.places.brought.iterdir())


def test_a_copy_ends_once_there_is_no_room_beside_it(lab: Lab) -> None:
    """Should others take it meanwhile."""
    slow = lab.root / "slow"
    slow.write_text(f'#!/bin/sh\n[ "$1" = restore ] && sleep 1\nexec {restic()} "$@"\n')
    slow.chmod(0o755)
    lab.program, snapshot = str(slow), lab.back_up()["snapshot"]
    with mounted(lab.root / "scratch", "8m"):
        room = bounds.leaving_room(lab.root / "scratch")
        lab.repository().restore(snapshot, str(lab.places.copy), watch=room)
        (lab.root / "scratch/of-others").write_bytes(bytes(8_100_000))
        with pytest.raises(RepositoryError, match="stay free for others"):
            lab.repository().restore(snapshot, str(lab.places.copy), watch=room)
