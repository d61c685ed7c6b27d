"""What an agent may try with a repository that it may push `claude/*` to, and nothing below `.github` and `ops/live`.

Each attack is done the same way to a proxy that only adds the credential, and to the gateway. It succeeds where what it
was after is there afterwards (`GitPlace.violations`), or where it read what is of another repository.
"""

import asyncio
import contextlib
import gzip
import shutil
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha1 as _sha1
from pathlib import Path

import aiohttp
from aiohttp import web
from git_lab import AUTHORIZATION, GitLab, git_lab, serve
from yarl import URL

from claude_sandbox.gateway.git.pkt_line import FLUSH, packet
from claude_sandbox.gateway.git.push.rules import PushRules

RULES = PushRules(("claude/*",), protected=(".github/**", "ops/live/**"))
SECRET = b"of-another-repository"
ZERO = "0" * 40
sha1 = partial(_sha1, usedforsecurity=False)
_CAPABILITIES = " report-status side-band-64k"
_CONFIG = {
    "receive.advertisePushOptions": "true",
    "receive.certNonceSeed": "seed",
    "receive.denyDeleteCurrent": "ignore",
    "receive.shallowUpdate": "true",
}
_HOOK = '#!/bin/sh\n[ -z "$GIT_PUSH_OPTION_0$GIT_PUSH_CERT" ] || touch "$PWD/hooked"\n'


@dataclass
class GitPlace:
    """The server with its repository, and an agent's clone; `url` is the way that is attacked."""

    lab: GitLab
    url: str
    clone: Path
    first: dict[str, str]

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

    async def request(
        self, method: str, below: str, body: bytes | AsyncIterator[bytes] | None = None, **headers: str
    ) -> bytes:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(method, URL(f"{self.url}/{below}", encoded=True), data=body, headers=headers) as answer,
        ):
            return await answer.read()

    async def receive(
        self, body: bytes | AsyncIterator[bytes], below: str = "git-receive-pack", method: str = "POST", **headers: str
    ) -> None:
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
        # What is elsewhere on the server nobody of the project's has decided about.
        known = [f"^{commit}" for ref, commit in self.first.items() if ref.startswith(("refs/heads/", "refs/tags/"))]
        new = await self.lab.run("rev-list", "--branches", "--tags", *known, at=self.bare)
        for commit in new.split():
            shown = ("show", "--format=", "--name-only", "--no-renames", "-c", "--root", "-z", commit)
            changed = await self.lab.run(*shown, at=self.bare)
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
    ("with what joins two letters", ".git\u034fhub/workflows/ci.yml"),
    ("with a letter that fills", ".git\u115fhub/workflows/ci.yml"),
    ("with another letter that fills", ".github\uffa0/workflows/ci.yml"),
    ("with what chooses a variant", ".git\U000e0100hub/workflows/ci.yml"),
    ("with what no letter has yet", ".git\ufff0hub/workflows/ci.yml"),
    ("with an i without its dot", ".g\u0131thub/workflows/ci.yml"),
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
    good = bytes.fromhex(await place.id(f"{place.first['refs/heads/main']}:.github"))
    made = Made(place.first["refs/heads/main"])
    evil = made.tree((b"100644", b"ci.yml", made.blob()))
    tree = made.tree((b"40000", b".github", good), (b"40000", b".github", evil))
    await _pushed(place, made, made.commit(tree))


class Made:
    """Objects as no git writes them."""

    def __init__(self, first: str) -> None:
        self.first = first
        self.objects: list[tuple[int, bytes]] = []

    def _made(self, kind: int, name: bytes, data: bytes) -> bytes:
        self.objects.append((kind, data))
        return sha1(b"%s %d\0" % (name, len(data)) + data).digest()

    def blob(self, data: bytes = b"evil") -> bytes:
        return self._made(3, b"blob", data)

    def tree(self, *entries: tuple[bytes, bytes, bytes]) -> bytes:
        """Of modes, names and ids."""
        return self._made(2, b"tree", b"".join(b"%s %s\0%s" % one for one in entries))

    def commit(self, tree: bytes, *, head: Callable[[str], str] = str, parent: str | None = None) -> str:
        text = f"tree {tree.hex()}\nparent {parent or self.first}\n"
        data = f"{head(text)}author A <a> 1 +0000\ncommitter A <a> 1 +0000\n\nx\n".encode()
        return self._made(1, b"commit", data).hex()


async def _with_the_rest(place: GitPlace, made: Made, *entries: tuple[bytes, bytes, bytes]) -> bytes:
    """A tree of the first commit's, with these beside."""
    listed = (await place.git("ls-tree", made.first)).splitlines()
    rest = [line.replace("\t", " ").split(" ") for line in listed]
    ids = [(mode.lstrip("0").encode(), name.encode(), bytes.fromhex(there)) for mode, _, there, name in rest]
    return made.tree(*ids, *entries)


