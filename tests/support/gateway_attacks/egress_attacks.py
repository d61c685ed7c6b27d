"""The attacks on a forward proxy, as a table: what is sent, what it gains, and why the gateway refuses it.

The agent inside the sandbox writes the bytes. It wants to reach a server, a port or an address that was not allowed,
or to have one request taken for two. Each attack is a function of the place, so that every proxy gets the same.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from client_hellos import client_hello, in_records, sni_extension, with_extension
from egress_place import ALLOWED, INSIDE, MAPPED, MIXED, TO_INSIDE, UNSPECIFIED, VICTIM, Place, send
from gatewaykit import basic

Play = Callable[[Place, str], Awaitable[object]]
"""Does it to the proxy at `HOST:PORT`."""

LET_THROUGH = "what is allowed passes, and no more"
"""In place of a reason: the gateway lets the part through that is allowed, and drops what hangs on it."""
NO_ADDRESS = "the name leads to an address that is refused"


@dataclass(frozen=True)
class Attack:
    """`kind`: the section of the table. `gains`: what is then in the place's `reached`, its beginning. `refused`: the
    reason in the gateway's audit."""

    kind: str
    name: str
    gains: str
    refused: str
    play: Play


async def succeeds(attack: Attack, place: Place, proxy: str, seconds: float) -> bool:
    """Do it to the proxy at `HOST:PORT`; whether it gained anything within so many seconds."""
    place.reached.clear()

    def gained() -> bool:
        return any(one.startswith(attack.gains) for one in place.reached)

    async def wait(until: float) -> None:
        loop = asyncio.get_running_loop()
        while not gained() and loop.time() < until:  # noqa: ASYNC110  # another program's
            await asyncio.sleep(0.01)

    now = asyncio.get_running_loop().time
    playing = asyncio.ensure_future(attack.play(place, proxy))
    waiting = asyncio.ensure_future(wait(now() + seconds))
    try:
        await asyncio.wait((playing, waiting), return_when=asyncio.FIRST_COMPLETED)
        # What the proxy has passed on before it closed may not have been read yet.
        await wait(now() + 0.05)
    finally:
        for task in (playing, waiting):
            task.cancel()
        await asyncio.gather(playing, waiting, return_exceptions=True)
    return gained()


def attacks() -> list[Attack]:
    """All of them."""
    return [*_hellos(), *_names(), *_addresses(), *_tunnel_heads(), *_plain_requests()]


def no_attacks() -> list[Attack]:
    """What is allowed, asked for in the same way: what closes everything proves nothing."""
    return [
        Attack("", "a tunnel to the allowed name", f"tls {ALLOWED}", "", _tunnelled("tls", client_hello(ALLOWED))),
        Attack("", "a request to the allowed name", f"GET {ALLOWED}", "", _sending(_get(ALLOWED, "http"))),
    ]


def connect(host: str, port: int, *extra: str, host_header: str | None = None) -> bytes:
    """The head of a CONNECT."""
    lines = (f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host_header or f'{host}:{port}'}", "AUTH", *extra)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def _sending(data: Callable[[Place], bytes], then: bytes = b"") -> Play:
    async def play(place: Place, proxy: str) -> object:
        return await send(proxy, data(place), then)

    return play


def _tunnelled(server: str, then: bytes, host: str = ALLOWED) -> Play:
    return _sending(lambda place: connect(host, place.ports[server]), then)


