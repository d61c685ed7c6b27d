"""The installation's own copies: complete, made once for each version, and gone when nothing uses them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.machine import backups, package


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("programs")
    before = os.umask(0o077)
    try:
        return target / package.put_operator(target)
    finally:
        os.umask(before)


def test_the_operator_runs_from_its_copy_alone(copied: Path) -> None:
    # No site-packages of the interpreter's: what is found is in the copy.
    script = "import claude_sandbox.cli.main as m; [e.load() for e in m.COMMANDS.values()]; print(m.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-P", "-c", script],
        env={"PYTHONPATH": str(copied)}, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(copied))


def test_any_account_may_read_it_and_only_its_owner_change_it(copied: Path) -> None:
    for path in (copied, *copied.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path


def test_tools_of_development_are_not_in_it(copied: Path) -> None:
    assert not [name for name in ("pytest", "mypy", "ruff", "hypothesis") if (copied / name).exists()]


def test_a_second_time_it_is_left_alone(copied: Path) -> None:
    inode = copied.stat().st_ino
    target = copied.parents[1]
    assert target / package.put_operator(target) == copied
    assert copied.stat().st_ino == inode


def test_programs_can_be_reached_by_any_account_whatever_the_umask_was(tmp_path: Path) -> None:
    built = tmp_path / "etcd-1-abc" / "etcd"
    built.parent.mkdir()
    built.touch()
    before = os.umask(0o077)
    try:
        programs = package.put_programs({"etcd": built}, tmp_path / "target")
        package.link(tmp_path / "target", programs, "#!/bin/sh\n")
    finally:
        os.umask(before)
    for path in (tmp_path / "target", *(tmp_path / "target").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755, path


def test_a_program_is_copied_by_its_version_and_old_versions_go(tmp_path: Path) -> None:
    built, target = tmp_path / "etcd-1-abc" / "etcd", tmp_path / "target"
    built.parent.mkdir()
    built.write_text("one")
    first = package.put_programs({"etcd": built}, target)
    newer = tmp_path / "etcd-2-def" / "etcd"
    newer.parent.mkdir()
    newer.write_text("two")
    second = package.put_programs({"etcd": newer}, target)
    assert (target / first["etcd"]).read_text() == "one"
    assert os.access(target / second["etcd"], os.X_OK)
    package.prune(target, set(second.values()))
    assert not (target / first["etcd"]).exists()
    assert (target / second["etcd"]).read_text() == "two"


def test_a_python_that_services_cannot_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", "/home/alice/python")
    with pytest.raises(LocalClusterError, match="home directory") as caught:
        package.interpreter()
    assert "PYTHON=/usr/bin/python3" in caught.value.remedy


def test_backups_are_told_from_other_files_the_newest_first(tmp_path: Path) -> None:
    names = ("claude-sandbox-20260102T000000.000Z.tar.gz", "claude-sandbox-20251231T235959.999Z.tar.gz")
    for name in (*names, "notes.txt", ".partial-x", "claude-sandbox-latest.tar.gz"):
        (tmp_path / name).touch()
    assert [path.name for path in backups.present(tmp_path)] == list(names)
    assert backups.present(tmp_path / "nowhere") == []


def test_a_program_of_the_machines_own_is_copied_anew_when_it_is_another(tmp_path: Path) -> None:
    # As in google-cloud-sdk: the directory's name says nothing of what is in it.
    own, target = tmp_path / "some-tools" / "kubectl", tmp_path / "target"
    own.parent.mkdir()
    for content in ("one", "two"):
        own.write_text(content)
        programs = package.put_programs({"kubectl": own}, target)
        assert (target / programs["kubectl"]).read_text() == content
