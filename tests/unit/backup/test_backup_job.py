"""A backup, its proof and a restore, with restic's own binary and a repository in a directory."""

import dataclasses
import errno
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from restickit import fill, restic

from claude_sandbox.backup import job, store
from claude_sandbox.backup.compare import compare, read_list, write_list
from claude_sandbox.backup.job import carry_out
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.restic import Repository, RepositoryError, forgotten
from claude_sandbox.backup.tree import MARKER, Entry, walk

PASSWORD = b"correct horse 4711"


@dataclasses.dataclass
class Lab:
    root: Path
    places: Places
    program: str

    @property
    def workspace(self) -> Path:
        return self.root / "source/workspace"

    @property
    def target(self) -> Path:
        return self.root / "repository"

    def repository(self, password: bytes = PASSWORD) -> Repository:
        return Repository(str(self.target), password, str(self.root / "cache"), self.program)

    def back_up(self, **more: Any) -> dict[str, Any]:
        order = Order("backup", "alice", "u1", files={"manifest.json": '{"kind": "ClaudeSandbox"}'}, **more)
        return carry_out(order, self.repository(), self.places)

    def restore(self, snapshot: str, uid: str = "u2", **more: Any) -> tuple[Path, dict[str, Any]]:
        into = self.places.filled("workspace")
        into.mkdir(parents=True, exist_ok=True)
        order = Order("restore", "bob", uid, snapshot=snapshot, **more)
        return into, carry_out(order, self.repository(), self.places)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    for one in ("source/workspace", "repository", "scratch", "cache"):
        (tmp_path / one).mkdir(parents=True)
    places = Places(tmp_path / "source", tmp_path / "scratch", tmp_path / "restored", patience=0.1)
    made = Lab(tmp_path, places, restic())
    fill(made.workspace)
    return made


def test_a_backup_is_restored_beside_and_is_the_same(lab: Lab) -> None:
    found = lab.back_up()
    assert (found["different"], found["changed"], found["unread"], found["problem"]) == (0, 0, 0, "")
    assert found["files"] == len([one for one in walk(lab.workspace, digests=False) if one.kind == "file"])
    assert found["bytes"] > 8 << 20
    assert not (lab.root / "scratch/restored").exists()


def test_what_did_not_change_is_stored_once(lab: Lab) -> None:
    first = lab.back_up()
    assert lab.back_up()["added"] < first["added"] / 100


def test_an_empty_directory_is_filled_with_all_of_it(lab: Lab) -> None:
    snapshot = lab.back_up()["snapshot"]
    into, found = lab.restore(snapshot)
    assert (found["different"], found["changed"]) == (0, 0)
    again = compare(walk(lab.workspace, digests=True), (), walk(into, digests=True))
    assert again.different == 0, again.examples
    assert not (into / os.fsdecode(MARKER)).exists()


@pytest.mark.parametrize(
    "present", ["file", *(pytest.param(one, marks=pytest.mark.slow) for one in ("directory", "marker of another"))]
)
def test_a_workspace_that_has_something_in_it_is_left_alone(lab: Lab, present: str) -> None:
    snapshot = lab.back_up()["snapshot"]
    into = lab.places.filled("workspace")
    into.mkdir(parents=True)
    if present == "directory":
        (into / "mine").mkdir()
    else:
        (into / ("mine" if present == "file" else os.fsdecode(MARKER))).write_text("other")
    before = sorted(into.iterdir())
    with pytest.raises(RepositoryError) as refused:
        lab.restore(snapshot)
    assert refused.value.reason == "WorkspaceNotEmpty"
    assert sorted(into.iterdir()) == before


def test_a_restore_that_was_ended_in_the_middle_is_taken_further(lab: Lab) -> None:
    snapshot = lab.back_up()["snapshot"]
    into = lab.places.filled("workspace")
    (into / "src").mkdir(parents=True)
    (into / os.fsdecode(MARKER)).write_text("u2")
    (into / "src/main.py").write_text("half")
    _, found = lab.restore(snapshot)
    assert found["different"] == 0
    assert (into / "src/main.py").read_text() == "print('hello')\n"


