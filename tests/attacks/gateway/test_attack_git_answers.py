"""A git server that answers with what is no answer: to hold the gateway, to have two requests' answers confused, or to
have the credential sent elsewhere.

Whoever declares a repository may run its server. The gateway has the credential, and is everybody's of its namespace.
Closed by reading heads within bounds (aiohttp's, and `git/upstream.BoundedResponse`), by one connection for each
request, by redirects that are not followed, and by headers of the gateway's own on all that goes back.
"""

import asyncio
import base64
import contextlib
import gzip
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import loopmeter
import pytest
import pytest_asyncio
from aiohttp import web
from gatewaykit import document, running
from git_lab import serve

from claude_sandbox.gateway.config.config import parse
from claude_sandbox.gateway.destinations.addresses import Address
from claude_sandbox.gateway.git.forwarder import GitForwarder
from claude_sandbox.gateway.git.passage import Passage, Server
from claude_sandbox.gateway.git.pkt_line import FLUSH, packet
from claude_sandbox.gateway.git.upstream import GitSession

PASSWORD = "not-for-anybody-else"
AUTHORIZATION = "Basic " + base64.b64encode(f"x-access-token:{PASSWORD}".encode()).decode()
KIND = "application/x-git-upload-pack-advertisement"
GOOD = packet(b"version 2\n") + packet(b"agent=g/1\n") + FLUSH
HEAD = f"HTTP/1.1 200 OK\r\ncontent-type: {KIND}\r\n".encode()
WHOLE = HEAD + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD
MIB = 1 << 20
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Place:
    """A server that answers with the bytes of `answer`, after each request; `came`: what it was sent. `url`: the way by
    the gateway's part for git."""

    url: str = ""
    answer: Answer | None = None
    came: list[bytes] = field(default_factory=list)
    elsewhere: list[bytes] = field(default_factory=list)
    other: str = ""
    passages: list[Passage] = field(default_factory=list)

    async def asked(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of what the client gets."""
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(f"{self.url}/info/refs?service=git-upload-pack") as found,
        ):
            return found.status, {name.lower(): value for name, value in found.headers.items()}, await found.read()


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                made.came.append(await reader.readuntil(b"\r\n\r\n"))
                assert made.answer is not None
                await made.answer(writer)
        writer.transport.abort()

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.elsewhere.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(WHOLE)

    async def resolve(_name: str) -> list[Address]:
        raise OSError

    config = parse('{"version": 1, "listen": {}, "sandboxes": []}')
    session = GitSession(lambda: config, resolve)
    forwarder = GitForwarder(session)

    async def gateway(request: web.Request) -> web.StreamResponse:
        made.passages.append(Passage())
        return await forwarder.handle(request, request.match_info["below"], there, made.passages[-1])

    async with (
        await asyncio.start_server(server, "127.0.0.1", 0) as hostile,
        await asyncio.start_server(other, "127.0.0.1", 0) as second,
        serve(gateway, "/git/{below:.*}") as port,
    ):
        there = Server(f"http://127.0.0.1:{hostile.sockets[0].getsockname()[1]}/team/x", AUTHORIZATION)
        made.url = f"http://127.0.0.1:{port}/git"
        made.other = f"127.0.0.1:{second.sockets[0].getsockname()[1]}"
        yield made
        await session.close()


def says(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answer


def endlessly(first: bytes, part: bytes) -> Answer:
    """Until the other end goes."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(part)
            await writer.drain()

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        endlessly(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 1000),
        endlessly(HEAD, b"".join(b"x-%d: %s\r\n" % (number, b"a" * 1000) for number in range(50))),
        endlessly(HEAD + b"x: ", b"a" * 65536),
        endlessly(b"HTTP/1.1 200 ", b"a" * 65536),
        endlessly(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: a\r\n" * 1000),
        says(HEAD + b"content-length: 4\r\ncontent-length: 8\r\n\r\n0000EVIL"),
        says(HEAD + b"content-length: 4, 8\r\n\r\n0000EVIL"),
        says(HEAD + b"content-length: +4\r\n\r\n0000"),
        says(HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0000\r\n0\r\n\r\n"),
        says(HEAD + b"x: a\0b\r\ncontent-length: 4\r\n\r\n0000"),
        says(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
        says(b"HTTP/1.1 204 No Content\r\ncontent-type: " + KIND.encode() + b"\r\n\r\n"),
        says(WHOLE.replace(KIND.encode(), b"text/html")),
    ],
    ids=[
        "100 without end", "103 without end", "headers without end", "a header without end", "a reason without end",
        "trailers without end", "two lengths", "a list as the length", "a length with a sign", "both lengths",
        "a NUL in a header", "another protocol", "no content", "a page",
    ],
)  # fmt: skip
async def test_what_is_no_answer_of_git_s_ends_at_once_and_nothing_is_held(place: Place, answer: Answer) -> None:
    place.answer = answer
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with loopmeter.measured() as found:
        async with asyncio.timeout(120):
            status, headers, content = await place.asked()
    assert status == 502
    assert content.startswith(b"git's server gives no answer of ")
    assert set(headers) == {"content-type", "content-length", "date", "server", "connection"}
    assert place.passages[-1].verdict == "Failed"
    assert found.milliseconds < 50, found.what
    # In KiB; the heads that were read, and what the kernel had of more.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * MIB // 1024


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"HTTP/1.1 302 Found\r\nlocation: http://OTHER/\r\n", 502),
        (b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://user:PASSWORD@OTHER/\r\n", 502),
        (b"HTTP/1.1 308 Permanent Redirect\r\nlocation: //OTHER/team/x/info/refs\r\n", 502),
        (b"HTTP/1.1 300 Multiple Choices\r\nalternates: {http://OTHER/ 1}\r\n", 502),
        (b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"http://OTHER/\"\r\n", 403),
        (b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"http://OTHER/\",scope=x\r\n", 403),
        (b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Negotiate, NTLM\r\nwww-authenticate: Basic\r\n", 403),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=x\r\n", 502),
        (b"HTTP/1.1 421 Misdirected Request\r\nalt-svc: h2=\"OTHER\"\r\n", 502),
        (b"HTTP/1.1 503 Service Unavailable\r\nrefresh: 0; url=http://OTHER/\r\nretry-after: 0\r\n", 502),
    ],
    ids=lambda one: one[9:].partition(b"=")[0].replace(b"\r\n", b" ").decode() if isinstance(one, bytes) else None,
)  # fmt: skip
async def test_the_credential_goes_nowhere_else_and_nothing_of_the_answer_to_the_client(
    place: Place, lines: bytes, status: int
) -> None:
    lines = lines.replace(b"OTHER", place.other.encode()).replace(b"PASSWORD", PASSWORD.encode())
    place.answer = says(lines + b"content-length: 0\r\n\r\n")
    found, headers, told = await place.asked()
    assert found == status
    assert len(place.came) == 1
    assert place.elsewhere == []
    assert set(headers) == {"content-type", "content-length", "date", "server", "connection"}
    assert place.other.encode() not in told
    assert PASSWORD.encode() not in told


