"""A fetch that does more than bring the repository's own objects: by the server's word, or by the client's.

A server may name other places, from which git then fetches by itself: packs (`packfile-uris`, which git takes even
unasked), bundles, other repositories. So whoever has the server has git, in the sandbox or as it clones for one, ask
whatever that can reach. An agent may ask a server for what is no object of a fetch, or have it look up names for it.
Closed by a gateway that reads what is offered, asked and answered, and passes on what it knows (`gateway/git`:
`smart_http`, `fetch_request`, `fetch_answer`).
"""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from git_lab import AUTHORIZATION, GitLab, git_lab, serve

from claude_sandbox.gateway.git.passage import Passage
from claude_sandbox.gateway.git.pkt_line import DELIMITER, FLUSH, packet, side_band
from claude_sandbox.gateway.git.push.rules import PushRules

HIDDEN = b"of-nobody's-branch"
ID = "a" * 40
CLONES = ("core.hooksPath=/dev/null", "protocol.allow=never", "protocol.http.allow=always")
"""As `images/sandbox/clone-repositories` has git, which holds it back as little."""
RESULT = "application/x-git-upload-pack-result"


@dataclass
class Place:
    """`elsewhere`: another server, and what it was asked for."""

    lab: GitLab
    elsewhere: str
    lost: str
    asked: list[str] = field(default_factory=list)

    @property
    def bare(self) -> Path:
        return self.lab.files / "team/project.git"

    async def cloned(self, url: str, to: Path, *config: str) -> str:
        """By git, with the credential where it needs one; what it says."""
        header = f"http.{self.lab.direct}.extraHeader=Authorization: {AUTHORIZATION}"
        settings = [part for one in (header, *config) for part in ("-c", one)]
        return (await self.lab.git(*settings, "clone", "-q", url, str(to))).text

    async def sent(self, url: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """A request by hand, to `git-upload-pack`."""
        kind = {"content-type": "application/x-git-upload-pack-request", "authorization": AUTHORIZATION}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/git-upload-pack", data=body, headers=kind | headers) as answer,
        ):
            return answer.status, await answer.read()


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with git_lab(tmp_path, PushRules(("claude/*",))) as lab:
        asked: list[str] = []

        async def other(request: web.Request) -> web.StreamResponse:
            asked.append(request.path)
            return web.Response(status=404)

        (tmp_path / "lost").write_bytes(HIDDEN)
        bare = lab.files / "team/project.git"
        lost = (await lab.run("hash-object", "-w", str(tmp_path / "lost"), at=bare)).strip()
        async with serve(other, "/{path:.*}") as port:
            yield Place(lab, f"http://127.0.0.1:{port}", lost, asked)


