"""What an agent may try with a repository that it may push `claude/*` to, and nothing below `.github`.

Each attack is done the same way to a proxy that only adds the credential, and to the gateway. It succeeds where what it
was after is there afterwards (`GitPlace.violations`), or where it read what is of another repository.
"""

import asyncio
import contextlib
import gzip
import shutil
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha1 as _sha1
from pathlib import Path

import aiohttp
from aiohttp import web
from git_lab import AUTHORIZATION, GitLab, git_lab, serve
from yarl import URL

from claude_sandbox.gateway.git.pkt_line import FLUSH, packet
from claude_sandbox.gateway.git.push_rules import PushRules

RULES = PushRules(("claude/*",), protected=(".github/**",))
SECRET = b"of-another-repository"
ZERO = "0" * 40
sha1 = partial(_sha1, usedforsecurity=False)
_CAPABILITIES = " report-status side-band-64k"
_CONFIG = {
    "receive.advertisePushOptions": "true",
    "receive.certNonceSeed": "seed",
    "receive.denyDeleteCurrent": "ignore",
}
_HOOK = '#!/bin/sh\n[ -z "$GIT_PUSH_OPTION_0$GIT_PUSH_CERT" ] || touch "$PWD/hooked"\n'


@dataclass
class GitPlace:
    """The server with its repository, and an agent's clone; `url` is the way that is attacked."""

    lab: GitLab
    url: str
    clone: Path
    first: Mapping[str, str]

    @property
    def bare(self) -> Path:
        return self.lab.files / "team/project.git"

    async def git(self, *arguments: str) -> str:
        """In the clone; how it ends is not looked at."""
        return (await self.lab.git("-c", "core.protectNTFS=false", "-c", "core.protectHFS=false", *arguments,
                                   at=self.clone)).text  # fmt: skip

    async def commit(self, name: str, content: str = "evil") -> str:
        file = self.clone / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return await self.committed()

    async def committed(self) -> str:
        await self.git("add", "-A")
        await self.git("commit", "-q", "--allow-empty", "-m", "x")
        return await self.id("HEAD")

    async def id(self, name: str) -> str:
        return (await self.git("rev-parse", name)).strip()

    async def push(self, *arguments: str) -> None:
        await self.git("push", self.url, *(arguments or ("HEAD:refs/heads/claude/new",)))

    async def pack(self, new: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *("git", "pack-objects", "--revs", "--stdout", "-q"), cwd=self.clone,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        data, _ = await process.communicate(f"{new}\n^{self.first['refs/heads/main']}\n".encode())
        return data

    async def request(self, method: str, below: str, body: bytes | None = None, **headers: str) -> bytes:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(method, URL(f"{self.url}/{below}", encoded=True), data=body, headers=headers) as answer,
        ):
            return await answer.read()

    async def receive(self, body: bytes, below: str = "git-receive-pack", method: str = "POST", **headers: str) -> None:
        kind = {"content-type": "application/x-git-receive-pack-request"}
        await self.request(method, below, body, **kind, **headers)

    async def raw(self, *lines: str, new: str | None = None, behind: bytes = b"", capabilities: str = "") -> bytes:
        """A push as one would write it by hand."""
        first, *others = lines
        head = (first + "\0" + _CAPABILITIES + capabilities, *others)
        return b"".join(packet(line.encode()) for line in head) + FLUSH + behind + await self.pack(new or "HEAD")

    async def violations(self) -> set[str]:
        """What is there and must not be."""
        refs = await self.lab.refs()
        found = {f"{ref} changed" for ref in {*refs, *self.first}
                 if not ref.startswith("refs/heads/claude/") and refs.get(ref) != self.first.get(ref)}  # fmt: skip
        for ref, old in self.first.items():
            if ref.startswith("refs/heads/claude/"):
                ancestor = await self.lab.git("merge-base", "--is-ancestor", old, refs.get(ref, ZERO), at=self.bare)
                found |= {f"{ref} rewritten"} if ancestor.code else set()
        found |= {"a hook was told something"} if (self.bare / "hooked").exists() else set()
        known = [f"^{commit}" for commit in self.first.values()]
        new = await self.lab.run("rev-list", "--all", *known, at=self.bare)
        for commit in new.split():
            changed = await self.lab.run("show", "--format=", "--name-only", "-c", "--root", "-z", commit, at=self.bare)
            found |= {f"{name!r} changed" for name in changed.split("\0") if name and not name.startswith("src/")}
        return found


