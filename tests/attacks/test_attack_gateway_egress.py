"""Ways past a proxy that allows one name: each succeeds against thirty lines that compare the name, in the same test.

The agent inside the sandbox writes the bytes. It wants to reach a server that was not allowed: `victim`, on the same
address as the allowed one (as behind a shared front), on loopback, or one of its own; or to have one request taken for
two. What closes them: one normalised name, judged in the request, in the resolver's answers and in the ClientHello
(`gateway/destinations/`, `gateway/proxy/client_hello.py`), and a request that is read strictly and ends where it ends
(`gateway/http/`).
"""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gatewaykit import Authority, Gateway, authority, basic, document, running

ALLOWED, VICTIM = "good.example.org", "victim.example.net"
_ADDRESSES = {ALLOWED: "127.0.0.1", VICTIM: "127.0.0.1", "rebound.example.org": "127.0.0.9"}


async def plain_proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What people write: the name has to be the allowed one, then everything passes."""
    server = None
    try:
        head = await _until_blank(reader)
        method, target, *_ = head.decode("latin-1").split()
        host, port = target.rsplit(":", 1) if method == "CONNECT" else (urlsplit(target).hostname or "", "80")
        if method != "CONNECT":
            port = str(urlsplit(target).port or 80)
        if not host.lower().rstrip(".").endswith(("example.org", "127.0.0.1")) or "evil" in host:
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        there, server = await asyncio.open_connection(_ADDRESSES.get(host.lower().rstrip("."), host), int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            server.write(head.replace(f"http://{urlsplit(target).netloc}".encode(), b"", 1))
        await asyncio.gather(_copy(reader, server), _copy(there, writer))
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()
        if server is not None:
            server.close()


async def _until_blank(reader: asyncio.StreamReader) -> bytes:
    head = b""
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        line = await reader.readline()
        if not line:
            break
        head += line
    return head


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.write_eof()


@dataclass
class Lab:
    """The gateway, the plain proxy, and the servers: one TLS server with several names, one of plain HTTP, one that
    only listens; `reached` is what came to any of them."""

    gateway: Gateway
    trust: Authority
    ports: dict[str, int]
    reached: list[str] = field(default_factory=list)

    async def through(self, proxy: str, data: bytes, wait: float = 1.0) -> bytes:
        """Write the bytes to a proxy, with the sandbox's identity in place of `AUTH`; what came back."""
        host, _, port = proxy.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data.replace(b"AUTH", f"Proxy-Authorization: {basic()}".encode()))
        found = b""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(wait):
                while part := await reader.read(65536):
                    found += part
        writer.transport.abort()
        return found


def _retrying(trust: Authority, reached: list[str]) -> ssl.SSLContext:
    """Speaks TLS 1.3 by one group only, so that clients which guess another one have to say hello again."""
    context = trust.server()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve("secp384r1")
    context.sni_callback = lambda _socket, name, _context: reached.append(f"sni {name}")
    return context


@contextlib.asynccontextmanager
async def servers(trust: Authority, reached: list[str]) -> AsyncIterator[dict[str, int]]:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers each request on a connection, and notes which host each was for."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await _until_blank(reader):
                lines = head.decode("latin-1").replace("\r", "").split("\n")
                hosts = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:")]
                reached.append(f"{lines[0].split()[0]} {hosts[-1].partition(':')[0] if hosts else '?'}")
                lengths = [int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:")]
                await reader.readexactly(lengths[0] if lengths else 0)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()

    async def anything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if data := await reader.read(65536):
            reached.append(f"bytes {len(data)}")
        writer.close()

    context = trust.server()
    context.sni_callback = lambda _socket, name, _context: reached.append(f"sni {name}")
    async with contextlib.AsyncExitStack() as stack:
        ports = {}
        kinds = (
            ("http", http, None),
            ("tls", http, context),
            ("raw", anything, None),
            ("retry", http, _retrying(trust, reached)),
        )
        for name, handler, security in kinds:
            server = await stack.enter_async_context(await asyncio.start_server(handler, "127.0.0.1", 0, ssl=security))
            ports[name] = server.sockets[0].getsockname()[1]
        inside = await asyncio.start_server(anything, "127.0.0.9", 0)
        ports["inside"] = (await stack.enter_async_context(inside)).sockets[0].getsockname()[1]
        proxy = await stack.enter_async_context(await asyncio.start_server(plain_proxy, "127.0.0.1", 0))
        ports["plain proxy"] = proxy.sockets[0].getsockname()[1]
        yield ports


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    trust, reached = authority(tmp_path, ALLOWED, VICTIM), list[str]()
    async with servers(trust, reached) as ports:
        allowed = [f"{ALLOWED}:{port}" for port in ports.values()]
        allowed += [f"rebound.example.org:{ports['inside']}", "mixed.example.org"]
        configuration = document(tmp_path, allowedDomains=allowed)
        # The servers of these tests are on one loopback address, which alone is opened.
        configuration["egress"] = {
            "privateNetworks": ["127.0.0.1/32"],
            "hosts": {name: [address] for name, address in _ADDRESSES.items()},
        }
        with running(tmp_path, configuration) as gateway:
            yield Lab(gateway, trust, ports, reached)


def client_hello(name: str | None) -> bytes:
    """The bytes with which OpenSSL begins for this name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message in records of this size."""
    message = data[5:]
    parts = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(part)) + part for part in parts)


