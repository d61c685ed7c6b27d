"""One request to a service, and its answer: TLS to the host that was judged, the credential in, bodies as they come.

Theory of operation. Nothing is kept between requests but the trust that servers are believed by, and of each sandbox
and service how many requests it had in this minute. A connection is one request; what is under way ends with either
side. The server's name is looked up and its addresses are judged by `dial`, as those of any destination.
"""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager

from claude_sandbox.gateway.config.config import Config, Sandbox
from claude_sandbox.gateway.config.follow import Live
from claude_sandbox.gateway.destinations.domains import HTTP_PORT
from claude_sandbox.gateway.http.answer import Answer, AnswerError, AnswerReader
from claude_sandbox.gateway.http.chunked import chunk
from claude_sandbox.gateway.http.forward import send_body
from claude_sandbox.gateway.http.head import BadRequestError, Request
from claude_sandbox.gateway.proxy.dial import DialError, Dialled, Resolve, dial
from claude_sandbox.gateway.proxy.passage import Passage
from claude_sandbox.gateway.proxy.refused import RefusedError
from claude_sandbox.gateway.proxy.tunnel import CHUNK, Side, drop, splice
from claude_sandbox.gateway.services import headers, paths
from claude_sandbox.gateway.services.declared import Opened, Services, asked
from claude_sandbox.gateway.services.links import Links, is_list
from claude_sandbox.gateway.services.paths import PathError
from claude_sandbox.gateway.shares import Rate
from claude_sandbox.gateway.trust import Trust, trust_of

LONGEST_BODY = 512 << 20
"""Bytes of a request's body."""
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# RFC 6455, 1.3.


class Forwarder:
    """For all sandboxes; on one event loop."""

    def __init__(self, live: Callable[[], Live], resolve: Resolve) -> None:
        self._live = live
        self._resolve = resolve
        self._rates: dict[tuple[str, str], Rate] = {}
        self._trust: dict[Trust, ssl.SSLContext] = {}

    def keep(self, sandboxes: Container[str]) -> None:
        """Forget all others."""
        self._rates = {key: rate for key, rate in self._rates.items() if key[0] in sandboxes}

    async def handle(self, opened: Opened, request: Request, early: bytes, client: Side, passage: Passage) -> None:
        """Pass one request on, if it may be asked for. Raises RefusedError, DialError, BadRequestError, and OSError
        where a side fails."""
        config = self._live().config
        judge(request, opened, config)
        assert passage.sandbox is not None  # noqa: S101
        # After the judgement: what is refused uses up nothing of the service's.
        self._count(passage.sandbox.uid, opened)
        passage.verdict, passage.rule = "Allowed", "allowed"
        async with self._server(opened, config) as server:
            passage.dialled = server.address
            passing = _Passing(request, opened, client, Side(server.reader, server.writer), passage)
            try:
                async with asyncio.timeout(config.limits.total):
                    if _is_websocket(request):
                        await passing.websocket(early, config)
                    else:
                        # Another protocol is merely offered (cargo offers HTTP/2), and need not be taken up.
                        await passing.exchange(early, config)
            except AnswerError as error:
                raise BadRequestError(f"the service's answer is malformed: {error}", 502) from None
            except TimeoutError:
                raise BadRequestError("the service does not answer in time", 504) from None

    def _count(self, sandbox: str, opened: Opened) -> None:
        """Raises RefusedError."""
        service = opened.service
        rate = self._rates.get((sandbox, service.name))
        if rate is None or rate.per_minute != service.per_minute:
            rate = self._rates[sandbox, service.name] = Rate(service.per_minute)
        wait = rate.take(asyncio.get_running_loop().time())
        if wait:
            raise RefusedError(429, f"more than {service.per_minute} requests in this minute", "rate", wait)

    @asynccontextmanager
    async def _server(self, opened: Opened, config: Config) -> AsyncIterator[Dialled]:
        service = opened.service
        context = self._context(trust_of(config))
        server = await dial(service.host, service.port, config.egress, self._resolve, config.limits.connect)
        try:
            async with asyncio.timeout(config.limits.connect):
                await server.writer.start_tls(context, server_hostname=service.host)
        except ssl.SSLError:
            server.writer.transport.abort()
            raise DialError("its certificate is not trusted") from None
        except (OSError, TimeoutError):
            server.writer.transport.abort()
            raise DialError("it does not speak TLS") from None
        except BaseException:
            server.writer.transport.abort()
            raise
        try:
            yield server
        except asyncio.CancelledError:
            drop(server.writer)
            raise
        finally:
            server.writer.transport.abort()

    def _context(self, trust: Trust) -> ssl.SSLContext:
        """The system's certificates, and a company's bundles beside them. Raises DialError."""
        found = self._trust.get(trust)
        if found is None:
            try:
                found = trust.context()
            except OSError:
                raise DialError("the bundle of trusted certificates can't be read") from None
            # One: it is another only where an administrator has changed it.
            self._trust = {trust: found}
        return found