def test_another_password_is_refused_and_nothing_is_written(lab: Lab) -> None:
    lab.back_up()
    before = sorted(lab.target.rglob("*"))
    with pytest.raises(RepositoryError) as refused:
        carry_out(Order("backup", "alice", "u1"), lab.repository(b"another"), lab.places)
    assert refused.value.reason == "WrongPassword"
    assert sorted(lab.target.rglob("*")) == before


def test_a_repository_that_lost_its_configuration_is_not_made_anew(lab: Lab) -> None:
    lab.back_up()
    (lab.target / "claude-sandbox-backups/config").unlink()
    with pytest.raises(RepositoryError) as refused:
        lab.back_up()
    assert refused.value.reason == "RepositoryDamaged"


def test_a_snapshot_that_is_not_there_is_told(lab: Lab) -> None:
    lab.back_up()
    with pytest.raises(RepositoryError) as refused:
        lab.restore("f" * 64)
    assert refused.value.reason == "SnapshotNotFound"


def test_a_repository_that_another_helper_has_is_waited_for_and_then_told(lab: Lab) -> None:
    lab.back_up()
    with (lab.target / "claude-sandbox-backups.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RepositoryError) as refused:
            lab.back_up()
    assert refused.value.reason == "RepositoryBusy"


def test_the_lock_of_a_helper_that_was_killed_is_in_nobodys_way(lab: Lab) -> None:
    lab.back_up()
    locks = lab.target / "claude-sandbox-backups/locks"
    # restic's own lock, of a process that did not end as it should.
    slow = lab.workspace / "slow"
    slow.write_bytes(os.urandom(40 << 20))
    environment = {"RESTIC_REPOSITORY": str(locks.parent), "RESTIC_PASSWORD": PASSWORD.decode(), "HOME": "/tmp"}
    running = subprocess.Popen(
        [lab.program, "backup", "--host", "x", "--limit-upload", "1", str(slow)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (whole := [one for one in locks.iterdir() if "-tmp-" not in one.name]):
        assert running.poll() is None
    running.kill()
    running.wait()
    held = whole[0]
    # It says that it is of this machine's name: a helper's has the name of helpers.
    assert lab.back_up()["different"] == 0
    assert held.exists()
    held.write_bytes(b"half")
    assert lab.back_up()["different"] == 0
    assert not held.exists()


def test_what_changes_meanwhile_is_no_corruption(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    during(monkeypatch, lambda: change(lab.workspace))
    found = lab.back_up()
    assert found["different"] == 0, found["examples"]
    # The file, a new one, one that went, and the two directories that these are in.
    assert found["changed"] >= 4
    monkeypatch.undo()
    into, again = lab.restore(found["snapshot"])
    assert again["different"] == 0, again["examples"]
    assert (into / "src/main.py").read_text() == "print('other')\n"


def change(workspace: Path) -> None:
    (workspace / "src/main.py").write_text("print('other')\n")
    (workspace / "new").write_text("x")
    shutil.rmtree(workspace / "empty")


def test_what_the_repository_gives_back_otherwise_is_told_with_its_name(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Repository.restore

    def spoils(self: Repository, snapshot: str, target: str, *more: Any, **how: Any) -> None:
        given(self, snapshot, target, *more, **how)
        restored = Path(target) / str(lab.workspace).lstrip("/")
        seen = (restored / "src/run").stat()
        (restored / "src/run").write_text("#!/bin/xx\n")
        os.utime(restored / "src/run", ns=(seen.st_atime_ns, seen.st_mtime_ns))
        (restored / "link").unlink()
        (restored / "src/note").chmod(0o777)

    monkeypatch.setattr(Repository, "restore", spoils)
    found = lab.back_up()
    told = " ".join(found["examples"])
    assert "src/run: other content" in told
    assert "link: it is missing" in told
    assert "src/note: another mode" in told


def test_restic_reads_a_file_once_however_many_sandboxes_a_repository_has(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself it compares with the last snapshot of the same paths, and those are the same of all."""
    read: list[int] = []
    real = Repository.backup

    def told(self: Repository, *arguments: Any) -> dict[str, Any]:
        summary = real(self, *arguments)
        read.append(summary["files_new"] + summary["files_changed"])
        return summary

    monkeypatch.setattr(Repository, "backup", told)
    aside, between = lab.root / "aside", lab.root / "between"
    fill(aside)
    for sandbox in ("alice", "bob", "alice", "bob"):
        assert carry_out(Order("backup", sandbox, f"uid-of-{sandbox}"), lab.repository(), lab.places)["different"] == 0
        lab.workspace.rename(between)
        aside.rename(lab.workspace)
        between.rename(aside)
    first, _, *later = read
    # The gate, the list and what says which form that is in are new each time.
    assert (first > 2, later) == (True, [3, 3])


def test_snapshots_of_an_earlier_sandbox_of_the_name_go_with_the_rest(lab: Lab) -> None:
    earlier = carry_out(Order("backup", "alice", "u0"), lab.repository(), lab.places)["snapshot"]
    assert lab.back_up(keep={"last": 1})["gone"] == [earlier[:8]]


@pytest.mark.slow
def test_old_snapshots_go_and_those_of_other_sandboxes_stay(lab: Lab) -> None:
    other = carry_out(Order("backup", "bob", "u9"), lab.repository(), lab.places)["snapshot"]
    for text in "abc":
        (lab.workspace / "text").write_text(text)
        last = lab.back_up(keep={"last": 1})
    assert last["removed"] == 1
    left = {one["id"] for one in lab.repository().snapshots()}
    assert {other, last["snapshot"]} == {one for one in left if one.startswith((other, last["snapshot"]))} or (
        len(left) == 2
    )


def test_one_that_differs_lets_none_go(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else some bad ones in a row would leave none that is whole."""
    good = lab.back_up()["snapshot"]
    given = Repository.restore

    def spoils(self: Repository, snapshot: str, target: str, *more: Any, **how: Any) -> None:
        given(self, snapshot, target, *more, **how)
        Path(f"{target}{lab.workspace}/src/main.py").write_text("other")

    monkeypatch.setattr(Repository, "restore", spoils)
    bad = lab.back_up(keep={"last": 1})
    assert (bad["different"] > 0, bad["removed"]) == (True, 0)
    monkeypatch.undo()
    assert {str(one["id"]) for one in lab.repository().snapshots()} == {good, bad["snapshot"]}


def test_a_password_that_no_pipe_takes_is_refused_and_not_waited_for(lab: Lab) -> None:
    """A Secret may be of 1 MiB, and restic begins to read only once all of it is written."""
    with pytest.raises(RepositoryError) as refused:
        lab.repository(b"x" * (1 << 20)).prepare()
    assert (refused.value.reason, list(lab.target.iterdir())) == ("WrongPassword", [])


def test_the_password_is_in_no_argument_variable_or_file(lab: Lab, tmp_path: Path) -> None:
    spy = tmp_path / "restic"
    spy.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >> {tmp_path}/seen\nexec {lab.program} "$@"\n')
    spy.chmod(0o755)
    lab.program = str(spy)
    lab.back_up()
    assert PASSWORD not in (tmp_path / "seen").read_bytes()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or PASSWORD not in file.read_bytes(), file


def during(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Have it happen after the list was taken and before the snapshot is."""
    real = write_list
    done: list[Path] = []

    def then(file: Path, entries: Any) -> None:
        real(file, entries)
        if not done:
            done.append(file)
            happens()

    monkeypatch.setattr(store, "write_list", then)


BOTH = ("workspace", "home")


def a_session(lab: Lab) -> Path:
    project = lab.root / "source/home/projects/-workspace"
    project.mkdir(parents=True)
    (project / "a.jsonl").write_text('{"sessionId":"a","type":"user"}\n')
    return project


def test_the_home_is_kept_too_and_its_sessions_are_found(lab: Lab) -> None:
    a_session(lab)
    told = lab.back_up(parts=BOTH)
    assert (told["sessions"], told["different"]) == (1, 0)
    home = lab.places.filled("home")
    home.mkdir(parents=True)
    _, restored = lab.restore(told["snapshot"], parts=BOTH)
    assert restored["different"] == 0
    assert (home / "projects/-workspace/a.jsonl").read_text().startswith('{"sessionId"')
    assert not (home / os.fsdecode(MARKER)).exists()


def test_a_backup_without_a_home_fills_the_workspace_alone(lab: Lab) -> None:
    told = lab.back_up()
    assert "sessions" not in told
    home = lab.places.filled("home")
    home.mkdir(parents=True)
    into, restored = lab.restore(told["snapshot"], parts=BOTH)
    assert restored["different"] == 0
    assert (into / "src/main.py").exists()
    assert list(home.iterdir()) == []


def test_a_home_that_has_anything_in_it_is_left_alone(lab: Lab) -> None:
    a_session(lab)
    told = lab.back_up(parts=BOTH)
    home = lab.places.filled("home")
    home.mkdir(parents=True)
    (home / "mine").touch()
    with pytest.raises(RepositoryError, match="has 1 entries already"):
        lab.restore(told["snapshot"], parts=BOTH)


def test_repositories_in_the_copy_are_looked_into(lab: Lab) -> None:
    subprocess.run(["git", "init", "--quiet", str(lab.workspace / "project")], check=True)
    assert lab.back_up()["repositories"] == 1
    (lab.workspace / "project/.git/refs/heads/lost").write_text("1" * 40 + "\n")
    told = lab.back_up()
    assert (told["damaged"], told["torn"], told["different"]) == (1, 0, 0)


def test_which_snapshots_went_is_told_the_oldest_first(lab: Lab) -> None:
    older = [lab.back_up()["snapshot"][:8] for _ in range(2)]
    told = lab.back_up(keep={"last": 1})
    assert (told["removed"], told["gone"], told["left"]) == (2, older, "")
    again = lab.back_up(keep={"last": 2})
    assert (again["removed"], again["gone"], again["left"]) == (0, [], "")


@pytest.mark.parametrize("said", ["[{]", '[{"keep": []}]', '["a"]', '[{"remove": [{"time": "t"}]}]'])
def test_what_restic_says_otherwise_of_what_went_is_not_guessed(said: str) -> None:
    with pytest.raises(RepositoryError):
        forgotten(said)
    assert forgotten("loading indexes...\n") == []


def test_a_repository_that_is_gone_is_not_made_anew_in_silence(lab: Lab) -> None:
    first = lab.back_up()
    there = lab.target / "claude-sandbox-backups"
    aside = lab.root / "aside"
    there.rename(aside)
    with pytest.raises(RepositoryError) as refused:
        lab.back_up(repository=first["repository"])
    assert refused.value.reason == "RepositoryGone"
    assert first["repository"] in str(refused.value)
    assert not there.exists()
    # Another one in its place is none of ours either; who says so begins anew.
    second = lab.back_up()
    assert second["repository"] != first["repository"]
    before = sorted(there.rglob("*"))
    with pytest.raises(RepositoryError) as refused:
        lab.back_up(repository=first["repository"])
    assert refused.value.reason == "AnotherRepository"
    assert sorted(there.rglob("*")) == before
    # Where it is brought back, it goes on.
    shutil.rmtree(there)
    aside.rename(there)
    again = lab.back_up(repository=first["repository"])
    assert (again["repository"], again["different"]) == (first["repository"], 0)
    assert again["added"] < first["added"] / 100


def test_which_repository_it_is_is_asked_once(lab: Lab, tmp_path: Path) -> None:
    """Each question derives the key from the password, which is made to take long."""
    spy, program = tmp_path / "restic", lab.program
    spy.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/asked\nexec {program} "$@"\n')
    spy.chmod(0o755)
    lab.program = str(spy)

    def asked(**more: Any) -> tuple[str, list[str]]:
        (tmp_path / "asked").unlink(missing_ok=True)
        return lab.back_up(**more)["repository"], (tmp_path / "asked").read_text().split()

    identity, calls = asked()
    assert calls == ["init", "cat", "backup", "restore"]
    assert asked(repository=identity) == (identity, ["backup", "restore"])
    # What was noted is taken for nothing more than a note.
    memory = lab.target / "claude-sandbox-backups.lock"
    config = hashlib.sha256((lab.target / "claude-sandbox-backups/config").read_bytes()).hexdigest()
    assert json.loads(memory.read_text()) == {"config": config, "repository": identity}
    for torn in ("{", json.dumps({"config": "another", "repository": "x"})):
        memory.write_text(torn)
        assert asked(repository=identity) == (identity, ["cat", "backup", "restore"])


def test_a_snapshot_whose_list_was_written_as_it_was_before_is_restored(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compressed, and an entry in each line."""

    def write(file: Path, entries: Iterable[Entry]) -> None:
        with gzip.open(file, "wt") as lines:
            lines.writelines(json.dumps(one.written()) + "\n" for one in entries)

    monkeypatch.setattr(store, "write_list", write)
    monkeypatch.setattr(Places, "list_of", lambda self, part: self.about / f"{part}.list.gz")
    monkeypatch.setattr(Places, "touched_of", lambda self, part: self.scratch / f"{part}.touched.gz")
    made = lab.back_up()
    monkeypatch.undo()
    into, again = lab.restore(made["snapshot"])
    assert (again["different"], again["entries"]) == (0, made["entries"]), again["examples"]
    assert (into / "src/main.py").read_text() == "print('hello')\n"


@pytest.mark.parametrize("told", ['{"lists": 3}', '{"lists": "x"}', "[]", "{"])
def test_a_snapshot_whose_list_a_newer_operator_wrote_is_refused_with_the_remedy(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    def newer(file: Path, _: Iterable[Entry]) -> None:
        file.write_text("something else\n")
        lab.places.form.write_text(told)

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_list", newer)
        patched.setattr(job, "verify", lambda *_: {"different": 0, "problem": ""})
        made = lab.back_up()
    with pytest.raises(RepositoryError, match=r"knows those up to 2: a newer operator .* Update the operator") as error:
        lab.restore(made["snapshot"])
    assert error.value.reason == "SnapshotTooNew"
    # Not even the mark of a restore that was begun: somebody may have the sandbox start with its workspace as it is.
    assert list(lab.places.filled("workspace").iterdir()) == []
    # Nor is it believed of what it has when the next backup is made.
    again = lab.back_up(verified=made["snapshot"])
    assert (again["different"], again["problem"]) == (0, "")
    assert json.loads(lab.places.form.read_text()) == {"lists": 2}
    assert lab.restore(again["snapshot"])[1]["different"] == 0


def test_a_list_of_many_entries_is_read_as_it_was_written(tmp_path: Path) -> None:
    for number in range(350):
        (tmp_path / f"{number}\n\udcff").write_text(str(number))
    entries = list(walk(tmp_path, digests=True))
    write_list(tmp_path / "list", entries)
    assert list(read_list(tmp_path / "list")) == entries
    assert len((tmp_path / "list").read_bytes().splitlines()) == 4


def test_what_cannot_be_read_is_told_and_not_taken_for_gone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuses(path: Any, *more: Any, **named: Any) -> int:
        if path == b"run":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *more, **named)

    monkeypatch.setattr(os, "open", refuses)
    entry = next(one for one in walk(lab.workspace, digests=True) if one.path == b"src/run")
    assert (entry.kind, entry.digest, entry.unread, entry.size) == ("file", None, "Permission denied", 10)