def with_extension(data: bytes, kind: int, content: bytes) -> bytes:
    """The ClientHello with another extension at its end."""
    body = bytearray(data[9:])
    at = 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    extension = struct.pack(">HH", kind, len(content)) + content
    length = int.from_bytes(body[at : at + 2], "big") + len(extension)
    body[at : at + 2] = struct.pack(">H", length)
    body += extension
    message = b"\x01" + len(body).to_bytes(3, "big") + bytes(body)
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


def sni_extension(*names: bytes) -> bytes:
    entries = b"".join(b"\0" + struct.pack(">H", len(name)) + name for name in names)
    return struct.pack(">H", len(entries)) + entries


def connect(host: str, port: int, *extra: str, host_header: str | None = None) -> bytes:
    lines = (f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host_header or f'{host}:{port}'}", "AUTH", *extra)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def tunnels(ports: dict[str, int]) -> Iterator[tuple[str, bytes, str, str]]:
    """By name: the bytes, what then comes to a server, and the reason that the gateway gives."""
    tls, raw, inside = ports["tls"], ports["raw"], ports["inside"]
    other = client_hello(VICTIM)
    to = connect(ALLOWED, tls)
    yield "another name", to + other, f"sni {VICTIM}", "SNIMismatch"
    yield "another name in records of one byte", to + in_records(other, 1), f"sni {VICTIM}", "SNIMismatch"
    yield "another name in records of 40 bytes", to + in_records(other, 40), f"sni {VICTIM}", "SNIMismatch"
    yield "no name", to + client_hello(None), "sni None", "NoSNI"
    yield (
        "an encrypted hello",
        to + with_extension(client_hello(ALLOWED), 0xFE0D, b"\0" * 60),
        f"sni {ALLOWED}",
        "EncryptedClientHello",
    )
    to = connect(ALLOWED, raw)
    two = with_extension(client_hello(ALLOWED), 0, sni_extension(VICTIM.encode()))
    yield "the name twice", to + two, f"bytes {len(two)}", "DuplicateExtension"
    listed = with_extension(client_hello(None), 0, sni_extension(ALLOWED.encode(), VICTIM.encode()))
    yield "two names in a list", to + listed, f"bytes {len(listed)}", "BadSNI"
    nul = with_extension(client_hello(None), 0, sni_extension(f"{ALLOWED}\0.{VICTIM}".encode()))
    yield "a name with a NUL", to + nul, f"bytes {len(nul)}", "BadSNI"
    follow = client_hello(ALLOWED) + b"\x16\x03\x01"
    yield "more behind the hello", to + follow, f"bytes {len(follow)}", "Malformed"
    yield "SSH", to + b"SSH-2.0-x\r\n", "bytes 11", "NotTLS"
    yield "plain HTTP in a tunnel", to + b"GET / HTTP/1.1\r\n\r\n", "bytes 18", "NotTLS"
    yield "SSL 2", to + b"\x80\x2e\x01\x03\x01" + bytes(43), "bytes 48", "NotTLS"
    yield "an alert first", to + b"\x15\x03\x01\0\2\1\0" + other, f"bytes {7 + len(other)}", "NotTLS"
    yield (
        "a name that leads inside",
        connect("rebound.example.org", inside) + b"hi",
        "bytes 2",
        "the name leads to an address that is refused (loopback)",
    )
    yield "a name's dot", connect(f"{ALLOWED}.", tls) + other, f"sni {VICTIM}", "SNIMismatch"
    yield "a name in capitals", connect(ALLOWED.upper(), tls) + other, f"sni {VICTIM}", "SNIMismatch"
    yield (
        "an address",
        connect("127.0.0.1", raw) + b"hi",
        "bytes 2",
        "malformed: the target is an address; only names are let through",
    )
    yield (
        "another Host",
        connect(ALLOWED, raw, host_header=VICTIM) + b"hi",
        "bytes 2",
        "malformed: Host is not the target's",
    )
    yield "a body", connect(ALLOWED, raw, "Content-Length: 2") + b"hi", "bytes 2", "malformed: CONNECT has no body"
    yield (
        "bare line feeds",
        connect(ALLOWED, raw).replace(b"\r\n", b"\n") + b"hi",
        "bytes 2",
        "malformed: a line ends with something else than CR LF",
    )
    yield (
        "a folded header",
        connect(ALLOWED, raw, "X: a", " b") + b"hi",
        "bytes 2",
        "malformed: a header is folded over lines",
    )
    yield (
        "a space before the colon",
        connect(ALLOWED, raw, "X : a") + b"hi",
        "bytes 2",
        "malformed: a header's name is malformed",
    )