def service_of(request: Request, sandbox: Sandbox, live: Live, passage: Passage, *, otherwise: bool) -> Opened | None:
    """The service of the sandbox that a request is for; None for one to another place. `otherwise`: the name may be
    reached as any other is. Raises RefusedError, and notes in the passage which service was meant."""
    name = asked(request.host)
    if name is None:
        return None
    declared = next((one for one in sandbox.services if one.name == name), None)
    if declared is None and (otherwise or request.method == "CONNECT"):
        # There are names below `services.` in the world, too.
        return None
    passage.service = name
    if declared is None:
        raise RefusedError(404, "this is none of the sandbox's services: add it to spec.services", "service")
    if request.method == "CONNECT" or request.port != HTTP_PORT:
        raise RefusedError(405, f"ask for the service as {declared.url}/…, by plain HTTP through the proxy", "tunnel")
    passage.opened = live.services.get(sandbox.uid, Services()).opened.get(name)
    if passage.opened is None:
        raise RefusedError(
            503, f"the credential of the service {name} is not there: see the Secret that spec.services names",
            "credential",
        )  # fmt: skip
    return passage.opened


def _is_websocket(request: Request) -> bool:
    return request.method == "GET" and (request.upgrade or "").lower() == "websocket"


def judge(request: Request, opened: Opened, config: Config) -> None:
    """Whether this may be asked of the service. Raises RefusedError."""
    service = opened.service
    if any(one.covers(service.host) and one.port in (None, service.port) for one in config.egress.denied):
        raise RefusedError(403, f"{service.host} is denied by the administrator of this gateway", "denied")
    if request.method not in service.methods:
        allowed = ", ".join(sorted(service.methods))
        raise RefusedError(405, f"the service {service.name} takes {allowed}: see spec.services", "method")
    path, _, query = request.path.partition("?")
    try:
        if not paths.allowed(path, service.paths, scoped=service.registry == "NPM"):
            raise RefusedError(403, f"this path is not among those of the service {service.name}: see spec.services",
                               "path")  # fmt: skip
        paths.check_query(query)
    except PathError as error:
        raise RefusedError(403, str(error), f"malformed: {error}") from None
    if request.length is not None and request.length > LONGEST_BODY:
        raise RefusedError(413, f"the body is longer than {LONGEST_BODY} bytes", "size")


