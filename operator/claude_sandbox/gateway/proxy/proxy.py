"""The egress proxy: CONNECT and plain HTTP, for each sandbox to the names that it may reach.

Theory of operation. Holds the connections that are open, each with the sandbox and the destination that it was let
through for. When the list changes, what it no longer allows is dropped, with what was not sent of it yet. A connection
is one tunnel or one request, never a second one: what was judged is all that passes. A place among those of its address
is given back when it is known whose a connection is, and one among the sandbox's taken then, so that nobody takes
others' places before it has said who it is. Used from one event loop; of what a crash ends there is no line.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from claude_sandbox.gateway.audit import Audit
from claude_sandbox.gateway.config.config import Config, Sandbox
from claude_sandbox.gateway.config.follow import Live
from claude_sandbox.gateway.destinations.domains import Verdict, Way, decide, entry_of
from claude_sandbox.gateway.http.forward import exchange
from claude_sandbox.gateway.http.head import BadRequestError, Request, head_end, parse_request
from claude_sandbox.gateway.identity import IdentityError, presented_to_proxy
from claude_sandbox.gateway.proxy.client_hello import Hello, HelloReader, Outcome, SecondHello
from claude_sandbox.gateway.proxy.dial import DialError, Dialled, Resolve, dial
from claude_sandbox.gateway.proxy.passage import Passage, line
from claude_sandbox.gateway.proxy.refused import RefusedError
from claude_sandbox.gateway.proxy.tunnel import CHUNK, Side, WatchedError, drop, splice
from claude_sandbox.gateway.services.declared import Services
from claude_sandbox.gateway.services.forwarder import Forwarder, service_of
from claude_sandbox.gateway.shares import Slots

_HEAD_SECONDS = 10.0
"""Seconds for the whole head of a request, however slowly it comes."""
_KNOWN_EVERY, _KNOWN_AFTER = 0.25, 20
"""Seconds between two looks at whose an address is, and how many there are."""
_CERTAIN_AFTER = 4
"""The same, of one that a status has already: what a status is made of is known here at about the same time."""


class Proxy:
    """Serves clients. `live` gives what holds at this moment."""

    def __init__(self, live: Callable[[], Live], audit: Audit, resolve: Resolve) -> None:
        self._live = live
        self._audit = audit
        self._resolve = resolve
        self._open: set[Passage] = set()
        # By address while it is not yet said whose they are, then by sandbox: with the same limits.
        self._early = Slots(1, 1)
        self._slots = Slots(1, 1)
        self._services = Forwarder(live, resolve)
        self.changed()

    @property
    def open(self) -> int:
        """Connections at this moment."""
        return len(self._open)

    def changed(self) -> None:
        """Close what is no longer allowed, and take the limits as they are now."""
        live = self._live()
        limits = live.config.limits
        for slots in (self._early, self._slots):
            slots.limit(limits.connections, limits.connections_each, len(live.sandboxes))
        self._services.keep(live.sandboxes)
        for one in list(self._open):
            if one.task is not None and not _still_allowed(one, live):
                one.closing = "no longer allowed"
                one.task.cancel()

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has connected."""
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        if not self._early.take(peer):
            writer.transport.abort()
            return
        passage = Passage(peer=peer)
        passage.task = asyncio.create_task(self._serve(Side(reader, writer), passage))
        self._open.add(passage)
        passage.task.add_done_callback(lambda _: self._open.discard(passage))

    async def close(self) -> None:
        """End everything."""
        for one in list(self._open):
            if one.task is not None:
                one.closing = "the gateway ends"
                one.task.cancel()
        await asyncio.gather(*(one.task for one in list(self._open) if one.task), return_exceptions=True)

    async def _serve(self, client: Side, passage: Passage) -> None:
        started = asyncio.get_running_loop().time()
        try:
            await self._pass(client, passage)
        except (RefusedError, BadRequestError, DialError) as error:
            await _refuse(client, passage, error)
        except (OSError, asyncio.IncompleteReadError):
            passage.ended = "broken"
        except asyncio.CancelledError:
            passage.ended = passage.closing or "the gateway ends"
        finally:
            # All that has to be given back, before anything is waited for: who is cancelled may be cancelled again.
            client.writer.transport.abort()
            if passage.sandbox is not None:
                self._slots.give(passage.sandbox.uid)
            seconds = asyncio.get_running_loop().time() - started
            await self._audit.record(passage.kind, line(passage, seconds))

    async def _pass(self, client: Side, passage: Passage) -> None:
        request, early, sandbox = await self._known(client, passage)
        live = self._live()
        way = Way.TUNNEL if request.method == "CONNECT" else Way.HTTP
        passage.request, passage.way = request, way
        verdict = _verdict(sandbox, live.config, request, way)
        opened = service_of(request, sandbox, live, passage, otherwise=verdict.allowed)
        if opened is not None:
            if not passage.certain:
                await self._certainly(sandbox, passage)
            await self._services.handle(opened, request, early, client, passage)
            return
        passage.rule = verdict.rule
        if not verdict.allowed:
            raise RefusedError(403, _denied(request, way, verdict), verdict.rule)
        limits = live.config.limits
        server = await dial(request.host, request.port, live.config.egress, self._resolve, limits.connect)
        passage.dialled = server.address
        try:
            if way is Way.TUNNEL:
                await self._tunnel(client, server, early, verdict, passage)
            else:
                await self._plain(client, server, early, request, passage)
        except asyncio.CancelledError:
            # It is no longer allowed, so nor is what was taken of it and not sent yet.
            drop(server.writer)
            raise
        finally:
            server.writer.transport.abort()

    async def _known(self, client: Side, passage: Passage) -> tuple[Request, bytes, Sandbox]:
        """The request, what came behind its head, and whose it is."""
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head, early = await _read_head(client)
            request = parse_request(head)
            passage.request = request
            passage.way = Way.TUNNEL if request.method == "CONNECT" else Way.HTTP
            # To tell whose it is may take a while, too.
            sandbox = await self._identify(request, passage)
        except TimeoutError:
            raise BadRequestError("the request takes too long", 408) from None
        finally:
            # From here on it counts for the sandbox, whichever address it came from.
            self._early.give(passage.peer)
        if not self._slots.take(sandbox.uid):
            raise RefusedError(503, "this sandbox has too many connections open: close some", "connections")
        # Only with its place: at the end, one is given back for who has a sandbox here.
        passage.sandbox = sandbox
        return request, early, sandbox

    async def _identify(self, request: Request, passage: Passage) -> Sandbox:
        live = self._live()
        presented = presented_to_proxy(request.authorization)
        try:
            found = await live.identify(presented, passage.peer) if presented is not None else None
        except IdentityError as error:
            passage.claimed = error.pod
            message = f"this identity is not taken ({error.reason}): present the token that is mounted now"
            raise RefusedError(407, message, f"identity: {error.reason}") from None
        # Only for who presents nothing: a wrong identity must not be mended by an address.
        if found is None and request.authorization is None:
            found = next((one for one in live.sandboxes.values() if one.anonymous_proxy), None)
            if found is None:
                passage.certain = False
                found = live.identify.by_address(passage.peer) or await self._soon_known(passage.peer)
        if found is None:
            raise RefusedError(
                407, "whose request this is can't be told: set the proxy's user and password", "identity"
            )
        return found

    async def _soon_known(self, peer: str) -> Sandbox | None:
        """Of a pod that has just started it is not heard at once which sandbox's it is. Within its share of those whose
        requests are not yet known it waits for that."""
        for _ in range(_KNOWN_AFTER):
            if not self._live().by_address:
                return None
            await asyncio.sleep(_KNOWN_EVERY)
            if found := self._live().identify.by_address(peer):
                return found
        return None

    async def _certainly(self, sandbox: Sandbox, passage: Passage) -> None:
        """Wait until it is certain that the sandbox is the one at this address. Raises RefusedError."""
        for turn in range(_CERTAIN_AFTER):
            if turn:
                await asyncio.sleep(_KNOWN_EVERY)
            found = self._live().identify.certainly_at(passage.peer)
            if found is not None:
                if found.uid != sandbox.uid:
                    break
                return
        raise RefusedError(
            503, "it is not certain whose this address is, so that no credential is lent: try again", "address"
        )

    async def _tunnel(self, client: Side, server: Dialled, early: bytes, verdict: Verdict, passage: Passage) -> None:
        assert passage.request is not None  # noqa: S101
        config = self._live().config
        passage.status = 200
        # Before it is let through for good: no client says sooner which name it means. Of what it sends nothing goes to
        # the server until that is judged; a refusal can then only close.
        client.writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        await client.writer.drain()
        first = early
        if not verdict.opaque:
            first, passage.hello = await _hello(client, early, config.limits.hello)
            reason = _against(passage.hello, passage.request.host, ech=config.egress.ech)
            if reason:
                passage.rule, passage.ended = reason, "closed"
                return
        passage.verdict = "Allowed"
        server.writer.write(first)
        passage.moved.up += len(first)
        watch = None if verdict.opaque else SecondHello(passage.request.host).feed
        side, limits = Side(server.reader, server.writer), config.limits
        try:
            passage.ended = await splice(client, side, passage.moved, limits.idle, limits.total, watch)
        except WatchedError as error:
            passage.verdict, passage.rule, passage.ended = "Refused", str(error), "closed"

    async def _plain(self, client: Side, server: Dialled, early: bytes, request: Request, passage: Passage) -> None:
        passage.verdict = "Allowed"
        try:
            async with asyncio.timeout(self._live().config.limits.total):
                side = Side(server.reader, server.writer)
                passage.status = await exchange(request, early, client, side, passage.moved)
                passage.ended = "ended"
                client.writer.close()
                await client.writer.wait_closed()
        except TimeoutError:
            passage.ended = "total time"


