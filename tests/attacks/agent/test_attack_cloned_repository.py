"""A repository that wants to run something, to write or read elsewhere, or to have others asked, while it is cloned.

What is cloned comes from a server that may be anybody's: its refs, its trees, its `.gitmodules`, `.gitattributes` and
`.lfsconfig`. Before, with `lfs: true`, a `.lfsconfig` with an ssh URL had the program `ssh` run with what it says,
where an image has one; and a pipe where an earlier agent's clone had its configuration held what clones for ever.
Closed by `images/sandbox/clone-repositories`: git and git-lfs run no ssh there, and no file is read that isn't one.

Each is tried with the program that clones, and seen to do harm with git as a person may have configured it. What git
itself refuses whatever its configuration (2.39 and newer) is tried all the same: by hand-made trees, since git would
not write them.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import repository
from aiohttp import web
from http_backend import http_backend
from lfs_server import pointer

from claude_sandbox.backends.cloning import outcomes_of
from claude_sandbox.localcluster.programs import os_packages

PROGRAM = repository.ROOT / "images/sandbox/clone-repositories"
LARGE = b"written\n"
"""The one large file that the server has."""
_WHO = {f"GIT_{one}_{what}": "a@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
# As a person may have them who works with many servers.
_PLAIN = (
    "-c",
    "protocol.allow=always",
    "-c",
    "filter.lfs.smudge=git-lfs smudge -- %f",
    "-c",
    "filter.lfs.required=true",
)


@dataclass
class Hostile:
    """A server, the repository on it that attacks, and where harm would be seen."""

    directory: Path
    server: str
    path: str
    asked: list[str] = field(default_factory=list)
    """Connections to a server of the attacker's that is not the repository's."""
    elsewhere: str = ""

    @property
    def work(self) -> Path:
        """Where the repository is made."""
        return self.directory / "work"

    @property
    def ran(self) -> Path:
        """The file that is there when anything was run."""
        return self.directory / "ran"

    @property
    def private(self) -> Path:
        """A repository of the machine's own, which nobody declared."""
        return self.directory / "private"

    @property
    def victim(self) -> Path:
        """A directory outside of the clone."""
        return self.directory / "workspace/victim"

    def git(self, *arguments: str, at: Path | None = None, given: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=at or self.work,
            input=given,
            env=self.environment(),
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def environment(self) -> dict[str, str]:
        return {"PATH": self.path, "HOME": str(self.directory / "home"), "GIT_TERMINAL_PROMPT": "0", **_WHO}

    def blob(self, content: str) -> str:
        return self.git("hash-object", "-w", "--stdin", given=content.encode())

    def commit(self, *entries: tuple[str, str, str], literal: bool = False) -> None:
        """A commit on `main` of a tree of (mode, name, object), whatever the names are."""
        if literal:
            raw = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(one) for mode, name, one in entries)
            tree = self.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", given=raw)
        else:
            tree = self.git(
                "mktree", "--missing", given="".join(f"{m} {_KINDS[m]} {o}\t{n}\n" for m, n, o in entries).encode()
            )
        self.git("update-ref", "refs/heads/main", self.git("commit-tree", "-m", "x", tree))

    def tree(self, *entries: tuple[str, str, str]) -> str:
        raw = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(one) for mode, name, one in entries)
        return self.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", given=raw)

    def submodule(self, url: str, path: str = "sub", name: str = "sub", **more: str) -> None:
        """A commit with one."""
        lines = [f'[submodule "{name}"]', f"\tpath = {path}", f"\turl = {url}"]
        lines += [f"\t{key} = {value}" for key, value in more.items()]
        modules = self.blob("\n".join([*lines, ""]))
        inner = self.git("rev-parse", "HEAD", at=self.private)
        self.commit(("100644", ".gitmodules", modules), ("160000", path, inner))

    async def plain(self) -> None:
        """As a person clones it."""
        there = self.directory / "workspace/plain"
        await self._run("git", *_PLAIN, "clone", "-q", "--recurse-submodules", f"{self.server}/hostile.git", str(there))
        if (there / ".lfsconfig").exists():
            await self._run("git", "-C", str(there), "lfs", "pull")

    async def cloned(self) -> tuple[str, ...] | None:
        """By the program; what it says of it."""
        wish = {"path": str(self.directory / "workspace/cloned"), "url": f"{self.server}/hostile.git"}
        said = await self._run(
            sys.executable, "-I", str(PROGRAM),
            CLAUDE_SANDBOX_REPOSITORIES=json.dumps([wish | {"submodules": True, "lfs": True}]),
            CLAUDE_SANDBOX_WORKSPACE=str(self.directory / "workspace"),
        )  # fmt: skip
        return outcomes_of(said.splitlines()[-1] if said else "")

    async def _run(self, *command: str, **environment: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.directory / "workspace", env=self.environment() | environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(60):
            return (await process.communicate())[0].decode(errors="replace")

    def harm(self, where: str) -> list[str]:
        """What was done by the clone in this directory of the workspace; what is seen is forgotten."""
        clone = self.directory / "workspace" / where
        found = ["ran something"] if self.ran.exists() else []
        found += ["asked another server"] if self.asked else []
        found += ["wrote elsewhere"] if any(self.victim.iterdir()) else []
        copied = (
            [one for one in clone.rglob("secret") if one.is_file() and not one.is_symlink()] if clone.exists() else []
        )
        found += ["read a repository of the machine's"] if copied else []
        config = clone / ".git/hooks"
        found += (
            ["left a hook"] if config.exists() and (config / "post-checkout").exists() and not _of_lfs(config) else []
        )
        self.ran.unlink(missing_ok=True)
        self.asked.clear()
        for one in self.victim.iterdir():
            one.unlink()
        return found


_KINDS = {"100644": "blob", "100755": "blob", "120000": "blob", "040000": "tree", "160000": "commit"}


def _of_lfs(hooks: Path) -> bool:
    return "git lfs" in (hooks / "post-checkout").read_text()


@pytest_asyncio.fixture
async def hostile(tmp_path: Path) -> AsyncIterator[Hostile]:
    lfs = os_packages.ensure(os_packages.Needed(("git-lfs",), ("git-lfs",)), lambda _: None)
    programs = tmp_path / "programs"
    for made in (programs, *(tmp_path / one for one in ("home", "work", "private", "workspace/victim"))):
        made.mkdir(parents=True)
    # Whoever runs it has run something, whatever it is told.
    (programs / "ssh").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (programs / "ssh").chmod(0o755)
    one = Hostile(tmp_path, "", f"{programs}:{lfs.search_path()}")
    for place in (one.private, one.work):
        one.git("init", "-q", "-b", "main", at=place)
    (one.private / "secret").write_text("a secret\n")
    one.git("add", "-A", at=one.private)
    one.git("commit", "-qm", "x", at=one.private)
    one.git("clone", "-q", "--bare", str(one.private), str(tmp_path / "server/private.git"), at=tmp_path)
    one.git("init", "-q", "--bare", "-b", "main", str(tmp_path / "server/hostile.git"), at=tmp_path)
    app = web.Application()
    app.router.add_route(
        "*", "/{path:.*}", http_backend(tmp_path / "server", {"uploadpack.allowAnySHA1InWant": "true"})
    )
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.server = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one.asked.append("asked")
        writer.close()

    other = await asyncio.start_server(accepted, "127.0.0.1", 0)
    one.elsewhere = f"127.0.0.1:{other.sockets[0].getsockname()[1]}"
    async with other:
        yield one
    await runner.cleanup()


def _lfs(hostile: Hostile, url: str) -> None:
    hostile.commit(
        ("100644", ".gitattributes", hostile.blob("*.bin filter=lfs -text\n")),
        ("100644", ".lfsconfig", hostile.blob(f"[lfs]\n\turl = {url}\n")),
        ("100644", "a.bin", hostile.blob(pointer(LARGE))),
    )


def _link_and_below(hostile: Hostile) -> None:
    """A tree with a link, and a directory of the same name: what is checked out below it would follow the link."""
    link, file = hostile.blob("../victim"), hostile.blob("written\n")
    hostile.commit(("120000", "a", link), ("40000", "a", hostile.tree(("100644", "file", file))), literal=True)


def _pointer_that_is_a_link(hostile: Hostile) -> None:
    """A link whose target is a pointer's own text, which git-lfs would put the file in place of."""
    text = pointer(LARGE)
    target = hostile.blob("../../../../victim/file")
    last = text.rpartition("/")[2]
    spec = hostile.tree(("120000", last, target))
    names = ["spec", "git-lfs.github.com"]
    for name in names:
        spec = hostile.tree(("40000", name, spec))
    hostile.commit(
        ("100644", ".gitattributes", hostile.blob("evil filter=lfs -text\n")),
        ("120000", "evil", hostile.blob(text)),
        ("40000", "version https:", spec),
        literal=True,
    )


def _git_directory(name: str) -> Callable[[Hostile], None]:
    """A tree that has git's own directory in it, with a hook."""

    def make(hostile: Hostile) -> None:
        hook = hostile.blob(f"#!/bin/sh\ntouch {hostile.ran}\n")
        hooks = hostile.tree(("40000", "hooks", hostile.tree(("100755", "post-checkout", hook))))
        hostile.commit(("40000", name, hooks), literal=True)

    return make


def _filter(hostile: Hostile) -> None:
    """Attributes that name a filter, a converter and a working tree's encoding, and a configuration beside them."""
    says = f'[filter "evil"]\n\tsmudge = touch {hostile.ran}\n\trequired = true\n'
    hostile.commit(
        ("100644", ".gitattributes", hostile.blob("* filter=evil working-tree-encoding=UTF-16 ident merge=evil\n")),
        ("100644", ".gitconfig", hostile.blob(says)),
        ("100644", "config", hostile.blob(says)),
        ("100644", "file", hostile.blob("x\n")),
    )


def _evil_config(hostile: Hostile) -> None:
    """As an agent of an earlier life may have left it in the home: what the attributes name is there."""
    _filter(hostile)
    (hostile.directory / "home/.gitconfig").write_text(f'[filter "evil"]\n\tsmudge = "touch {hostile.ran}; cat"\n')


# Harm that is seen with git as a person has it.
HARMFUL: dict[str, Callable[[Hostile], None]] = {
    "a submodule by a command": lambda one: one.submodule(f"ext::sh -c touch% {one.ran}"),
    "a submodule by ssh": lambda one: one.submodule("ssh://git@git.example.org/x"),
    "a submodule by scp's way": lambda one: one.submodule("git@git.example.org:x"),
    "a submodule by git's own protocol": lambda one: one.submodule(f"git://{one.elsewhere}/x"),
    "a submodule that is a directory": lambda one: one.submodule(f"file://{one.private}"),
    "a submodule that is a path": lambda one: one.submodule(str(one.private)),
    "large files by ssh": lambda one: _lfs(one, "ssh://git@git.example.org/x"),
    "a filter that the home knows": _evil_config,
}
# What git itself refuses.
REFUSED: dict[str, Callable[[Hostile], None]] = {
    "a submodule whose url is an option": lambda one: one.submodule(f"--upload-pack=touch {one.ran}"),
    "a submodule whose url has a line's end": lambda one: one.submodule(f'"{one.server}/private\\nhost=evil"'),
    "a submodule that says how it is updated": lambda one: one.submodule(
        f"{one.server}/private.git", update=f"!touch {one.ran}"
    ),
    "a submodule whose name leads out": lambda one: one.submodule(
        f"{one.server}/private.git", name="../../../victim/x"
    ),
    "a submodule whose path is git's directory": lambda one: one.submodule(f"{one.server}/x", path=".git"),
    "a submodule whose path is an option": lambda one: one.submodule(f"{one.server}/x", path="-c"),
    "a link with a directory of its name": _link_and_below,
    "a pointer that is a link": _pointer_that_is_a_link,
    "git's directory": _git_directory(".git"),
    "git's directory in other letters": _git_directory(".GIT"),
    "git's directory with a sign nobody sees": _git_directory(".g\u200cit"),
    "git's directory by its short name": _git_directory("GIT~1"),
    "a directory above": _git_directory(".."),
    "a filter": _filter,
}


async def _is_harmless(hostile: Hostile) -> None:
    await hostile.cloned()
    assert hostile.harm("cloned") == []
    assert {one.name for one in (hostile.directory / "workspace").iterdir()} <= {"cloned", "plain", "victim"}


def _serve(hostile: Hostile, make: Callable[[Hostile], None]) -> None:
    make(hostile)
    hostile.git("push", "-q", str(hostile.directory / "server/hostile.git"), "main")
    assert hostile.harm("nothing") == []


@pytest.mark.parametrize("make", HARMFUL.values(), ids=HARMFUL)
async def test_what_does_harm_to_a_person_does_none_here(hostile: Hostile, make: Callable[[Hostile], None]) -> None:
    _serve(hostile, make)
    await hostile.plain()
    assert hostile.harm("plain"), "the control"
    await _is_harmless(hostile)


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
async def test_what_git_refuses_is_refused_here(hostile: Hostile, make: Callable[[Hostile], None]) -> None:
    _serve(hostile, make)
    await _is_harmless(hostile)


async def test_names_of_refs_and_what_head_is_are_no_options_and_no_paths(hostile: Hostile) -> None:
    """Of a server that says what it likes of its refs."""
    hostile.commit(("100644", "file", hostile.blob("x\n")))
    commit = hostile.git("rev-parse", "main")
    names = ["HEAD", "refs/heads/--upload-pack=touch", "refs/heads/../../../../victim/x", "refs/heads/a.lock",
             "refs/heads/-c", "refs/../config", "refs/heads/main"]  # fmt: skip
    advertised = [f"{commit} {name}" for name in names]
    advertised[0] += "\0 symref=HEAD:refs/heads/../../../../victim/x multi_ack"
    lines = ["# service=git-upload-pack\n", None, *(f"{one}\n" for one in advertised), None]
    body = b"".join(b"0000" if one is None else b"%04x%b" % (len(one) + 4, one.encode()) for one in lines)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/x-git-upload-pack-advertisement")

    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hostile.server = f"http://127.0.0.1:{runner.addresses[0][1]}"
    outcomes = await hostile.cloned()
    assert outcomes is not None
    assert outcomes[0].startswith("Failed")
    assert hostile.harm("cloned") == []
    await runner.cleanup()


@pytest.mark.parametrize("left", ["a pipe", "a device", "a link to one"])
async def test_what_an_earlier_agent_left_at_its_place_holds_up_nothing(hostile: Hostile, left: str) -> None:
    config = hostile.directory / "workspace/cloned/.git/config"
    config.parent.mkdir(parents=True)
    if left == "a device":
        config.symlink_to("/dev/zero")
    else:
        pipe = config.with_name("pipe") if left == "a link to one" else config
        os.mkfifo(pipe)
        with contextlib.suppress(FileExistsError):
            config.symlink_to(pipe)
    assert await hostile.cloned() == ("Kept",)