async def _packed(place: Place, *arguments: str, given: str = "") -> bytes:
    process = await asyncio.create_subprocess_exec(
        *("git", "pack-objects", "-q", *arguments), cwd=place.bare,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    return (await process.communicate(given.encode()))[0]


async def _config(place: Place, **settings: str) -> None:
    """Have the server offer more than it does by itself."""
    await place.lab.run("config", "transfer.advertiseSID", "true", at=place.bare)
    for name, value in settings.items():
        await place.lab.run("config", f"uploadpack.{name}", value, at=place.bare)


async def test_a_client_that_takes_packs_from_elsewhere(place: Place, tmp_path: Path) -> None:
    blob = (await place.lab.run("rev-parse", "main:README", at=place.bare)).strip()
    name = (await _packed(place, str(tmp_path / "pack"), given=f"{blob}\n")).decode().strip()
    await _config(place, allowSidebandAll="true", blobPackfileUri=f"{blob} {name} {place.elsewhere}/x.pack")
    takes = "fetch.uriProtocols=http,https"
    await place.cloned(place.lab.direct, tmp_path / "direct", takes)
    assert place.asked == ["/x.pack"], "it is no attack"
    place.asked.clear()
    assert await place.cloned(place.lab.url, tmp_path / "gateway", takes) == ""
    assert place.asked == []
    assert (tmp_path / "gateway/README").read_text() == "README\n"


@pytest.mark.parametrize("config", [(), CLONES], ids=["git", "as it is run to clone for a sandbox"])
async def test_packs_elsewhere_that_nobody_asked_for(place: Place, tmp_path: Path, config: tuple[str, ...]) -> None:
    pack = await _packed(place, "--all", "--stdout")
    named = packet(f"{ID} {place.elsewhere}/x.pack\n".encode())
    answer = packet(b"packfile-uris\n") + named + DELIMITER + packet(b"packfile\n") + b"".join(side_band(1, pack))
    posts = 0

    async def before(request: web.Request) -> None:
        nonlocal posts
        posts += request.method == "POST"
        # The first asks for the refs.
        if request.method == "POST" and posts % 2 == 0:
            place.lab.answers = web.Response(body=answer + FLUSH, content_type=RESULT)

    place.lab.before = before
    await place.cloned(place.lab.direct, tmp_path / "direct", *config)
    assert place.asked == ["/x.pack"], "it is no attack"
    place.asked.clear()
    said = await place.cloned(place.lab.url, tmp_path / "gateway", *config)
    assert "has a part that is not passed on: 'packfile-uris'" in said
    assert place.asked == []
    assert place.elsewhere.encode() not in said.encode()
    assert place.lab.passages[-1].verdict == "Failed"


_V2 = (b"version 2\n", b"agent=g/1\n", b"ls-refs=unborn\n", b"fetch=shallow\n")
_FIRST = f"{ID} HEAD\0ofs-delta agent=g/1".encode()


@pytest.mark.parametrize(
    ("service", "offered"),
    [
        ("git-upload-pack", b"bundle-uri"),
        ("git-upload-pack", b"promisor-remote=name=x,url=http://elsewhere/"),
        ("git-upload-pack", b"object-info"),
        ("git-upload-pack", b"server-option"),
        ("git-upload-pack", b"session-id=of-somebody"),
        ("git-upload-pack", b"fetch=packfile-uris"),
        ("git-upload-pack", b"fetch=sideband-all"),
        ("git-upload-pack", b"ls-refs=something-new"),
        ("git-upload-pack", b"something-new"),
        ("git-upload-pack", b" session-id=of-somebody"),
        ("git-upload-pack", b" something-new=x"),
        ("git-receive-pack", b" push-options"),
        ("git-receive-pack", b" push-cert=nonce"),
        ("git-receive-pack", b" session-id=of-somebody"),
        ("git-receive-pack", b" something-new"),
    ],
    ids=lambda one: one if isinstance(one, str) else one.decode().strip().partition(":")[0],
)
async def test_what_a_server_offers_beyond_that_no_client_hears_of(place: Place, service: str, offered: bytes) -> None:
    if offered.startswith(b" "):
        head = packet(f"# service={service}\n".encode()) + FLUSH
        body = head + packet(_FIRST + offered + b"\n") + packet(f"{ID} refs/heads/main\n".encode()) + FLUSH
    else:
        body = b"".join(map(packet, (*_V2, offered + b"\n"))) + FLUSH
    word = offered.strip().rpartition(b"=")[2] if offered.startswith((b"fetch", b"ls-")) else offered.strip()
    for url, heard in ((place.lab.direct, True), (place.lab.url, False)):
        place.lab.answers = web.Response(body=body, content_type=f"application/x-{service}-advertisement")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{url}/info/refs?service={service}", headers={"git-protocol": "version=2"}) as answer,
        ):
            told = await answer.read()
        assert (word in told) is heard
        assert b"agent=g/1" in told


def _request(command: str, *arguments: str, head: tuple[str, ...] = ()) -> bytes:
    asked = (f"command={command}", *head)
    return b"".join(packet(f"{one}\n".encode()) for one in asked) + DELIMITER + b"".join(
        packet(f"{one}\n".encode()) for one in arguments
    ) + FLUSH  # fmt: skip