Attack = Callable[[GitPlace], Awaitable[bytes | None]]
ATTACKS: dict[str, Attack] = {}


def attack(name: str) -> Callable[[Attack], Attack]:
    def noted(function: Attack) -> Attack:
        ATTACKS[name] = function
        return function

    return noted


def _pushing(name: str, *arguments: str) -> None:
    async def push(place: GitPlace) -> None:
        await place.commit("src/a.py")
        await place.push(*arguments)

    ATTACKS[name] = push


def _changing(name: str, path: str) -> None:
    async def change(place: GitPlace) -> None:
        await place.commit(path)
        await place.push()

    ATTACKS[f"a path that is protected: {name}"] = change


for _name, *_arguments in (
    ("another branch", "HEAD:refs/heads/main"),
    ("another branch beside one that is allowed", "HEAD:refs/heads/claude/new", "HEAD:refs/heads/main"),
    ("another branch, all or nothing", "--atomic", "HEAD:refs/heads/claude/new", "HEAD:refs/heads/main"),
    ("a new branch of another name", "HEAD:refs/heads/claude-new"),
    ("a branch that differs in case", "HEAD:refs/heads/Claude/new"),
    ("a tag", "HEAD:refs/tags/v1"),
    ("a tag that is there", "--force", "HEAD:refs/tags/v0"),
    ("a tag beside a branch", "HEAD:refs/heads/claude/new", "HEAD:refs/tags/v2"),
    ("notes", "HEAD:refs/notes/commits"),
    ("an object that stands for another", "HEAD:refs/replace/" + "a" * 40),
    ("the head of a pull request", "HEAD:refs/pull/1/head"),
    ("a ref of the server's own", "HEAD:refs/keep-around/x"),
    ("a deleted branch", ":refs/heads/main"),
    ("a deleted branch of its own", ":refs/heads/claude/kept"),
    ("a deleted tag", ":refs/tags/v0"),
    ("a rewritten branch", "--force", "HEAD:refs/heads/claude/kept"),
    ("everything that there is", "--mirror"),
    ("what is not here, removed", "--prune", "refs/heads/claude/*:refs/heads/claude/*"),
    ("a branch that stands for another", "HEAD:refs/heads/claude/alias"),
    ("an option for the server's hook", "-o", "deploy=now", "HEAD:refs/heads/claude/new"),
):  # fmt: skip
    _pushing(_name, *_arguments)

for _name, _path in (
    ("changed", ".github/workflows/ci.yml"),
    ("a new one", ".github/workflows/new.yml"),
    ("in another case", ".GitHub/workflows/ci.yml"),
    ("with a character that is not seen", ".git\u200dhub/workflows/ci.yml"),
    ("with another that is not seen", ".\ufeffgithub/workflows/ci.yml"),
    ("by its short name", "GITHUB~1/workflows/ci.yml"),
    ("with a blank behind it", ".github /workflows/ci.yml"),
    ("with a dot behind it", ".github./workflows/ci.yml"),
    ("as a stream of a file", ".github::$INDEX_ALLOCATION/workflows/ci.yml"),
    ("in wide letters", "\uff0egithub/workflows/ci.yml"),
    ("with a backslash", ".github\\workflows\\ci.yml"),
):
    _changing(_name, _path)


@attack("a path that is protected: removed")
async def _removed(place: GitPlace) -> None:
    await place.git("rm", "-rq", ".github")
    await place.committed()
    await place.push()


@attack("a path that is protected: behind a symbolic link")
async def _linked(place: GitPlace) -> None:
    await place.git("rm", "-rq", ".github")
    (place.clone / ".github").symlink_to("src")
    await place.committed()
    await place.push()


@attack("a path that is protected: as a submodule")
async def _submodule(place: GitPlace) -> None:
    await place.git("rm", "-rq", ".github")
    await place.git("update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},.github")
    await place.git("commit", "-qm", "x")
    await place.push()


@attack("a path that is protected: made executable")
async def _executable(place: GitPlace) -> None:
    await place.git("update-index", "--chmod=+x", ".github/workflows/ci.yml")
    await place.git("commit", "-qm", "x")
    await place.push()


