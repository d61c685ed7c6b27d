"""The servers that attacks on a forward proxy aim at, and how the bytes of one are sent to a proxy.

All are on this machine. `reached` is what came to any of them, one word for the server and what it saw.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from gatewaykit import Authority, basic
from plain_proxies import until_blank

ALLOWED, VICTIM = "good.example.org", "victim.example.net"
TO_INSIDE, MIXED, MAPPED, UNSPECIFIED = (f"{kind}.example.org" for kind in ("inside", "mixed", "mapped", "unspecified"))
INSIDE = "127.0.0.9"
ADDRESSES = {
    ALLOWED: ("127.0.0.1",),
    VICTIM: ("127.0.0.1",),
    f"x{ALLOWED}": ("127.0.0.1",),
    f"{ALLOWED}.{VICTIM}": ("127.0.0.1",),
    TO_INSIDE: (INSIDE,),
    MIXED: (INSIDE, "127.0.0.1"),
    MAPPED: (f"::ffff:{INSIDE}",),
    UNSPECIFIED: ("0.0.0.0",),  # noqa: S104  # nothing is bound to it
}
"""What the names lead to. `INSIDE` stands for an address that nobody may be led to; 127.0.0.1 for a public one."""
ALLOWED_NAMES = (ALLOWED, TO_INSIDE, MIXED, MAPPED, UNSPECIFIED)
FORBIDDEN_PORT = "port"
"""The server whose port is allowed for no name."""


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Place:
    """`ports` of the servers: `tls` and `retry` speak TLS, `http` plain HTTP, `raw` and `port` only listen, as does
    `inside` on its own address."""

    trust: Authority
    ports: dict[str, int]
    reached: list[str] = field(default_factory=list)

    @property
    def allowed_ports(self) -> list[int]:
        return [port for server, port in self.ports.items() if server != FORBIDDEN_PORT]


@contextlib.asynccontextmanager
async def place(trust: Authority) -> AsyncIterator[Place]:
    """The servers. The certificate is for `ALLOWED` and `VICTIM`."""
    found = Place(trust, {})

    def listening(name: str) -> Handler:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                if data := await reader.read(65536):
                    found.reached.append(f"{name} {len(data)}")
            writer.transport.abort()

        return serve

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            await _http(reader, writer, found.reached)
        writer.close()

    def noting(context: ssl.SSLContext) -> ssl.SSLContext:
        context.sni_callback = lambda _socket, name, _context: found.reached.append(f"tls {name}")
        return context

    kinds = (
        ("http", http, None, "127.0.0.1"),
        ("tls", http, noting(trust.server()), "127.0.0.1"),
        ("retry", http, noting(_retrying(trust)), "127.0.0.1"),
        ("raw", listening("raw"), None, "127.0.0.1"),
        (FORBIDDEN_PORT, listening(FORBIDDEN_PORT), None, "127.0.0.1"),
        ("inside", listening("inside"), None, INSIDE),
    )
    async with contextlib.AsyncExitStack() as stack:
        for name, handler, security, host in kinds:
            server = await stack.enter_async_context(await asyncio.start_server(handler, host, 0, ssl=security))
            found.ports[name] = server.sockets[0].getsockname()[1]
        yield found


def _retrying(trust: Authority) -> ssl.SSLContext:
    """Speaks TLS 1.3 by one group only, so that clients which guess another one have to say hello again."""
    context = trust.server()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve("secp384r1")
    return context


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reached: list[str]) -> None:
    """Answers each request on a connection, and notes for which host it was: as tolerant as servers are that others
    smuggle requests to. The last Host counts, with a space behind its name as well; of two lengths the first; only
    `chunked` by itself is chunked; and in names `_` is `-`."""
    while head := await until_blank(reader):
        lines = re.split(r"[\r\n]+", head.decode("latin-1").strip())
        pairs = [line.lower().split(":", 1) for line in lines[1:] if ":" in line]
        headers = [(name.lstrip().replace("_", "-"), value.strip(" \t")) for name, value in pairs]
        hosts = [value for name, value in headers if name.rstrip() == "host"]
        method = lines[0].split()[0]
        reached.append(f"{method} {hosts[-1].partition(':')[0] if hosts else '?'}")
        if any(name == "proxy-authorization" for name, _ in headers):
            reached.append("identity")
        if any(name == "upgrade" for name, _ in headers):
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
            if await reader.read(65536):
                reached.append("upgraded")
            return
        await _body(reader, headers)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        if ("connection", "close") in headers:
            return


async def _body(reader: asyncio.StreamReader, headers: list[tuple[str, str]]) -> None:
    if ("transfer-encoding", "chunked") in headers:
        size = 1
        while size:
            size = int((re.match(rb"[0-9a-fA-F]+", await reader.readline()) or [b"0"])[0], 16)
            await reader.readexactly(size)
            await reader.readline()
        return
    lengths = [re.match(r"\+?(\d*)", value) for name, value in headers if name == "content-length"]
    await reader.readexactly(int((lengths and lengths[0] and lengths[0][1]) or 0))


async def send(proxy: str, head: bytes, then: bytes = b"") -> bytes:
    """Write a head to a proxy, with the sandbox's identity in place of `AUTH`; when it lets through, what comes then.
    What came back until it closed."""
    host, _, port = proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head.replace(b"AUTH", f"Proxy-Authorization: {basic()}".encode()))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if then and b" 200" in (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]:
                writer.write(then)
            return await reader.read()
        return b""
    finally:
        writer.transport.abort()
