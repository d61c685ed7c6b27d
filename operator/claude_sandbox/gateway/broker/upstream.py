"""The way to the provider: connections, kept for further requests, and one exchange over one of them.

Theory of operation: holds a pool for the `Provider` of the configuration. An exchange takes a connection that is free,
the one that was used last, or opens one; at its end the connection goes back where all of the request went out and all
of the answer came, and is cut otherwise: so a sandbox that goes away ends its request at the provider. What nobody has
used for `_KEEP` seconds is closed. A changed configuration makes a new pool; requests under way keep theirs.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from claude_sandbox.gateway.config.config import Provider
from claude_sandbox.gateway.http.answer import AnswerError
from claude_sandbox.gateway.http.chunked import chunk
from claude_sandbox.gateway.http.connection import Connection
from claude_sandbox.gateway.networks import has_no_network

_KEEP = 15.0
"""Seconds that an unused connection is kept: shorter than servers do, so that none is used that they just closed."""
_NEXT_ADDRESS = 0.25
"""Seconds after which the next address of a name is tried as well (RFC 8305, 5)."""

Headers = Sequence[tuple[str, str]]


class UnreachableError(Exception):
    """There is no connection, so nothing was sent. The message says why, and has nothing of the request's."""


class MisconfiguredError(Exception):
    """The bundle of trusted certificates can't be read."""


@dataclass(frozen=True)
class Message:
    """A request as it goes out. `target`: the path and the query behind the provider's own path. `length`: of the body
    in bytes where it is known, None where there is none, or it is sent in chunks."""

    method: str
    target: str
    headers: Headers
    body: bytes | AsyncIterator[bytes] = b""
    length: int | None = None


class Upstreams:
    """All pools. Used from one event loop."""

    def __init__(self) -> None:
        self._pools: dict[Provider, _Pool] = {}

    @contextlib.asynccontextmanager
    async def exchange(self, provider: Provider, message: Message, seconds: float) -> AsyncIterator[Connection]:
        """A connection on which the message is under way. `seconds`: for a new connection.

        Raises UnreachableError and MisconfiguredError. Where the body's iterator fails, the connection does.
        """
        pool = self._pools.get(provider)
        if pool is None:
            pool = _Pool(provider)
            # One: another provider is one that takes the place of the one before.
            await self.close()
            self._pools[provider] = pool
        connection = await pool.take(seconds)
        sending: asyncio.Task[bool] | None = None
        whole = False
        try:
            head = pool.head(message)
            if isinstance(message.body, bytes):
                connection.begin(message.method, head + message.body)
                whole = True
            else:
                connection.begin(message.method, head)
                sending = asyncio.create_task(_send(connection, message.body, chunked=message.length is None))
            yield connection
        finally:
            if sending is not None:
                whole = sending.done() and not sending.cancelled() and sending.result()
                sending.cancel()
            pool.give(connection, whole=whole)

    async def close(self) -> None:
        """Close all that nobody uses."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()


class _Pool:
    """The connections of one way to a provider. Raises MisconfiguredError."""

    def __init__(self, provider: Provider) -> None:
        self._way = _way(provider)
        try:
            self._context = _context(provider) if self._way.secure else None
        except OSError as error:
            raise MisconfiguredError from error
        self._free: list[tuple[float, Connection]] = []
        self._sweep: asyncio.TimerHandle | None = None

    async def take(self, seconds: float) -> Connection:
        """A connection that is free. Raises UnreachableError."""
        oldest = asyncio.get_running_loop().time() - _KEEP
        while self._free:
            # The one that was used last: the others grow old, and are closed.
            since, connection = self._free.pop()
            if since > oldest and connection.free:
                return connection
            connection.close()
        try:
            async with asyncio.timeout(seconds):
                return await _open(self._way, self._context)
        except TimeoutError:
            raise UnreachableError(f"no answer within {seconds:.0f} s") from None
        except socket.gaierror:
            raise UnreachableError("its name can't be resolved") from None
        except ssl.SSLError:
            raise UnreachableError("its certificate is not trusted") from None
        except (OSError, AnswerError) as error:
            if isinstance(error, OSError) and has_no_network(error):
                raise UnreachableError("no connection, and no way to an address like its own (IPv4 or IPv6)") from None
            raise UnreachableError("no connection") from None

    def give(self, connection: Connection, *, whole: bool) -> None:
        """Take it back from who has used it. `whole`: all of the request went out."""
        # What is left of the request or of its answer would be read as part of the next one, which is another
        # sandbox's.
        if not whole or not connection.free:
            connection.fail(AnswerError("nobody waits for the answer any more"))
            return
        loop = asyncio.get_running_loop()
        self._free.append((loop.time(), connection))
        if self._sweep is None:
            self._sweep = loop.call_later(_KEEP, self._close_unused)

    def head(self, message: Message) -> bytes:
        """The head of the request as it is sent. Headers are as they were judged: none has a control character."""
        way = self._way
        lines = [f"{message.method} {way.prefix}{message.target} HTTP/1.1", f"host: {way.authority}"]
        lines += [f"{name}: {value}" for name, value in message.headers]
        if not isinstance(message.body, bytes) and message.length is None:
            lines.append("transfer-encoding: chunked")
        elif message.length is not None:
            lines.append(f"content-length: {message.length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def close(self) -> None:
        """Close all that are free."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for _, connection in self._free:
            connection.close()
        self._free.clear()

    def _close_unused(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - _KEEP
        kept = [one for one in self._free if one[0] > oldest and one[1].free]
        for one in self._free:
            if one not in kept:
                one[1].close()
        self._free = kept
        self._sweep = loop.call_later(kept[0][0] - oldest, self._close_unused) if kept else None


def _context(provider: Provider) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=provider.ca, cadata=provider.bundle)