@attack("a path that is protected: moved there")
async def _moved(place: GitPlace) -> None:
    await place.git("mv", "src", ".github/src")
    await place.committed()
    await place.push()


@attack("a path that is protected: changed and taken back")
async def _taken_back(place: GitPlace) -> None:
    await place.commit(".github/workflows/ci.yml")
    await place.git("revert", "--no-edit", "HEAD")
    await place.push()


@attack("a path that is protected: changed by a merge")
async def _merged(place: GitPlace) -> None:
    await place.git("checkout", "-qb", "other")
    await place.commit("src/b.py")
    await place.git("checkout", "-q", "main")
    await place.commit("src/c.py")
    await place.git("merge", "-q", "--no-commit", "--no-ff", "other")
    await place.commit(".github/workflows/ci.yml")
    await place.push()


@attack("a path that is protected: in a history of its own")
async def _orphan(place: GitPlace) -> None:
    await place.git("checkout", "-q", "--orphan", "new")
    await place.commit(".github/workflows/ci.yml")
    await place.push()


@attack("a path that is protected: in the second of two branches")
async def _second(place: GitPlace) -> None:
    good = await place.commit("src/b.py")
    await place.commit(".github/workflows/ci.yml")
    await place.push(f"{good}:refs/heads/claude/a", "HEAD:refs/heads/claude/b")


@attack("a path that is protected: in pieces of a pack by hand")
async def _by_hand(place: GitPlace) -> None:
    new = await place.commit(".github/workflows/ci.yml")
    await place.receive(await place.raw(f"{ZERO} {new} refs/heads/claude/new"))


@attack("a path that is protected: there twice in one tree")
async def _twice(place: GitPlace) -> None:
    main = place.first["refs/heads/main"]
    good = bytes.fromhex(await place.id(f"{main}:.github"))
    blob = b"blob 4\0evil"
    inner = b"100644 ci.yml\0" + sha1(blob).digest()
    evil = sha1(b"tree %d\0" % len(inner) + inner).digest()
    tree = b"40000 .github\0" + good + b"40000 .github\0" + evil
    name = sha1(b"tree %d\0" % len(tree) + tree).hexdigest()
    commit = f"tree {name}\nparent {main}\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\n\nx\n".encode()
    new = sha1(b"commit %d\0" % len(commit) + commit).hexdigest()
    pack = _pack((1, commit), (2, tree), (2, inner), (3, b"evil"))
    head = packet(f"{ZERO} {new} refs/heads/claude/new\0{_CAPABILITIES}".encode()) + FLUSH
    await place.receive(head + pack)


def _pack(*objects: tuple[int, bytes]) -> bytes:
    data = bytearray(b"PACK\0\0\0\2" + len(objects).to_bytes(4, "big"))
    for kind, content in objects:
        size = len(content)
        head, left = bytearray([kind << 4 | size & 15]), size >> 4
        while left:
            head[-1] |= 128
            head.append(left & 127)
            left >>= 7
        data += head + zlib.compress(content)
    return bytes(data) + sha1(data).digest()