_LIST = _request("ls-refs")
V2 = {"git-protocol": "version=2"}
# What is asked, and with which headers: all of these git's own server answers, by itself.
BY_HAND: dict[str, tuple[str | bytes, dict[str, str]]] = {
    "the size of an object of no branch": ("object-info", V2),
    "a pattern that the server looks up by a name": ("sparse", V2),
    "an option for the server": (_request("ls-refs", head=("server-option=trace",)), V2),
    "what the server is to log": (_request("ls-refs", head=("session-id=x",)), V2),
    "packs that are to be had elsewhere": ("uris", V2),
    "the answer in another form": ("sideband-all", V2),
    "a second request behind the first": (_LIST + _LIST, V2),
    "a second request behind the first, compressed": (gzip.compress(_LIST + _LIST), V2 | {"content-encoding": "gzip"}),
    "a second request, compressed by itself": (
        gzip.compress(_LIST) + gzip.compress(_LIST), V2 | {"content-encoding": "gzip"},
    ),
    "a request of the new form with the old name of compression": (
        gzip.compress(_request("ls-refs", head=("server-option=x",))), V2 | {"content-encoding": "x-gzip"},
    ),
    "a word of the old form that names who asks": ("session", {}),
}  # fmt: skip


async def _body(place: Place, what: str | bytes) -> bytes:
    first = (await place.lab.run("rev-parse", "main", at=place.bare)).strip()
    if isinstance(what, bytes):
        return what
    if what == "session":
        return packet(f"want {first} session-id=x agent=y\n".encode()) + FLUSH + packet(b"done\n")
    if what == "object-info":
        return _request("object-info", "size", f"oid {place.lost}")
    arguments = {
        "sparse": f"filter sparse:oid={place.lost}",
        "uris": "packfile-uris http,https",
        "sideband-all": "sideband-all",
    }[what]
    return _request("fetch", arguments, f"want {first}", "done")


@pytest.mark.parametrize("name", BY_HAND)
async def test_what_a_client_asks_beyond_a_fetch_is_refused(place: Place, name: str) -> None:
    await _config(place, allowSidebandAll="true", blobPackfileUri=f"{ID} {ID} http://127.0.0.1:9/")
    what, headers = BY_HAND[name]
    body = await _body(place, what)
    status, answer = await place.sent(place.lab.direct, body, **headers)
    assert (status, b"ERR " in answer) == (200, False), "it is no attack"
    assert len(answer) > 4
    status, answer = await place.sent(place.lab.url, body, **headers)
    assert (status, answer[:16]) == (400, b"this is refused:")
    assert _refused(place.lab.passages[-1])


def _refused(passage: Passage) -> bool:
    return passage.verdict == "Refused" and (passage.rule or "").startswith("malformed: ")


@pytest.mark.parametrize(
    "body",
    [_request("bundle-uri"), _request("something-new"), _request("fetch", "something-new"), b"0009command=", b"x" * 99],
    ids=["bundle-uri", "another command", "another argument", "cut off", "no packets"],
)
async def test_what_only_other_servers_know_is_refused_as_well(place: Place, body: bytes) -> None:
    """So nobody has to know what the server is."""
    status, answer = await place.sent(place.lab.url, body, **V2)
    assert (status, answer[:16]) == (400, b"this is refused:")
    assert _refused(place.lab.passages[-1])


@pytest.mark.parametrize("service", ["git-upload-pack", "git-receive-pack"])
@pytest.mark.parametrize("body", [b"0032 x", b"<html>", packet(b"no service\n") + FLUSH, b"0004"])
async def test_an_offer_that_is_none_ends_in_words_that_git_shows(place: Place, service: str, body: bytes) -> None:
    """It is told within the answer that has begun: a second answer behind it would be taken for a part of it."""
    place.lab.answers = web.Response(body=body, content_type=f"application/x-{service}-advertisement")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{place.lab.url}/info/refs?service={service}") as answer,
    ):
        told = await answer.read()
    assert b"HTTP/1" not in told
    assert told == b"" if body == b"0032 x" else b"ERR the sandbox's gateway: " in told