@dataclass(frozen=True)
class _Way:
    """How a provider is reached: by TLS or not, at a host and port, whose name in requests is `authority`, below the
    path `prefix`, by a proxy or not."""

    secure: bool
    host: str
    port: int
    authority: str
    prefix: str
    proxy: tuple[str, int] | None


def _way(provider: Provider) -> _Way:
    url = urlsplit(provider.base_url)
    secure = url.scheme == "https"
    authority = url.netloc.rpartition("@")[2]
    proxy = None
    prefix = url.path
    if provider.upstream_proxy is not None:
        found = urlsplit(provider.upstream_proxy)
        proxy = found.hostname or "", found.port or 3128
        if not secure:
            # A proxy is asked for the whole address (RFC 9112, 3.2.2).
            prefix = f"http://{authority}{url.path}"
    return _Way(secure, url.hostname or "", url.port or (443 if secure else 80), authority, prefix, proxy)


async def _open(way: _Way, context: ssl.SSLContext | None) -> Connection:
    """Raises OSError, and AnswerError where the proxy is none."""
    if way.proxy is None:
        return await _connect(way.host, way.port, context)
    connection = await _connect(*way.proxy, None)
    if context is None:
        return connection
    try:
        at = f"{way.host}:{way.port}"
        connection.begin("CONNECT", f"CONNECT {at} HTTP/1.1\r\nhost: {at}\r\n\r\n".encode())
        if (await connection.head()).status != 200:
            raise AnswerError("the proxy does not let it through")
        secure = Connection()
        assert connection.transport is not None  # noqa: S101
        transport = await asyncio.get_running_loop().start_tls(
            connection.transport, secure, context, server_hostname=way.host
        )
    except BaseException:
        connection.fail(AnswerError("nobody waits for the tunnel any more"))
        raise
    if transport is None:
        raise AnswerError("the tunnel is gone")
    secure.connection_made(transport)
    return secure


async def _connect(host: str, port: int, context: ssl.SSLContext | None) -> Connection:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS, interleave=1)
    _, connection = await loop.create_connection(
        Connection, sock=found, ssl=context, server_hostname=host if context is not None else None
    )
    return connection


async def _send(connection: Connection, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
    """Whether all of the body went out."""
    try:
        async for part in body:
            if part:
                await connection.write(chunk(part) if chunked else part)
        if chunked:
            await connection.write(chunk(b""))
    except Exception:  # noqa: BLE001  # whatever it is, who waits for the answer must hear of it
        connection.fail(AnswerError("the request is cut off"))
        return False
    return True