@attack("commands by hand: another branch")
async def _main_by_hand(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    await place.receive(await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main"))


@attack("commands by hand: compressed")
async def _compressed(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    body = await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main")
    await place.receive(gzip.compress(body), **{"content-encoding": "gzip"})


@attack("commands by hand: a second one with capabilities of its own")
async def _hidden(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    second = f"{place.first['refs/heads/main']} {new} refs/heads/main\0 quiet"
    await place.receive(await place.raw(f"{ZERO} {new} refs/heads/claude/new", second))


@attack("commands by hand: lengths in capitals")
async def _capitals(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    body = await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main", capabilities=" agent=" + "x" * 60)
    await place.receive(body[:4].upper() + body[4:])


@attack("commands by hand: after shallow lines")
async def _after_shallow(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    body = await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main")
    await place.receive(packet(b"shallow " + place.first["refs/heads/main"].encode()) + body)


@attack("commands by hand: an option for the server's hook that was not offered")
async def _option(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    options = packet(b"deploy=now") + FLUSH
    await place.receive(
        await place.raw(f"{ZERO} {new} refs/heads/claude/new", behind=options, capabilities=" push-options")
    )


@attack("commands by hand: in a certificate")
async def _certificate(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    lines = ["certificate version 0.1\n", "pusher a\n", "nonce x\n", "\n",
             f"{place.first['refs/heads/main']} {new} refs/heads/main\n", "-----BEGIN PGP MESSAGE-----\n"]  # fmt: skip
    head = packet(b"push-cert\0" + _CAPABILITIES.encode()) + b"".join(packet(line.encode()) for line in lines)
    await place.receive(head + packet(b"push-cert-end\n") + FLUSH + await place.pack(new))


@attack("commands by hand: at a URL that is written otherwise")
async def _other_url(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    body = await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main")
    for below in ("%67it-receive-pack", "./git-receive-pack", "git-receive-pack?x=1", "x/../git-receive-pack"):
        await place.receive(body, below)


@attack("another repository: by the path")
async def _other(place: GitPlace) -> bytes:
    return await place.request("GET", "../other.git/info/refs?service=git-upload-pack")


@attack("another repository: by the path, encoded")
async def _other_encoded(place: GitPlace) -> bytes:
    return await place.request("GET", "..%2fother.git/info/refs?service=git-upload-pack")


@attack("another repository: by a redirect of the server's")
async def _redirected(place: GitPlace) -> bytes:
    place.lab.answers = web.Response(
        status=302, headers={"location": "/team/other.git/info/refs?service=git-upload-pack"}
    )
    return await place.request("GET", "info/refs?service=git-upload-pack")


@attack("files of the repository by name, the old way")
async def _dumb(place: GitPlace) -> bytes:
    lost = sha1(b"blob %d\0" % len(SECRET) + SECRET).hexdigest()
    with contextlib.suppress(zlib.error):
        return zlib.decompress(await place.request("GET", f"objects/{lost[:2]}/{lost[2:]}"))
    return b""


@contextlib.asynccontextmanager
async def git_place(template: Path, directory: Path, *, gateway: bool) -> AsyncIterator[GitPlace]:
    """A copy of the template, served anew."""
    shutil.copytree(template, directory, symlinks=True)
    async with git_lab(directory, RULES, _CONFIG, made=True) as lab, aiohttp.ClientSession() as session:

        async def plain(request: web.Request) -> web.StreamResponse:
            url = URL(f"{lab.direct.removesuffix('/team/project.git')}{request.path}?{request.query_string}")
            headers = {
                name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")
            }
            async with session.request(request.method, url, data=await request.read() or None,
                                       headers=headers | {"authorization": AUTHORIZATION}) as answer:  # fmt: skip
                kind = answer.headers.get("content-type", "text/plain")
                return web.Response(status=answer.status, body=await answer.read(), headers={"content-type": kind})

        async with serve(plain, "/{path:.*}") as port:
            url = lab.url if gateway else f"http://127.0.0.1:{port}/team/project.git"
            yield GitPlace(lab, url, directory / "clone", await lab.refs())


async def make_template(directory: Path) -> None:
    """Two repositories, and a clone of the first, in a directory."""
    async with git_lab(directory, RULES, _CONFIG) as lab:
        bare, clone = lab.files / "team/project.git", directory / "clone"
        for ref, value in (("refs/heads/claude/kept", "main"), ("refs/tags/v0", "main")):
            await lab.run("update-ref", ref, value, at=bare)
        await lab.run("symbolic-ref", "refs/heads/claude/alias", "refs/heads/main", at=bare)
        (bare / "hooks/pre-receive").write_text(_HOOK)
        (bare / "hooks/pre-receive").chmod(0o755)
        await lab.run("clone", "-q", str(bare), str(clone))
        await lab.run("commit", "-q", "--amend", "-m", "of before", at=clone)
        await lab.run("push", "-q", str(bare), "HEAD:refs/heads/claude/kept", "--force", at=clone)
        await lab.run("reset", "-q", "--hard", "origin/main", at=clone)
        other = lab.files / "team/other.git"
        await lab.run("clone", "-q", "--bare", str(bare), str(other))
        await lab.run("branch", SECRET.decode(), "main", at=other)
        (directory / "lost").write_bytes(SECRET)
        await lab.run("hash-object", "-w", str(directory / "lost"), at=bare)