def requests(ports: dict[str, int]) -> Iterator[tuple[str, bytes, str]]:
    """By name: the bytes of a plain HTTP request, and what then comes to a server that must not."""
    at = f"{ALLOWED}:{ports['http']}"
    smuggled = f"GET /x HTTP/1.1\r\nHost: {VICTIM}\r\n\r\n"
    first = f"GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nAUTH\r\n"
    post = f"POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nAUTH\r\n"
    yield "a second request behind the first", (first + "\r\n" + smuggled).encode(), f"GET {VICTIM}"
    yield "another Host", first.replace(f"Host: {at}", f"Host: {VICTIM}").encode() + b"\r\n", f"GET {VICTIM}"
    yield "a second Host", (first + f"Host: {VICTIM}\r\n\r\n").encode(), f"GET {VICTIM}"
    yield "a Host behind a bare line feed", (first + f"X: a\nHost: {VICTIM}\r\n\r\n").encode(), f"GET {VICTIM}"
    both = f"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"
    yield "both lengths", (post + both).encode(), f"GET {VICTIM}"
    twice = f"Content-Length: 0\r\nContent-Length: {len(smuggled)}\r\n\r\n{smuggled}"
    yield "a length twice", (post + twice).encode(), f"GET {VICTIM}"
    yield "a length with a sign", (post + f"Content-Length: +0\r\n\r\n{smuggled}").encode(), f"GET {VICTIM}"
    yield "an end before the next request", (post + f"Content-Length: 2\r\n\r\nhi{smuggled}").encode(), f"GET {VICTIM}"


async def test_tunnels(lab: Lab) -> None:
    let_through = []
    for number, (name, data, comes, reason) in enumerate(tunnels(lab.ports)):
        lab.reached.clear()
        await lab.through(f"127.0.0.1:{lab.ports['plain proxy']}", data, 0.25)
        assert comes in lab.reached, f"{name}: as an attack it does not work: {lab.reached}"
        lab.reached.clear()
        await lab.through(lab.gateway.proxy, data, 12)
        let_through += [(name, what) for what in lab.reached]
        line = lab.gateway.audit(number + 1)[number]
        assert (line["verdict"], line["rule"]) == ("Refused", reason), name
    assert let_through == []


async def test_a_second_client_hello_for_another_name(lab: Lab) -> None:
    """The server asks for another ClientHello (it wants another group), and goes by the name in the second."""
    same_length = "vice.example.net"
    assert len(same_length) == len(ALLOWED)

    async def attempt(proxy: str, name: str) -> None:
        """Begin as the allowed name, and say this one in the second ClientHello."""
        host, _, port = proxy.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(connect(ALLOWED, lab.ports["retry"]).replace(b"AUTH", f"Proxy-Authorization: {basic()}".encode()))
        await reader.readuntil(b"\r\n\r\n")
        context = ssl.create_default_context(cafile=lab.trust.bundle)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname=ALLOWED)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        writer.write(outgoing.read())
        incoming.write(await asyncio.wait_for(reader.read(65536), 5))
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        second = outgoing.read()
        assert ALLOWED.encode() in second
        writer.write(second.replace(ALLOWED.encode(), name.encode()))
        with contextlib.suppress(TimeoutError, OSError):
            await asyncio.wait_for(reader.read(), 1)
        writer.transport.abort()

    await attempt(f"127.0.0.1:{lab.ports['plain proxy']}", same_length)
    assert f"sni {same_length}" in lab.reached, "as an attack it does not work"
    lab.reached.clear()
    await attempt(lab.gateway.proxy, same_length)
    assert lab.reached == [f"sni {ALLOWED}"]
    await attempt(lab.gateway.proxy, ALLOWED)
    assert set(lab.reached) == {f"sni {ALLOWED}"}
    refused, allowed = await asyncio.to_thread(lab.gateway.audit, 2)
    assert (refused["verdict"], refused["rule"]) == ("Refused", "SNIMismatch in a second ClientHello")
    assert allowed["verdict"] == "Allowed"


async def test_plain_requests(lab: Lab) -> None:
    for name, data, comes in requests(lab.ports):
        lab.reached.clear()
        await lab.through(f"127.0.0.1:{lab.ports['plain proxy']}", data, 0.25)
        assert comes in lab.reached, f"{name}: as an attack it does not work: {lab.reached}"
        lab.reached.clear()
        await lab.through(lab.gateway.proxy, data, 0.5)
        assert comes not in lab.reached, name


async def test_the_same_client_gets_where_it_may(lab: Lab) -> None:
    """So that what is refused above is not refused for another reason."""
    await lab.through(lab.gateway.proxy, connect(ALLOWED, lab.ports["tls"]) + client_hello(ALLOWED), 0.5)
    at = f"{ALLOWED}:{lab.ports['http']}"
    answer = await lab.through(lab.gateway.proxy, f"GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nAUTH\r\n\r\n".encode())
    assert answer.endswith(b"ok")
    assert lab.reached == [f"sni {ALLOWED}", f"GET {ALLOWED}"]
