"""The agent's repository is to run something on the machine of who looks at its changes, or to hide them.

Gained before: a plain `git diff` on the agent's `.git` (a copy of the workspace, a shared directory) ran commands as
the user: monitors, filters, converters, hooks, helpers of submodules; it showed files of the user's; and it was lied
to by attributes, ignore files, the index, replacements and forged objects. Closed by `cli/work/changes/`, which takes
objects and bytes only, and computes every name by itself.
"""

import hashlib
import os
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exec_server import ExecServer, exec_server

from claude_sandbox.cli.main import cli

PLAIN = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "HOME": "/nonexistent",
}
NAMES = {f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(where: Path, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["git", "-C", where, *arguments],
        capture_output=True,
        text=True,
        check=check,
        env=PLAIN | NAMES,
        errors="replace",
    )
    return done.stdout + done.stderr


class Agent:
    """A repository in a sandbox, with one commit that was cloned, and what the agent did since."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.at = place / "inside/work"
        self.mark = place / "mark"
        self.at.mkdir(parents=True)
        git(self.at, "init", "-q", "-b", "main")
        (self.at / "file").write_text("before\n")
        (self.at / "ignored").mkdir()
        (self.at / ".gitignore").write_text("ignored/\n*.log\n")
        self.commit("first")
        self.base = git(self.at, "rev-parse", "HEAD").strip()
        git(self.at, "update-ref", "refs/remotes/origin/main", self.base)
        (self.at / "file").write_text("after\n")

    def commit(self, message: str) -> None:
        git(self.at, "add", "-A")
        git(self.at, "commit", "-q", "-m", message)

    def config(self, name: str, value: str) -> None:
        git(self.at, "config", name, value)

    def script(self, then: str = "cat 2>/dev/null") -> str:
        path = self.place / "evil"
        path.write_text(f"#!/bin/sh\ntouch {self.mark}\n{then}\nexit 0\n")
        path.chmod(0o755)
        return str(path)


def fsmonitor(agent: Agent) -> None:
    agent.config("core.fsmonitor", agent.script())


def included(agent: Agent) -> None:
    (agent.at / ".git/more").write_text(f"[core]\n fsmonitor = {agent.script()}\n")
    agent.config("include.path", "more")


def external(agent: Agent) -> None:
    agent.config("diff.external", agent.script())


def driver(agent: Agent) -> None:
    (agent.at / ".gitattributes").write_text("file diff=evil\n")
    agent.config("diff.evil.command", agent.script())


def textconv(agent: Agent) -> None:
    (agent.at / ".gitattributes").write_text("file diff=evil\n")
    agent.config("diff.evil.textconv", agent.script())


def a_filter(agent: Agent) -> None:
    (agent.at / ".gitattributes").write_text("file filter=evil\n")
    agent.config("filter.evil.clean", agent.script())


def a_filter_process(agent: Agent) -> None:
    (agent.at / ".git/info/attributes").write_text("file filter=evil\n")
    agent.config("filter.evil.process", agent.script())


def a_hook(agent: Agent) -> None:
    hook = agent.at / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(Path(agent.script()).read_text())
    hook.chmod(0o755)
    os.utime(agent.at / ".gitignore", (1, 1))


def a_submodule(agent: Agent) -> None:
    below = agent.at / "below"
    below.mkdir()
    git(below, "init", "-q")
    (below / "x").write_text("x")
    git(below, "add", "x")
    git(below, "commit", "-q", "-m", "x")
    agent.commit("with a submodule")
    git(below, "config", "core.fsmonitor", agent.script())


def a_promise(agent: Agent) -> None:
    """A blob that is to be fetched when it is missed, by a command."""
    blob = git(agent.at, "rev-parse", f"{agent.base}:file").strip()
    path = agent.at / f".git/objects/{blob[:2]}/{blob[2:]}"
    path.unlink()
    agent.config("extensions.partialClone", "origin")
    agent.config("remote.origin.promisor", "true")
    agent.config("remote.origin.url", f"ext::{agent.script('')}")
    agent.config("protocol.ext.allow", "always")


RUNS: dict[str, tuple[Callable[[Agent], None], tuple[str, ...]]] = {
    "a monitor of the file system": (fsmonitor, ("diff",)),
    "a configuration that is included": (included, ("diff",)),
    "another diff program": (external, ("diff",)),
    "a driver of attributes": (driver, ("diff",)),
    "a converter to text": (textconv, ("diff",)),
    "a filter": (a_filter, ("diff",)),
    "a filter that stays": (a_filter_process, ("diff",)),
    "a hook": (a_hook, ("status",)),
    "a submodule's configuration": (a_submodule, ("diff",)),
    "a promise of an object": (a_promise, ("diff",)),
}


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def diff(agent: Agent, *options: str, change: Callable[[ExecServer], None] = lambda _: None) -> Result:
    with exec_server(agent.place / "inside", agent.place) as server:
        change(server)
        where = ["--kubeconfig", server.kubeconfig, "--path", str(agent.at)]
        return CliRunner().invoke(cli, ["diff", *where, "alice", *options])


@pytest.mark.parametrize("name", RUNS)
def test_nothing_of_the_repository_is_run(name: str, agent: Agent) -> None:
    prepare, plain = RUNS[name]
    prepare(agent)
    assert not agent.mark.exists()
    git(agent.at, *plain, check=False)
    assert agent.mark.exists(), "a plain git runs it not"
    agent.mark.unlink()
    found = diff(agent)
    assert not agent.mark.exists()
    if prepare is not a_promise:
        assert found.exit_code == 0, found.output
        assert "-before\n+after\n" in found.stdout
    else:
        assert found.exit_code == 4


def test_a_work_tree_elsewhere_is_not_read(agent: Agent) -> None:
    (agent.place / "private").mkdir()
    (agent.place / "private/file").write_text("the user's secret\n")
    agent.config("core.worktree", str(agent.place / "private"))
    assert "the user's secret" in git(agent.at, "diff")
    assert "secret" not in diff(agent).output


def unchanged(agent: Agent) -> None:
    git(agent.at, "update-index", "--assume-unchanged", "file")


def attributes(agent: Agent) -> None:
    (agent.at / ".gitattributes").write_text("* binary\n")


def macro(agent: Agent) -> None:
    (agent.at / ".git/info/attributes").write_text("[attr]text -diff\nfile -diff -text\n")


def replaced(agent: Agent) -> None:
    agent.commit("evil")
    git(agent.at, "replace", agent.base, git(agent.at, "rev-parse", "HEAD").strip())


HIDES: dict[str, tuple[Callable[[Agent], None], tuple[str, ...]]] = {
    "the index": (unchanged, ("diff",)),
    "attributes": (attributes, ("diff",)),
    "attributes of the repository": (macro, ("diff",)),
    "a replacement": (replaced, ("diff", "{base}")),
}


@pytest.mark.parametrize("name", HIDES)
def test_a_change_can_not_be_hidden(name: str, agent: Agent) -> None:
    prepare, plain = HIDES[name]
    assert "-before\n+after\n" in git(agent.at, "diff")
    prepare(agent)
    assert "+after" not in git(agent.at, *(one.format(base=agent.base) for one in plain))
    assert "-before\n+after\n" in diff(agent, "--base", agent.base).stdout


def test_a_file_can_not_be_ignored(agent: Agent) -> None:
    (agent.at / "evil").mkdir()
    (agent.at / "evil/.gitignore").write_text("*\n")
    (agent.at / "evil/run.sh").write_text("evil\n")
    (agent.at / ".git/info/exclude").write_text("excluded\n")
    (agent.at / "excluded").write_text("excluded\n")
    (agent.at / "ignored/cache").write_text("of the base\n")
    assert "evil" not in git(agent.at, "status", "--porcelain", "--untracked-files=all")
    found = diff(agent, "--name-status")
    assert found.stdout == "A\tevil/.gitignore\nA\tevil/run.sh\nA\texcluded\nM\tfile\n"
    assert "1 files that the base's .gitignore ignores" in found.stderr


def test_an_object_can_not_stand_for_another(agent: Agent) -> None:
    blob = git(agent.at, "rev-parse", f"{agent.base}:file").strip()
    path = agent.at / f".git/objects/{blob[:2]}/{blob[2:]}"
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob 6\0after\n"))
    assert "-before" not in git(agent.at, "diff", "--stat", "-p", check=False)
    found = diff(agent, "--base", agent.base)
    assert found.exit_code == 4
    assert blob in found.output


def test_the_base_of_the_operator_goes_before_what_the_repository_says(agent: Agent) -> None:
    agent.commit("evil")
    now = git(agent.at, "rev-parse", "HEAD").strip()
    git(agent.at, "update-ref", "refs/remotes/origin/main", now)
    found = diff(agent)
    assert found.stdout == ""
    assert "the repository in the sandbox says so itself" in found.stderr
    repositories = [{"path": str(agent.at), "url": "https://example.org/x", "commit": agent.base}]
    found = diff(agent, change=lambda server: server.status.update(repositories=repositories))
    assert "-before\n+after\n" in found.stdout
    assert "which was cloned" in found.stderr
    assert "says so itself" not in found.stderr


def test_a_repository_that_unpacks_to_too_much_is_not_taken(agent: Agent) -> None:
    path = agent.at / ".git/objects/00"
    path.mkdir(exist_ok=True)
    (path / ("0" * 38)).write_bytes(zlib.compress(b"blob 50000000\0" + bytes(50_000_000)))
    found = diff(agent, "--max-size", "10Mi")
    assert found.exit_code == 4
    assert "unpacked" in found.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"junk", "damaged"), (zlib.compress(b"blob 3\0abcd"), "longer than it says"),
        (zlib.compress(b"blob 9\0abcd"), "cut"), (zlib.compress(b"evil 4\0abcd"), "of a type that is none"),
        (zlib.compress(b"blob 4\0abcd")[:-3], "cut"), (zlib.compress(b"b" * 100), "that is none"),
    ],
)  # fmt: skip
def test_a_damaged_object_is_told(agent: Agent, content: bytes, said: str) -> None:
    path = agent.at / ".git/objects/00"
    path.mkdir(exist_ok=True)
    (path / ("0" * 38)).write_bytes(content)
    found = diff(agent)
    assert (found.exit_code, said in found.output) == (4, True), found.output


def test_names_of_every_kind_are_shown_as_they_are(agent: Agent) -> None:
    for name in ('a"b', "a\\b", "a\nb", "\x1b[2J", ":(top)x", "-x", " ", "ü"):
        (agent.at / name).write_text("x\n")
    (agent.at / "link").symlink_to("/etc/passwd")
    os.mkfifo(agent.at / "pipe")
    found = diff(agent, "--name-status")
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines() == [
        'A\t"\\033[2J"', "A\t ", "A\t-x", "A\t:(top)x", 'A\t"a\\nb"', 'A\t"a\\"b"', 'A\t"a\\\\b"', "M\tfile",
        "A\tlink", 'A\t"\\303\\274"',
    ]  # fmt: skip
    assert "pipe: a device, pipe or socket" in found.stderr


def test_packed_and_shallow_repositories_are_read(agent: Agent, tmp_path: Path) -> None:
    agent.commit("second")
    (agent.at / "file").unlink()
    git(agent.at, "gc", "-q")
    git(agent.at, "pack-refs", "--all")
    assert diff(agent).stdout.count("-before\n") == 1
    clone = agent.place / "inside/shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{agent.at}", str(clone))
    agent.at = clone
    (clone / "file").write_text("then\n")
    found = diff(agent)
    assert "-after\n+then\n" in found.stdout
    assert "origin" in found.stderr


def test_a_repository_without_a_commit_and_none_at_all(agent: Agent) -> None:
    agent.at = agent.place / "inside/new"
    agent.at.mkdir()
    found = diff(agent)
    assert found.exit_code == 4
    assert "There is no repository at" in found.output
    git(agent.at, "init", "-q")
    (agent.at / "x").write_text("x\n")
    found = diff(agent)
    assert "+x\n" in found.stdout
    assert "it has no commit" in found.stderr


def test_a_large_file_that_is_what_its_pointer_says_has_not_changed(agent: Agent) -> None:
    content = b"large" * 1000
    digest = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"
    (agent.at / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    for name in ("same.bin", "also.bin", "other.bin"):
        (agent.at / name).write_text(pointer)
    agent.commit("with large files")
    base = git(agent.at, "rev-parse", "HEAD").strip()
    (agent.at / "same.bin").write_bytes(content)
    (agent.at / "other.bin").write_bytes(content + b"!")
    assert diff(agent, "--base", base, "--name-status").stdout == "M\tother.bin\n"


def test_a_tar_that_can_leave_nothing_out_is_enough(agent: Agent) -> None:
    """Debian's BusyBox has such a one."""
    programs = agent.place / "programs"
    programs.mkdir()
    (programs / "tar").write_text('#!/bin/sh\ncase "$*" in *--exclude*) exit 1;; esac\nexec /bin/tar "$@"\n')
    (programs / "tar").chmod(0o755)
    for name in (".hidden", "-x", "two words"):
        (agent.at / name).write_text("new\n")
    (agent.at / "dangling").symlink_to("nowhere")

    def poorer(server: ExecServer) -> None:
        server.path = f"{programs}:{server.path}"

    found = diff(agent, "--name-status", change=poorer)
    assert found.exit_code == 0, found.output
    shown = {line for line in found.output.splitlines() if "\t" in line}
    assert shown == {"A\t-x", "A\t.hidden", "A\tdangling", "A\ttwo words", "M\tfile"}
    for path in (*agent.at.glob("[!.]*"), agent.at / ".hidden", agent.at / ".gitignore"):
        path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
    found = diff(agent, "--name-status", change=poorer)
    assert {"D\tfile", "D\t.gitignore"} == {line for line in found.output.splitlines() if "\t" in line}, found.output


def test_of_several_repositories_one_has_to_be_named(agent: Agent) -> None:
    several = [{"path": path, "url": "https://example.org/x", "commit": agent.base} for path in ("one", "two")]
    with exec_server(agent.place / "inside", agent.place) as server:
        server.status.update(repositories=several)
        found = CliRunner().invoke(cli, ["diff", "--kubeconfig", server.kubeconfig, "alice"])
    assert found.exit_code == 4
    assert "several repositories: one, two" in found.output
    assert "--path" in found.output