class _Passing:
    """One request on its way."""

    def __init__(self, request: Request, opened: Opened, client: Side, server: Side, passage: Passage) -> None:
        self._request, self._opened = request, opened
        self._client, self._server = client, server
        self._moved, self._told = passage.moved, passage
        self._path = request.path.partition("?")[0]

    async def exchange(self, early: bytes, config: Config) -> None:
        """Request and answer. Raises AnswerError."""
        request, service = self._request, self._opened.service
        head = headers.onward(request, self._opened, websocket=False, identity=service.registry is not None)
        self._server.writer.write(head)
        self._moved.up += len(head)
        if request.expects:
            self._client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        sending = asyncio.create_task(send_body(request, early, self._client, self._server, self._moved, LONGEST_BODY))
        answering = asyncio.create_task(self._answer(config.limits.stream_idle))
        try:
            # A service may answer before it has read everything; what it says counts.
            await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not answering.done():
                sending.result()
            await answering
        finally:
            for task in (sending, answering):
                task.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)

    async def _answer(self, idle: float) -> None:
        reader, parts = AnswerReader(self._request.method), list[bytes]()
        links: Links | None = None
        chunked = False
        while not reader.done or parts:
            if not parts:
                async with asyncio.timeout(idle):
                    data = await self._server.reader.read(CHUNK)
                if not data:
                    reader.end()
                parts = reader.feed(data) if data else []
            if reader.answer is not None and self._told.status is None:
                links, chunked = self._begin(reader.answer, empty=reader.done and not parts)
            for part in parts:
                self._write(links.feed(part) if links is not None else part, chunked=chunked)
            parts = []
            async with asyncio.timeout(idle):
                await self._client.writer.drain()
        if links is not None:
            self._write(links.end(), chunked=chunked)
        if chunked:
            self._client.writer.write(chunk(b""))
        self._told.ended = "ended"
        self._client.writer.close()
        async with asyncio.timeout(idle):
            await self._client.writer.wait_closed()

    def _begin(self, answer: Answer, *, empty: bool) -> tuple[Links | None, bool]:
        """Write the head; what the body goes through, and whether it goes in chunks."""
        service = self._opened.service
        by_name = {name.lower(): value for name, value in answer.headers}
        # What is compressed has no links that could be found.
        plain = by_name.get("content-encoding", "identity") == "identity"
        whole = not empty and answer.status == 200
        links = Links(service) if whole and plain and is_list(service, self._path, answer.content_type) else None
        length = by_name.get("content-length") if links is None else None
        self._write_head(answer, rewritten=links is not None, framing=_framing(answer, self._request, length, empty))
        return links, not empty and length is None

    def _write_head(self, answer: Answer, *, rewritten: bool, framing: list[tuple[str, str]]) -> None:
        try:
            kept = headers.back(answer.headers, self._opened.service, self._path, rewritten=rewritten)
        except ValueError:
            raise BadRequestError("the service sends to what is no place", 502) from None
        lines = [
            f"HTTP/1.1 {answer.status} {answer.reason}",
            *(f"{name}: {value}" for name, value in (*kept, *framing)),
        ]
        self._client.writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        self._told.status = answer.status

    def _write(self, part: bytes, *, chunked: bool) -> None:
        if part:
            self._moved.down += len(part)
            self._client.writer.write(chunk(part) if chunked else part)

    async def websocket(self, early: bytes, config: Config) -> None:
        """The handshake, and then bytes both ways. Raises AnswerError."""
        limits, request = config.limits, self._request
        if request.length:
            raise RefusedError(400, "a WebSocket's handshake has no body", "malformed: upgrade")
        self._server.writer.write(headers.onward(request, self._opened, websocket=True, identity=False))
        async with asyncio.timeout(limits.stream_idle):
            try:
                head = await self._server.reader.readuntil(b"\r\n\r\n")
            except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
                raise AnswerError("its head is cut off, or too long") from None
        # Read as that of any answer; 101 itself has no body.
        if not head.startswith(b"HTTP/1.1 101"):
            raise BadRequestError("the service does not change to WebSocket", 502)
        reader = AnswerReader("HEAD")
        reader.feed(b"HTTP/1.1 200" + head[len("HTTP/1.1 101") :])
        assert reader.answer is not None  # noqa: S101
        by_name = {name.lower(): value for name, value in reader.answer.headers}
        key = dict(request.headers).get("sec-websocket-key", "")
        # From here on bytes pass unread: only who answers this very handshake is let through to.
        if by_name.get("upgrade", "").lower() != "websocket" or by_name.get("sec-websocket-accept") != accept_of(key):
            raise AnswerError("it accepts another protocol")
        answer = Answer(101, "Switching Protocols", reader.answer.headers, "")
        self._write_head(answer, rewritten=False, framing=[("connection", "Upgrade"), ("upgrade", "websocket")])
        if early:
            self._server.writer.write(early)
            self._moved.up += len(early)
        self._told.ended = await splice(self._client, self._server, self._moved, limits.idle, limits.total)


def accept_of(key: str) -> str:
    """What a server answers to a WebSocket's key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _WEBSOCKET, usedforsecurity=False).digest()).decode()


def _framing(answer: Answer, request: Request, length: str | None, empty: bool) -> list[tuple[str, str]]:
    """How the client knows where the answer ends."""
    if length is not None and answer.status not in (204, 304):
        return [("content-length", length), ("connection", "close")]
    if empty:
        bare = request.method == "HEAD" or answer.status in (204, 304)
        return [*(() if bare else (("content-length", "0"),)), ("connection", "close")]
    return [("transfer-encoding", "chunked"), ("connection", "close")]