async def _read_head(client: Side) -> tuple[bytes, bytes]:
    data = bytearray()
    while (end := head_end(data)) is None:
        part = await client.reader.read(CHUNK)
        if not part:
            raise BadRequestError("the request is cut off")
        data += part
    return bytes(data[:end]), bytes(data[end:])


async def _hello(client: Side, early: bytes, seconds: float) -> tuple[bytes, Hello]:
    """What the client sent until its ClientHello was known, and that."""
    reader, data = HelloReader(), bytearray(early)
    found = reader.feed(early)
    try:
        async with asyncio.timeout(seconds):
            while found is None:
                part = await client.reader.read(CHUNK)
                data += part
                found = reader.feed(part) if part else reader.end()
    except TimeoutError:
        found = Hello(Outcome.CUT_OFF)
    return bytes(data), found


def _against(hello: Hello, host: str, *, ech: bool) -> str | None:
    """Why the tunnel is closed, or None."""
    if hello.ech and not ech:
        return "EncryptedClientHello"
    if hello.outcome is not Outcome.OK:
        return str(hello.outcome)
    return None if hello.sni == host else "SNIMismatch"


def _still_allowed(passage: Passage, live: Live) -> bool:
    """Whether it would be let through now, as far as it is known yet what it is."""
    if passage.sandbox is None or passage.request is None or passage.way is None:
        return True
    sandbox = live.sandboxes.get(passage.sandbox.uid)
    if sandbox is None:
        return False
    if passage.opened is None:
        return _verdict(sandbox, live.config, passage.request, passage.way).allowed
    # Another credential is for the next request: the service has let this one in.
    now = live.services.get(sandbox.uid, Services()).opened.get(passage.opened.service.name)
    return now is not None and now.service == passage.opened.service