async def _pushed(place: GitPlace, made: Made, new: str, *shallow: str) -> None:
    lines = [packet(f"shallow {one}".encode()) for one in shallow]
    head = packet(f"{ZERO} {new} refs/heads/claude/new\0{_CAPABILITIES}".encode()) + FLUSH
    await place.receive(b"".join(lines) + head + packed(*made.objects))


def _live(made: Made) -> bytes:
    """A directory with what is not to be there."""
    return made.tree((b"40000", b"live", made.tree((b"100644", b"evil", made.blob()))))


def _of_mode(name: str, mode: bytes) -> None:
    async def push(place: GitPlace) -> None:
        made = Made(place.first["refs/heads/main"])
        there = _live(made) if int(mode, 8) & 0o170000 == 0o40000 else made.blob(b"src")
        await _pushed(place, made, made.commit(await _with_the_rest(place, made, (mode, b"ops", there))))

    ATTACKS[f"a path that is protected: below {name}"] = push


for _name, _mode in (
    ("a directory of a mode that git does not write", b"40755"),
    ("a directory of a mode with a digit more", b"1040000"),
    ("a directory of a mode with zeros before", b"0040000"),
    ("a link of a mode that git does not write", b"120777"),
    ("what is a submodule by its mode alone", b"10000"),
    ("a submodule of a mode that git does not write", b"160755"),
):
    _of_mode(_name, _mode)


@attack("a path that is protected: in a tree out of order")
async def _out_of_order(place: GitPlace) -> None:
    made = Made(place.first["refs/heads/main"])
    evil = _live(made)
    listed = (await place.id(f"{place.first['refs/heads/main']}:src"), await place.id("HEAD:README"))
    src, readme = map(bytes.fromhex, listed)
    github = bytes.fromhex(await place.id("HEAD:.github"))
    entries = (b"40000", b"src", src), (b"40000", b"ops", evil), (b"100644", b"README", readme)
    tree = made.tree(*entries, (b"40000", b".github", github))
    await _pushed(place, made, made.commit(tree))


@attack("a path that is protected: of a commit with its ids in capitals")
async def _in_capitals(place: GitPlace) -> None:
    made = Made(place.first["refs/heads/main"])
    evil = _live(made)
    tree = await _with_the_rest(place, made, (b"40000", b"ops", evil))
    new = made.commit(tree, head=lambda text: "\n".join(f"{one[:7]}{one[7:].upper()}" for one in text.split("\n")))
    await _pushed(place, made, new)


@attack("a path that is protected: before what the client does not have")
async def _shallow(place: GitPlace) -> None:
    made = Made(place.first["refs/heads/main"])
    evil = _live(made)
    tree = await _with_the_rest(place, made, (b"40000", b"ops", evil))
    new = made.commit(tree, parent=sha1(b"nobody has this").hexdigest())
    await _pushed(place, made, new, new)


@attack("a path that is protected: a file in its place")
async def _file_instead(place: GitPlace) -> None:
    await place.git("rm", "-rq", ".github")
    await place.commit(".github")
    await place.push()