async def test_what_a_server_would_have_kept_is_neither_passed_on_nor_kept(place: Place) -> None:
    extra = b'set-cookie: session=evil; path=/\r\nalt-svc: h2="%s"\r\nlink: <http://x/>\r\nx-evil: evil\r\n'
    place.answer = says(WHOLE.replace(HEAD, HEAD + extra % place.other.encode()))
    for _ in range(2):
        status, headers, content = await place.asked()
        assert (status, content) == (200, GOOD)
        assert set(headers) == {"content-type", "cache-control", "transfer-encoding", "date", "server"}
    assert len(place.came) == 2
    assert b"evil" not in place.came[1]
    assert place.elsewhere == []


async def test_what_comes_behind_an_answer_is_nobody_s(place: Place) -> None:
    place.answer = says(WHOLE + WHOLE.replace(b"g/1", b"h/2"))
    for _ in range(3):
        assert await place.asked() == await place.asked()
    assert b"h/2" not in (await place.asked())[2]
    # Each on a connection of its own.
    assert len(place.came) == 7


async def test_a_bomb_is_not_inflated(place: Place) -> None:
    bomb = gzip.compress(bytes(256 * MIB), 1)
    place.answer = says(HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, _, content = await place.asked()
    # It is no packet of git's, and ends as one.
    assert status == 200
    assert content[4:].startswith(b"ERR the sandbox's gateway: ")
    assert len(content) < 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * MIB // 1024


async def test_a_server_of_plain_http_that_never_comes_to_its_answer(tmp_path: Path) -> None:
    """The same at the proxy, which has no credential there, and may be held as well."""

    async def interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)(writer)
        writer.transport.abort()

    async with await asyncio.start_server(interim, "127.0.0.1", 0) as server:
        at = f"good.example.org:{server.sockets[0].getsockname()[1]}"
        configuration = document(tmp_path, allowedDomains=[at])
        configuration["egress"]["hosts"] = {"good.example.org": ["127.0.0.1"]}
        with running(tmp_path, configuration) as gateway:
            async with (
                asyncio.timeout(120),
                aiohttp.ClientSession() as session,
                session.get(f"http://{at}/", proxy=gateway.proxy_url) as answer,
            ):
                assert answer.status == 502
            (line,) = await gateway.audited(1)
    assert line["host"] == "good.example.org"