def _verdict(sandbox: Sandbox, config: Config, request: Request, way: Way) -> Verdict:
    return decide(request.host, request.port, way, sandbox.allowed, config.egress.denied)


def _denied(request: Request, way: Way, verdict: Verdict) -> str:
    if verdict.rule.startswith("denied"):
        return f"{request.host} is denied by the administrator of this gateway"
    entry = entry_of(request.host, request.port, way)
    return f"{entry} is not among the destinations of this sandbox: add it to spec.network.egress.allowedDomains"


async def _refuse(client: Side, passage: Passage, error: RefusedError | BadRequestError | DialError) -> None:
    """Tell the client, unless it was told already that it is let through."""
    if isinstance(error, DialError):
        status = 403 if error.refused else 502
        passage.rule = str(error) if error.refused else passage.rule
        passage.ended = None if error.refused else str(error)
        passage.verdict = "Refused" if error.refused else "Failed"
    else:
        status = error.status
        passage.rule = error.rule if isinstance(error, RefusedError) else f"malformed: {error}"
        if passage.verdict == "Allowed":
            # Its head was let through; what came then was not.
            passage.verdict = "Failed" if status >= 500 else "Refused"
    if passage.status is not None or passage.moved.down:
        return
    passage.status = status
    body = f"{error}\n".encode()
    extra = 'proxy-authenticate: Basic realm="sandbox"\r\n' if status == 407 else ""
    if isinstance(error, RefusedError) and error.retry is not None:
        extra += f"retry-after: {max(1, round(error.retry))}\r\n"
    head = f"HTTP/1.1 {status} Refused\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n{extra}"
    client.writer.write(f"{head}connection: close\r\n\r\n".encode() + body)
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            client.writer.close()
            await client.writer.wait_closed()