def _hellos() -> Iterator[Attack]:
    kind = "Inside the tunnel"
    other, good = client_hello(VICTIM), client_hello(ALLOWED)
    for name, data in (
        ("another server's name in the ClientHello", other),
        ("... in records of one byte", in_records(other, 1)),
        ("... in records of 40 bytes", in_records(other, 40)),
    ):
        yield Attack(kind, name, f"tls {VICTIM}", "SNIMismatch", _tunnelled("tls", data))
    yield Attack(kind, "... in the second ClientHello, which the server asks for", f"tls {SAME_LENGTH}",
                 "SNIMismatch in a second ClientHello", _second_hello)  # fmt: skip
    yield Attack(kind, "a ClientHello without a name", "tls None", "NoSNI", _tunnelled("tls", client_hello(None)))
    encrypted = with_extension(good, 0xFE0D, b"\0" * 60)
    yield Attack(kind, "an encrypted ClientHello behind the allowed name", f"tls {ALLOWED}", "EncryptedClientHello",
                 _tunnelled("tls", encrypted))  # fmt: skip
    for name, refused, data in (
        ("server_name twice", "DuplicateExtension", with_extension(good, 0, sni_extension(VICTIM.encode()))),
        ("two names in server_name", "BadSNI",
         with_extension(client_hello(None), 0, sni_extension(ALLOWED.encode(), VICTIM.encode()))),
        ("a name with a NUL in it", "BadSNI",
         with_extension(client_hello(None), 0, sni_extension(f"{ALLOWED}\0.{VICTIM}".encode()))),
        ("the beginning of a further record behind the ClientHello", "Malformed", good + b"\x16\x03\x01"),
        ("SSH", "NotTLS", b"SSH-2.0-x\r\n"),
        ("plain HTTP", "NotTLS", b"GET / HTTP/1.1\r\n\r\n"),
        ("a ClientHello of SSL 2", "NotTLS", b"\x80\x2e\x01\x03\x01" + bytes(43)),
        ("an alert before the ClientHello", "NotTLS", b"\x15\x03\x01\0\2\1\0" + other),
        ("a DNS query over TCP", "NotTLS", b"\0\x1d\x12\x34\1\0\0\1\0\0\0\0\0\0\6victim\7example\0\0\1\0\1"),
    ):  # fmt: skip
        yield Attack(kind, name, "raw", refused, _tunnelled("raw", data))


SAME_LENGTH = "vice.example.net"
"""A name of another server that is as long as `ALLOWED`: so it can be put in its place."""