@attack("a path that is protected: in deltas of what the server has")
async def _thin(place: GitPlace) -> None:
    for number in range(40):
        await place.commit(f"src/{number}", str(number))
    new = await place.commit(".github/workflows/ci.yml")
    process = await asyncio.create_subprocess_exec(
        *("git", "pack-objects", "--revs", "--stdout", "-q", "--thin", "--delta-base-offset", "--window=50"),
        cwd=place.clone, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    pack, _ = await process.communicate(f"{new}\n^{place.first['refs/heads/main']}\n".encode())
    head = packet(f"{ZERO} {new} refs/heads/claude/new\0{_CAPABILITIES} ofs-delta".encode()) + FLUSH
    await place.receive(head + pack)


@attack("a path that is protected: in one of three that are merged")
async def _octopus(place: GitPlace) -> None:
    for name in ("one", "two", "three"):
        await place.git("checkout", "-qb", name, "main")
        await place.commit(".github/workflows/ci.yml" if name == "two" else f"src/{name}")
    await place.git("checkout", "-q", "main")
    await place.git("merge", "-q", "--no-edit", "one", "two", "three")
    await place.push()


@attack("a path that is protected: where two histories cross")
async def _criss_cross(place: GitPlace) -> None:
    await place.git("checkout", "-qb", "one", "main")
    one = await place.commit("src/one")
    await place.git("checkout", "-qb", "two", "main")
    two = await place.commit(".github/workflows/ci.yml")
    await place.git("merge", "-q", "--no-edit", one)
    await place.git("checkout", "-q", "one")
    await place.git("merge", "-q", "--no-edit", two)
    await place.git("merge", "-q", "--no-edit", "two")
    await place.push()


@attack("a path that is protected: renamed by the second parent of a merge")
async def _renamed(place: GitPlace) -> None:
    await place.git("checkout", "-qb", "other", "main")
    await place.git("mv", ".github/workflows/ci.yml", "src/ci.yml")
    await place.committed()
    await place.git("checkout", "-q", "main")
    await place.commit("src/c.py")
    await place.git("merge", "-q", "--no-edit", "other")
    await place.push()


async def _stranger_s(place: GitPlace, ref: str, at: Path | None = None) -> str:
    """A commit that the server has and nobody of the project's has looked at, of which the agent knows the name."""
    other = place.lab.files.parent / "stranger"
    await place.lab.run("clone", "-q", str(place.bare), str(other))
    (other / ".github/workflows/ci.yml").write_text("evil")
    await place.lab.run("commit", "-qam", "x", at=other)
    name = (await place.lab.run("rev-parse", "HEAD", at=other)).strip()
    await place.lab.run("push", "-q", str(at or place.bare), f"HEAD:{ref}", at=other)
    if at is None:
        place.first[ref] = name
    return name


@attack("a path that is protected: of a pull request's that nobody has merged")
async def _pull_request(place: GitPlace) -> None:
    new = await _stranger_s(place, "refs/pull/1/head")
    await place.receive(packet(f"{ZERO} {new} refs/heads/claude/new\0{_CAPABILITIES}".encode()) + FLUSH + packed())


@attack("a path that is protected: behind commits that are built on a pull request's")
async def _built_on_a_pull_request(place: GitPlace) -> None:
    await _stranger_s(place, "refs/pull/1/head")
    await place.git("fetch", "-q", place.url, "refs/pull/1/head")
    await place.git("checkout", "-q", "--detach", "FETCH_HEAD")
    await place.commit("src/b.py")
    await place.push()


@attack("a path that is protected: merged from a pull request")
async def _merged_from_a_pull_request(place: GitPlace) -> None:
    await _stranger_s(place, "refs/pull/1/head")
    await place.commit("src/b.py")
    await place.git("fetch", "-q", place.url, "refs/pull/1/head")
    await place.git("merge", "-q", "--no-edit", "FETCH_HEAD")
    await place.push()


@attack("a path that is protected: of another repository with which the server shares objects")
async def _fork(place: GitPlace) -> None:
    fork = place.lab.files / "team/fork.git"
    await place.lab.run("clone", "-q", "--bare", str(place.bare), str(fork))
    (place.bare / "objects/info/alternates").write_text(f"{fork}/objects\n")
    new = await _stranger_s(place, "refs/heads/x", fork)
    await place.receive(packet(f"{ZERO} {new} refs/heads/claude/new\0{_CAPABILITIES}".encode()) + FLUSH + packed())


def packed(*objects: tuple[int, bytes]) -> bytes:
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


@attack("commands by hand: compressed, under the old name of that")
async def _compressed_otherwise(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    body = await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main")
    await place.receive(gzip.compress(body), **{"content-encoding": "x-gzip"})


@attack("commands by hand: compressed, in chunks of a few bytes")
async def _compressed_in_chunks(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    body = gzip.compress(await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main"))

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    await place.receive(parts(), **{"content-encoding": "gzip"})


@attack("commands by hand: sent when the answer says so")
async def _expecting(place: GitPlace) -> None:
    new = await place.commit("src/a.py")
    body = await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main")
    await place.receive(body, expect="100-continue")


def _at(name: str, *belows: str, **headers: str) -> None:
    async def push(place: GitPlace) -> None:
        new = await place.commit("src/a.py")
        body = await place.raw(f"{place.first['refs/heads/main']} {new} refs/heads/main")
        for below in belows:
            await place.receive(body, below, **headers)

    ATTACKS[f"commands by hand: at a URL {name}"] = push


_at("that is written otherwise", "%67it-receive-pack", "./git-receive-pack", "x/../git-receive-pack")
_at("with a query", "git-receive-pack?x=1")
_at("with a query that names the other service", "git-receive-pack?service=git-upload-pack")
_at("with its ending twice", ".git/../git-receive-pack", "%2e/git-receive-pack", "x/%2e%2e/git-receive-pack")
_at("with another version of the protocol", "git-receive-pack", **{"git-protocol": "version=1"})


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


@attack("another repository: by a redirect of a question's")
async def _redirected_later(place: GitPlace) -> bytes:
    place.lab.answers = web.Response(status=307, headers={"location": "/team/other.git/git-upload-pack"})
    body = b"".join((packet(b"command=ls-refs"), b"0001", packet(b"ref-prefix refs/heads/"), FLUSH))
    kind = {"content-type": "application/x-git-upload-pack-request", "git-protocol": "version=2"}
    return await place.request("POST", "git-upload-pack", body, **kind)


@attack("another repository: by the path, with parameters")
async def _other_parameters(place: GitPlace) -> bytes:
    return await place.request("GET", "../other.git/info/refs?service=git-upload-pack&service=git-receive-pack")


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
                name: value
                for name, value in request.headers.items()
                if name.lower() not in ("host", "content-length", "transfer-encoding")
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
