"""Git repositories and sessions in what was restored: whole, torn, damaged before, or not to be looked into."""

import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_sandbox.backup.repositories import Found, Repositories, below, fsck, look
from claude_sandbox.backup.sessions import sessions

GIT = shutil.which("git") or ""
pytestmark = pytest.mark.skipif(not GIT, reason="git is not there")


def git(directory: Path, *arguments: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run([GIT, "-C", str(directory), *arguments], env=environment, capture_output=True, check=True)
    return done.stdout.decode().strip()


def repository(path: Path, *more: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "--quiet", *more)
    for number in range(3):
        (path / "file").write_text(f"{number}\n" * 100)
        git(path, "add", ".")
        git(path, "commit", "--quiet", "-m", f"change {number}")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "restored").mkdir()
    return tmp_path


def found(root: Path, source: Path | None = None) -> Repositories:
    return look(root / "restored", source or root / "restored", root / "scratch", GIT)


def an_object(path: Path, what: str = "HEAD:file") -> Path:
    name = git(path, "rev-parse", what)
    return path / ".git/objects" / name[:2] / name[2:]


def packed(path: Path) -> None:
    git(path, "gc", "--quiet")


def two_kinds(path: Path) -> None:
    git(path, "worktree", "add", "--quiet", str(path / "beside"))


@pytest.mark.parametrize("change", [lambda _: None, packed, two_kinds])
def test_a_whole_repository_is_counted_as_that(root: Path, change: Callable[[Path], None]) -> None:
    change(repository(root / "restored/project"))
    assert found(root) == Repositories(whole=1)


def test_a_bare_one_one_of_sha256_a_shallow_one_and_a_submodule_are_found(root: Path) -> None:
    origin = repository(root / "origin")
    git(root, "clone", "--quiet", "--bare", str(origin), str(root / "restored/bare.git"))
    repository(root / "restored/long", "--object-format=sha256")
    git(root, "clone", "--quiet", "--depth=1", f"file://{origin}", str(root / "restored/shallow"))
    outer = repository(root / "restored/outer")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(origin), "inner")
    assert len(list(below(root / "restored"))) == 5
    assert found(root) == Repositories(whole=5)


@pytest.mark.parametrize("how", ["gone", "other content", "cut"])
def test_what_is_damaged_in_the_copy_alone_was_torn(root: Path, how: str) -> None:
    path = repository(root / "source/project")
    shutil.copytree(root / "source", root / "restored", dirs_exist_ok=True)
    damaged = an_object(root / "restored/project")
    damaged.chmod(0o644)
    if how == "gone":
        damaged.unlink()
    elif how == "cut":
        damaged.write_bytes(damaged.read_bytes()[:10])
    else:
        damaged.write_bytes(zlib.compress(b"blob 3\0no\n"))
    told = found(root, root / "source")
    assert (told.torn, told.damaged, told.whole) == (1, 0, 0)
    assert told.examples == ["project/.git: git fsck finds it damaged"]
    # Had it been so before, it would be what it was.
    shutil.rmtree(path)
    shutil.copytree(root / "restored", root / "source", dirs_exist_ok=True)
    told = found(root, root / "source")
    assert (told.torn, told.damaged) == (0, 1)


def test_a_reference_to_nothing_is_damage(root: Path) -> None:
    path = repository(root / "restored/project")
    (path / ".git/refs/heads/other").write_text("1" * 40 + "\n")
    assert fsck(path / ".git", path, root / "scratch", 60, GIT) is Found.DAMAGED


def test_borrowed_objects_are_found_below_and_nowhere_else(root: Path) -> None:
    repository(root / "restored/one")
    git(root / "restored", "clone", "--quiet", "--shared", "one", "two")
    borrowed = root / "restored/two/.git/objects/info/alternates"
    borrowed.write_text("/workspace/one/.git/objects\n")
    assert found(root) == Repositories(whole=2)
    repository(root / "elsewhere")
    for path in (f"{root}/elsewhere/.git/objects", "../../../../elsewhere/.git/objects", "/workspace/../elsewhere"):
        borrowed.write_text(f"{path}\n")
        assert found(root) == Repositories(whole=1, untold=1), path


def test_a_partial_clone_is_not_looked_into(root: Path) -> None:
    path = repository(root / "restored/project")
    packed(path)
    (pack,) = (path / ".git/objects/pack").glob("*.pack")
    pack.with_suffix(".promisor").touch()
    assert found(root) == Repositories(untold=1)


def test_nothing_that_a_repository_says_of_itself_is_run(root: Path) -> None:
    path = repository(root / "restored/project")
    ran = root / "ran"
    program = root / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    for name in ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.gitProxy", "alias.fsck"):
        git(path, "config", name, f"!{program}" if name.startswith("alias") else str(program))
    git(path, "config", "core.hooksPath", str(root))
    git(path, "config", "include.path", str(path / "more"))
    (path / "more").write_text(f"[core]\n\tfsmonitor = {program}\n")
    assert found(root) == Repositories(whole=1)
    assert not ran.exists()


def test_what_is_no_repository_or_leads_elsewhere_is_none(root: Path) -> None:
    repository(root / "elsewhere")
    (root / "restored/link").symlink_to(root / "elsewhere")
    half = root / "restored/half/.git"
    half.mkdir(parents=True)
    (half / "HEAD").write_text("ref: refs/heads/main\n")
    (half / "refs").mkdir()
    (half / "objects").symlink_to(root / "elsewhere/.git/objects")
    assert found(root) == Repositories()
    (root / "restored/pipes/.git/objects").mkdir(parents=True)
    (root / "restored/pipes/.git/refs").mkdir()
    os.mkfifo(root / "restored/pipes/.git/packed-refs")
    (root / "restored/pipes/.git/HEAD").write_text("x")
    assert found(root) == Repositories(untold=1)


def test_a_git_that_fails_otherwise_tells_nothing(root: Path) -> None:
    path = repository(root / "restored/project")
    assert fsck(path / ".git", path, root / "scratch", 60, "/no/such/git") is Found.NOT_TOLD
    slow = root / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    assert fsck(path / ".git", path, root / "scratch", 0.1, str(slow)) is Found.NOT_TOLD


def test_a_session_is_a_transcript_with_a_line_that_can_be_read(tmp_path: Path) -> None:
    project = tmp_path / "projects/-workspace"
    project.mkdir(parents=True)
    assert sessions(tmp_path) == 0
    (project / "a.jsonl").write_text('{"type":"summary"}\n{"sessionId":"a","type":"user"}\n')
    (project / "b.jsonl").write_text("torn\n")
    (project / "c.txt").write_text('{"sessionId":"c"}\n')
    (project / "d.jsonl").symlink_to("a.jsonl")
    os.mkfifo(project / "e.jsonl")
    (project / "f").mkdir()
    (project / "f/g.jsonl").write_text('{"sessionId":"g"}\n')
    assert sessions(tmp_path) == 1
