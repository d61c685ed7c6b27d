"""Connections to the provider: which are used again and which never, and how a proxy on the way is asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gatewaykit import Authority, authority

from claude_sandbox.gateway.broker import upstream
from claude_sandbox.gateway.broker.upstream import Message, MisconfiguredError, UnreachableError, Upstreams
from claude_sandbox.gateway.config.config import Provider
from claude_sandbox.gateway.http.answer import AnswerError
from claude_sandbox.gateway.proxy.tunnel import Side

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ASK = Message("GET", "/v1/models", [("x-a", "b")])
SECONDS = 5.0


@dataclass
class Server:
    """What speaks by a script. `opened`: connections; `heads`: of the requests that it got."""

    url: str = ""
    opened: int = 0
    heads: list[bytes] = field(default_factory=list)

    async def head(self, side: Side) -> bytes:
        self.heads.append(await side.reader.readuntil(b"\r\n\r\n"))
        return self.heads[-1]


Script = Callable[[Server, Side], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(script: Script, trust: Authority | None = None) -> AsyncIterator[Server]:
    found = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.opened += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await script(found, Side(reader, writer))
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=trust.server() if trust else None)
    found.url = f"{'https' if trust else 'http'}://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    async with running:
        yield found


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    found = Upstreams()
    yield found
    await found.close()


async def ask(upstreams: Upstreams, provider: Provider, message: Message = ASK) -> bytes:
    async with asyncio.timeout(SECONDS), upstreams.exchange(provider, message, SECONDS) as connection:
        assert (await connection.head()).status == 200
        found = b""
        while part := await connection.part():
            found += part
        return found


def answering(*answers: bytes) -> Script:
    """Gives one answer after the other on each connection, however much was asked."""

    async def script(found: Server, side: Side) -> None:
        for answer in answers:
            await found.head(side)
            side.writer.write(answer)
        await side.reader.read()

    return script


async def test_a_connection_is_used_again(upstreams: Upstreams) -> None:
    async with server(answering(OK, OK, OK)) as found:
        assert [await ask(upstreams, Provider(f"{found.url}/base")) for _ in range(3)] == [b"ok"] * 3
    assert found.opened == 1
    host = found.url.removeprefix("http://").encode()
    assert found.heads[0] == b"GET /base/v1/models HTTP/1.1\r\nhost: %b\r\nx-a: b\r\n\r\n" % host


UNTRUSTED = {
    "it says that it closes": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
    "there is more than was asked for": OK + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother",
    "there is one byte more": OK + b"x",
    "it is of an old version": OK.replace(b"1.1", b"1.0"),
    "it ends with the connection": b"HTTP/1.1 200 OK\r\n\r\nok",
}


@pytest.mark.parametrize("answer", UNTRUSTED.values(), ids=UNTRUSTED)
async def test_what_could_answer_another_request_is_never_used_again(upstreams: Upstreams, answer: bytes) -> None:
    async def script(found: Server, side: Side) -> None:
        await found.head(side)
        side.writer.write(answer)
        if b"content-length" in answer:
            await side.reader.read()

    async with server(script) as found:
        assert [await ask(upstreams, Provider(found.url)) for _ in range(2)] == [b"ok"] * 2
    assert found.opened == 2


async def test_what_comes_unasked_between_two_requests_ends_the_connection(upstreams: Upstreams) -> None:
    late = asyncio.Event()

    async def script(found: Server, side: Side) -> None:
        await found.head(side)
        side.writer.write(OK)
        if found.opened == 1:
            await late.wait()
            side.writer.write(OK.replace(b"ok", b"no"))
            assert await side.reader.read() == b""
            late.clear()

    async with server(script) as found:
        assert await ask(upstreams, Provider(found.url)) == b"ok"
        late.set()
        async with asyncio.timeout(SECONDS):
            while late.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await ask(upstreams, Provider(found.url)) == b"ok"
    assert found.opened == 2


async def test_who_does_not_take_the_whole_answer_ends_it_at_the_provider(upstreams: Upstreams) -> None:
    ended = asyncio.Event()

    async def script(found: Server, side: Side) -> None:
        await found.head(side)
        side.writer.write(OK.replace(b"ok", b"o"))
        assert await side.reader.read() == b""
        ended.set()

    async with server(script) as found:
        async with upstreams.exchange(Provider(found.url), ASK, SECONDS) as connection:
            assert await connection.part() == b"o"
        await asyncio.wait_for(ended.wait(), SECONDS)


async def test_one_that_the_server_closed_meanwhile_is_not_used(upstreams: Upstreams) -> None:
    async def script(found: Server, side: Side) -> None:
        await found.head(side)
        side.writer.write(OK)

    async with server(script) as found:
        for _ in range(2):
            assert await ask(upstreams, Provider(found.url)) == b"ok"
            await asyncio.sleep(0.05)
    assert found.opened == 2


async def test_of_a_provider_that_another_took_the_place_of_nothing_is_kept(upstreams: Upstreams) -> None:
    ended = asyncio.Event()

    async def answers(found: Server, side: Side) -> None:
        await found.head(side)
        side.writer.write(OK)
        await side.reader.read()
        ended.set()

    async with server(answers) as before, server(answers) as after:
        for one in (before, after):
            async with upstreams.exchange(Provider(one.url), ASK, SECONDS) as connection:
                await connection.head()
                assert await connection.part() == b"ok"
        await asyncio.wait_for(ended.wait(), SECONDS)
        assert list(upstreams._pools) == [Provider(after.url)]


async def test_one_that_nobody_uses_is_closed(upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_KEEP", 0.1)
    closed = asyncio.Event()

    async def script(found: Server, side: Side) -> None:
        await answering(OK)(found, side)
        closed.set()

    async with server(script) as found:
        assert await ask(upstreams, Provider(found.url)) == b"ok"
        await asyncio.wait_for(closed.wait(), SECONDS)
        assert await ask(upstreams, Provider(found.url)) == b"ok"
    assert found.opened == 2


@pytest.mark.parametrize("length", [None, 30])
async def test_a_body_goes_as_it_comes_and_an_early_answer_counts(upstreams: Upstreams, length: int | None) -> None:
    async def script(found: Server, side: Side) -> None:
        head = await found.head(side)
        assert (b"content-length: 30\r\n" in head) == (length is not None)
        first = await side.reader.readexactly(10 if length else 15)
        assert first == (b"a" * 10 if length else b"a\r\n" + b"a" * 10 + b"\r\n")
        side.writer.write(OK)
        await side.reader.read()

    async def parts() -> AsyncIterator[bytes]:
        yield b"a" * 10
        await asyncio.sleep(60)

    async with server(script) as found:
        for _ in range(2):
            message = Message("POST", "/v1/messages", [], parts(), length)
            assert await ask(upstreams, Provider(found.url), message) == b"ok"
    # Of the first the server waits for the rest.
    assert found.opened == 2


async def test_a_body_that_fails_fails_the_request(upstreams: Upstreams) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        raise ValueError

    async with server(answering()) as found:
        with pytest.raises(AnswerError):
            await ask(upstreams, Provider(found.url), Message("POST", "/v1/messages", [], parts(), 10))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"nonsense\r\n\r\n", OK[:-1]])
async def test_an_answer_that_is_none_or_cut_off_is_told(upstreams: Upstreams, answer: bytes) -> None:
    async def script(found: Server, side: Side) -> None:
        await found.head(side)
        side.writer.write(answer)

    async with server(script) as found:
        with pytest.raises(AnswerError):
            await ask(upstreams, Provider(found.url))


async def test_tls_is_checked(upstreams: Upstreams, tmp_path: Path) -> None:
    trust = authority(tmp_path, "127.0.0.1")
    (tmp_path / "other").mkdir()
    other = authority(tmp_path / "other", "www.example.org")
    async with server(answering(OK), trust) as right, server(answering(OK), other) as wrong:
        assert await ask(upstreams, Provider(right.url, trust.bundle)) == b"ok"
        for provider in (Provider(right.url), Provider(right.url, other.bundle), Provider(wrong.url, other.bundle)):
            with pytest.raises(UnreachableError):
                await ask(upstreams, provider)
        with pytest.raises(MisconfiguredError):
            await ask(upstreams, Provider(right.url, tmp_path / "nothing"))


async def test_a_proxy_is_asked_for_the_whole_address_or_for_a_tunnel(upstreams: Upstreams, tmp_path: Path) -> None:
    trust = authority(tmp_path, "llm.example.org")
    async with server(answering(OK, OK), trust) as secure:

        async def proxy(found: Server, side: Side) -> None:
            head = await found.head(side)
            if not head.startswith(b"CONNECT"):
                side.writer.write(OK)
                await side.reader.read()
                return
            there = await asyncio.open_connection("127.0.0.1", int(secure.url.rpartition(":")[2]))
            # As old proxies say it.
            side.writer.write(b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n")
            await asyncio.gather(_copy(side.reader, there[1]), _copy(there[0], side.writer))

        async with server(proxy) as found:
            assert await ask(upstreams, Provider("http://llm.example.org:81/a", None, found.url)) == b"ok"
            tunnel = Provider("https://llm.example.org/a", trust.bundle, found.url)
            assert [await ask(upstreams, tunnel) for _ in range(2)] == [b"ok"] * 2
        assert [head.partition(b" HTTP")[0] for head in found.heads] == [
            b"GET http://llm.example.org:81/a/v1/models", b"CONNECT llm.example.org:443",
        ]  # fmt: skip
        assert [head.partition(b"\r\nx-a")[0] for head in secure.heads] == [
            b"GET /a/v1/models HTTP/1.1\r\nhost: llm.example.org"
        ] * 2


async def test_a_proxy_that_refuses_or_is_none(upstreams: Upstreams) -> None:
    for answer in (b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"220 smtp\r\n\r\n"):

        async def proxy(found: Server, side: Side, answer: bytes = answer) -> None:
            await found.head(side)
            side.writer.write(answer)

        async with server(proxy) as found:
            with pytest.raises(UnreachableError):
                await ask(upstreams, Provider("https://llm.example.org", None, found.url))


async def test_who_does_not_answer_the_phone_is_not_waited_for(upstreams: Upstreams) -> None:
    async def silent(found: Server, side: Side) -> None:
        await found.head(side)
        await asyncio.sleep(60)

    async with server(silent) as found:
        with pytest.raises(UnreachableError):
            async with upstreams.exchange(Provider("https://llm.example.org", None, found.url), ASK, 0.2):
                pass
    with pytest.raises(UnreachableError):
        await ask(upstreams, Provider("http://127.0.0.1:9"))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
    target.close()