async def _second_hello(place: Place, proxy: str) -> None:
    """Begin as the allowed name; when the server asks for another group, say another name."""
    host, _, port = proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(
            connect(ALLOWED, place.ports["retry"]).replace(b"AUTH", f"Proxy-Authorization: {basic()}".encode())
        )
        await reader.readuntil(b"\r\n\r\n")
        context = ssl.create_default_context(cafile=place.trust.bundle)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname=ALLOWED)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        writer.write(outgoing.read())
        incoming.write(await reader.read(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        second = outgoing.read()
        assert ALLOWED.encode() in second, "the server asks for no second ClientHello"
        writer.write(second.replace(ALLOWED.encode(), SAME_LENGTH.encode()))
        with contextlib.suppress(OSError):
            await reader.read()
    finally:
        writer.transport.abort()


def _names() -> Iterator[Attack]:
    kind = "Another name or port"
    unlisted, malformed = "not in allowedDomains", "malformed: the target's name is malformed"
    for name, host, refused in (
        ("a name that is not in the list", VICTIM, unlisted),
        ("a name that ends as an allowed one", f"x{ALLOWED}", unlisted),
        ("a name that begins as an allowed one", f"{ALLOWED}.{VICTIM}", unlisted),
        ("the allowed name as a user", f"{ALLOWED}@{VICTIM}", malformed),
        ("the allowed name as user and password", f"{ALLOWED}:443@{VICTIM}", malformed),
        ("a name in percents", VICTIM.replace(".", "%2e"), malformed),
        ("the allowed name behind an encoded NUL", f"{VICTIM}%00.{ALLOWED}", malformed),
        ("a name with ideographic full stops", VICTIM.replace(".", "。").encode().decode("latin-1"),
         "malformed: the request line is malformed"),
        ("localhost", "localhost", unlisted),
    ):  # fmt: skip
        yield Attack(kind, f"CONNECT: {name}", "raw", refused, _tunnelled("raw", b"hi", host))
    yield Attack(kind, "CONNECT: the allowed name at another port", "port", unlisted, _tunnelled("port", b"hi"))
    for name, host, refused in (
        ("a name that is not in the list", VICTIM, unlisted),
        ("the allowed name as a user", f"{ALLOWED}@{VICTIM}", malformed),
        ("the allowed name as user, a backslash", f"{ALLOWED}\\@{VICTIM}", malformed),
    ):
        yield Attack(kind, f"GET http://: {name}", "GET", refused, _sending(_get(host, "http")))
    yield Attack(
        kind, "GET http://: the allowed name at another port", "port", unlisted, _sending(_get(ALLOWED, "port"))
    )


def _get(host: str, server: str) -> Callable[[Place], bytes]:
    def data(place: Place) -> bytes:
        at = f"{host}:{place.ports[server]}"
        return f"GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nAUTH\r\n\r\n".encode("latin-1")

    return data


def _addresses() -> Iterator[Attack]:
    kind = "An address inside"
    for name, host, reason in (
        ("an allowed name that leads there", TO_INSIDE, "loopback"),
        ("an allowed name that leads there, too", MIXED, "loopback"),
        ("an allowed name that leads there by IPv4 in IPv6", MAPPED, "loopback"),
    ):
        yield Attack(kind, f"CONNECT: {name}", "inside", f"{NO_ADDRESS} ({reason})", _tunnelled("inside", b"hi", host))
        yield Attack(kind, f"GET http://: {name}", "inside", f"{NO_ADDRESS} ({reason})", _sending(_get(host, "inside")))
    yield Attack(kind, "CONNECT: an allowed name that leads to 0.0.0.0", "raw", f"{NO_ADDRESS} (unspecified)",
                 _tunnelled("raw", b"hi", UNSPECIFIED))  # fmt: skip
    literal = "malformed: the target is an address; only names are let through"
    name = "malformed: the target's name is malformed"
    for address, refused in (
        (INSIDE, literal), ("127.9", name), ("2130706441", name), ("0x7f000009", name), ("0177.0.0.011", name),
        (f"[::ffff:{INSIDE}]", literal), (f"{INSIDE}.", name),
    ):  # fmt: skip
        yield Attack(kind, f"CONNECT: {address}", "inside", refused, _tunnelled("inside", b"hi", address))
    yield Attack(
        kind, "CONNECT: an allowed server by its address", "raw", literal, _tunnelled("raw", b"hi", "127.0.0.1")
    )


def _tunnel_heads() -> Iterator[Attack]:
    kind = "A CONNECT that can be read in two ways"

    def raw(change: Callable[[bytes], bytes], *extra: str, host_header: str | None = None) -> Play:
        def head(place: Place) -> bytes:
            return change(connect(ALLOWED, place.ports["raw"], *extra, host_header=host_header))

        return _sending(head, b"hi")

    def same(head: bytes) -> bytes:
        return head

    yield Attack(kind, "another Host", "raw", "malformed: Host is not the target's", raw(same, host_header=VICTIM))
    yield Attack(kind, "a body", "raw", "malformed: CONNECT has no body", raw(same, "Content-Length: 2"))
    yield Attack(kind, "bare line feeds", "raw", "malformed: a line ends with something else than CR LF",
                 raw(lambda head: head.replace(b"\r\n", b"\n")))  # fmt: skip
    yield Attack(kind, "a folded header", "raw", "malformed: a header is folded over lines", raw(same, "X: a", " b"))
    yield Attack(kind, "a space before a colon", "raw", "malformed: a header's name is malformed", raw(same, "X : a"))
    yield Attack(kind, "a NUL in a header", "raw", "malformed: a line ends with something else than CR LF",
                 raw(same, "X: a\0b"))  # fmt: skip
    yield Attack(kind, "a dot at the name's end, and another name inside", f"tls {VICTIM}", "SNIMismatch",
                 _tunnelled("tls", client_hello(VICTIM), f"{ALLOWED}."))  # fmt: skip
    yield Attack(kind, "the name in capitals, and another name inside", f"tls {VICTIM}", "SNIMismatch",
                 _tunnelled("tls", client_hello(VICTIM), ALLOWED.upper()))  # fmt: skip


def _plain_requests() -> Iterator[Attack]:
    kind = "A plain request that can be read in two ways"
    smuggled = f"GET /x HTTP/1.1\r\nHost: {VICTIM}\r\n\r\n"
    two, number = "is there twice", "malformed: Content-Length is no number"
    line_end, not_name = (
        "malformed: a line ends with something else than CR LF",
        "malformed: a header's name is malformed",
    )
    coding = "malformed: Transfer-Encoding is something else than chunked"
    both = "malformed: both Content-Length and Transfer-Encoding are there"
    to_allowed, to_victim = (f"Host: {name}".encode() for name in (ALLOWED, VICTIM))
    folded = "malformed: a header is folded over lines"
    chunk = "malformed: a chunk's size is malformed"
    hexadecimal = f"0x{len(smuggled) + 2:x}\r\n\r\n{smuggled}\r\n0\r\n\r\n"
    ext = f"0;\n\r\n{smuggled}"
    for name, method, rest, refused in (
        ("a second request behind the first", "GET", f"\r\n{smuggled}", LET_THROUGH),
        ("... with a whole URL", "GET", f"\r\nGET http://{VICTIM}/ HTTP/1.1\r\nHost: {VICTIM}\r\n\r\n", LET_THROUGH),
        ("... behind the end of a body", "POST", f"Content-Length: 2\r\n\r\nhi{smuggled}", LET_THROUGH),
        ("... behind the last chunk", "POST", f"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}", LET_THROUGH),
        ("a second Host", "GET", f"Host: {VICTIM}\r\n\r\n", f"malformed: host {two}"),
        ("a Host behind a bare line feed", "GET", f"X: a\nHost: {VICTIM}\r\n\r\n", line_end),
        ("a Host behind a bare carriage return", "GET", f"X: a\rHost: {VICTIM}\r\n\r\n", line_end),
        ("a Host in a folded line", "GET", f"X: a\r\n Host: {VICTIM}\r\n\r\n", folded),
        ("a Host with a space before the colon", "GET", f"Host : {VICTIM}\r\n\r\n", not_name),
        ("both lengths", "POST", f"Content-Length: 0\r\nTransfer-Encoding: chunk\r\n\r\n{smuggled}", both),
        ("a length twice", "POST", f"Content-Length: 0\r\nContent-Length: {len(smuggled)}\r\n\r\n{smuggled}",
         f"malformed: content-length {two}"),
        ("a length with a sign", "POST", f"Content-Length: +0\r\n\r\n{smuggled}", number),
        ("a list as the length", "POST", f"Content-Length: 0, {len(smuggled)}\r\n\r\n{smuggled}", number),
        ("a length with a space before the colon", "POST", f"Content-Length : {len(smuggled)}\r\n\r\n{smuggled}",
         not_name),
        ("an encoding that is nearly chunked", "POST", f"Transfer-Encoding: xchunked\r\n\r\n{smuggled}", coding),
        ("two encodings", "POST", f"Transfer-Encoding: chunked, identity\r\n\r\n{smuggled}", coding),
        ("an encoding twice", "POST", f"Transfer-Encoding: x\r\nTransfer-Encoding: y\r\n\r\n{smuggled}",
         f"malformed: transfer-encoding {two}"),
        ("an encoding behind a control character", "POST", f"Transfer-Encoding: \x0bchunked\r\n\r\n{smuggled}",
         "malformed: a header's value has control characters"),
        ("a chunk's size as 0x…", "POST", f"Transfer-Encoding: chunked\r\n\r\n{hexadecimal}", chunk),
        ("a line feed in a chunk's extension", "POST", f"Transfer-Encoding: chunked\r\n\r\n{ext}", chunk),
    ):  # fmt: skip
        yield Attack(kind, name, f"GET {VICTIM}", refused, _sending(_request(method, rest)))
    yield Attack(kind, "another Host", f"GET {VICTIM}", "malformed: Host is not the target's",
                 _sending(lambda place: _request("GET", "\r\n")(place).replace(to_allowed, to_victim)))  # fmt: skip
    yield Attack(kind, "a change of the protocol", "upgraded", LET_THROUGH, _upgrade)
    yield Attack(kind, "the sandbox's identity, seen by the server", "identity", LET_THROUGH,
                 _sending(_request("GET", "\r\n")))  # fmt: skip


def _request(method: str, rest: str) -> Callable[[Place], bytes]:
    def data(place: Place) -> bytes:
        at = f"{ALLOWED}:{place.ports['http']}"
        return f"{method} http://{at}/ HTTP/1.1\r\nHost: {at}\r\nAUTH\r\n{rest}".encode("latin-1")

    return data


async def _upgrade(place: Place, proxy: str) -> None:
    """Ask for a change of the protocol and, when the server agrees, send what is no HTTP."""
    host, _, port = proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = _request("GET", "Connection: Upgrade\r\nUpgrade: x\r\n\r\n")(place)
        writer.write(head.replace(b"AUTH", f"Proxy-Authorization: {basic()}".encode()))
        if b" 101 " in await reader.readline():
            writer.write(b"SSH-2.0-x\r\n")
            await reader.read()
    finally:
        writer.transport.abort()
