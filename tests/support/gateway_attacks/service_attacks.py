"""Attacks on what holds a service's credential: a table; a service as generous as servers are; and what people write.

The sandbox may GET and POST below `/api/`. It wants another path or method, to be taken for somebody else, to see the
credential, or to have it sent elsewhere.
"""

import asyncio
import contextlib
import posixpath
import re
import ssl
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote, unquote_to_bytes

from gatewaykit import Authority
from plain_proxies import until_blank

HOST, ELSEWHERE = "issues.example.org", "elsewhere.example.net"
HEADER, TOKEN = "x-team-pass", "the-credential-of-the-service"
_MINE = "credential-of-the-attackers"


@dataclass
class Asked:
    """A request as the server takes it, by whatever its frameworks and the proxies before it do."""

    method: str
    path: str
    who: list[str]
    host: str


@dataclass
class Generous:
    """`port` of the service, `elsewhere` of another server; what came to either."""

    trust: Authority
    port: int = 0
    elsewhere: int = 0
    asked: list[Asked] = field(default_factory=list)
    stolen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Attack:
    """`request` with `AT` for what stands before the path. `won`: by what came to the server, and what came back."""

    name: str
    request: str
    won: Callable[[Generous, bytes], bool]


def another_path(place: Generous, _answer: bytes) -> bool:
    return any(not one.path.startswith("/api/") for one in place.asked)


def another_method(place: Generous, _answer: bytes) -> bool:
    return any(one.method not in ("GET", "POST") for one in place.asked)


def another_one(place: Generous, _answer: bytes) -> bool:
    return any(one.who != [TOKEN] for one in place.asked)


def two_requests(place: Generous, _answer: bytes) -> bool:
    return len(place.asked) > 1


def shown(_place: Generous, answer: bytes) -> bool:
    return TOKEN.encode() in answer


def sent_elsewhere(place: Generous, _answer: bytes) -> bool:
    return TOKEN in place.stolen


def another_host(place: Generous, _answer: bytes) -> bool:
    return any(one.host.partition(":")[0] != HOST for one in place.asked)


def a_cookie(_place: Generous, answer: bytes) -> bool:
    return b"set-cookie" in answer.lower()


_UPGRADE = ("Connection: Upgrade",)
_HOST = f"Host: {ELSEWHERE}"
_SECOND = "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"


def attacks() -> tuple[Attack, ...]:
    paths = {
        "dot segments": "/api/../admin", "encoded dots": "/api/%2e%2e/admin", "half encoded dots": "/api/.%2E/admin",
        "an encoded slash": "/api/..%2fadmin", "an encoded backslash": "/api/..%5cadmin",
        "a backslash": "/api/..\\admin",
        "a parameter": "/api/..;/admin", "a parameter with a value": "/api/..;a=b/admin",
        "encoded twice": "/api/%252e%252e/admin", "wide dots": "/api/%ef%bc%8e%ef%bc%8e/admin",
        "a two dot leader": "/api/%e2%80%a5/admin", "a wide slash": "/api/..%ef%bc%8fadmin",
        "an overlong dot": "/api/%c0%ae%c0%ae/admin", "an empty part": "/api//../admin",
        "a zero byte": "/api/..%00/admin",
        "an encoded parameter": "/api/..%3bx/admin", "twice up": "/api/a/../../admin",
    }  # fmt: skip
    headers = {
        "the method in a header": ("X-HTTP-Method-Override: DELETE", another_method),
        "the method in a header with underscores": ("X_HTTP_METHOD_OVERRIDE: DELETE", another_method),
        "the path in a header": ("X-Original-URL: /admin", another_path),
        "the path in another header": ("X-Rewrite-URL: /admin", another_path),
        "a key of one's own": (f"Private-Token: {_MINE}", another_one),
        "the header in another spelling": (f"X_Team_Pass: {_MINE}", another_one),
        "a session of one's own": (f"Cookie: session={_MINE}", another_one),
        "the header as one of the connection": (f"Connection: close, {HEADER}", another_one),
        "another host for the service": (f"X-Forwarded-Host: {ELSEWHERE}", another_host),
    }
    found = [Attack(f"path: {name}", _head("GET", path), another_path) for name, path in paths.items()]
    found += [Attack(name, _head("GET", "/api/a", line), won) for name, (line, won) in headers.items()]
    found += [
        Attack("the method in the query", _head("POST", "/api/a?_method=DELETE", "Content-Length: 0"), another_method),
        Attack("a key in the query", _head("GET", f"/api/a?private_token={_MINE}"), another_one),
        Attack("a key in the query, encoded", _head("GET", f"/api/a?b=1;Private%5FToken={_MINE}"), another_one),
        Attack("what the server says again", _head("TRACE", "/api/a"), shown),
        Attack("a redirect", _head("GET", "/api/redirect"), sent_elsewhere),
        Attack("a cookie that is to be kept", _head("GET", "/api/a"), a_cookie),
        Attack("a second request behind the first", _head("GET", "/api/a") + _SECOND, two_requests),
        Attack(
            "both lengths",
            _head("POST", "/api/a", "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + _SECOND,
            two_requests,
        ),
        Attack("another protocol", _head("GET", "/api/a", *_UPGRADE, "Upgrade: h2c") + _SECOND, two_requests),
        Attack(
            "a WebSocket that is none",
            _head("GET", "/api/a", *_UPGRADE, "Upgrade: websocket", "Sec-WebSocket-Key: x") + _SECOND,
            two_requests,
        ),
        Attack("another host in the request", _head("GET", "/api/a").replace("Host: issues.services", _HOST),
               another_host),
    ]  # fmt: skip
    return tuple(found)


def _head(method: str, path: str, *lines: str) -> str:
    return "\r\n".join((f"{method} AT{path} HTTP/1.1", "Host: issues.services", *lines, "", ""))


def taken(path: str) -> str:
    """A path as the most generous server reads it."""
    text = unquote_to_bytes(path).replace(b"\xc0\xae", b".").decode("utf-8", "replace")
    text = unicodedata.normalize("NFKC", unquote(text)).replace("\\", "/").replace("\0", "")
    parts = [part.partition(";")[0] for part in text.split("/")]
    return posixpath.normpath("/" + "/".join(part for part in parts if part)) + ("/" if text.endswith("/") else "")


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: Generous) -> None:
    while head := await until_blank(reader):
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, *_ = first.split(" ")
        pairs = [line.partition(":")[::2] for line in lines]
        headers = [(name.strip().lower().replace("_", "-"), value.strip()) for name, value in pairs]
        dropped = {one.strip().lower() for name, value in headers if name == "connection" for one in value.split(",")}
        found = {name: value for name, value in headers if name not in dropped - {"close", "upgrade"}}
        path, _, query = target.partition("?")
        asked = {unquote(one.partition("=")[0]).lower(): one.partition("=")[2] for one in re.split("[&;]", query)}
        path = found.get("x-original-url", found.get("x-rewrite-url", path))
        method = found.get("x-http-method-override", asked.get("_method", method))
        who = [value for name, value in headers if name == HEADER and name in found]
        who += [
            value for value in (found.get("private-token"), asked.get("private_token"), found.get("cookie")) if value
        ]
        host = found.get("x-forwarded-host", found.get("host", ""))
        place.asked.append(Asked(method, taken(path), who, host))
        await _body(reader, found)
        await _answer(writer, place, found, path, method, head)
        if found.get("connection", "").lower() == "close":
            return


async def _body(reader: asyncio.StreamReader, found: dict[str, str]) -> None:
    """Of two lengths the one that a proxy before it did not go by."""
    if "chunked" in found.get("transfer-encoding", ""):
        await reader.readuntil(b"0\r\n\r\n")
    else:
        await reader.readexactly(int(found.get("content-length", "0")))


async def _answer(
    writer: asyncio.StreamWriter, place: Generous, found: dict[str, str], path: str, method: str, head: bytes
) -> None:
    if "upgrade" in found:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: " + found["upgrade"].encode()
        )
        writer.write(b"\r\n\r\n")
    elif path.endswith("/redirect"):
        there = f"https://{ELSEWHERE}:{place.elsewhere}/"
        writer.write(f"HTTP/1.1 302 Found\r\nlocation: {there}\r\ncontent-length: 0\r\n\r\n".encode())
    else:
        body = head if method == "TRACE" else b"ok"
        writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: kept=1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


async def _steal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: Generous) -> None:
    head = (await until_blank(reader)).decode("latin-1")
    place.stolen += re.findall(rf"(?im)^{HEADER}: *(\S+)", head)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    await writer.drain()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _kept(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter, Generous], Awaitable[None]], place: Generous
) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            await serve(reader, writer, place)
        writer.close()

    return handle


@contextlib.asynccontextmanager
async def generous(trust: Authority) -> AsyncIterator[Generous]:
    """The service, and the other server."""
    place = Generous(trust)
    context = trust.server()
    async with (
        await asyncio.start_server(_kept(_serve, place), "127.0.0.1", 0, ssl=context) as service,
        await asyncio.start_server(_kept(_steal, place), "127.0.0.1", 0, ssl=context) as other,
    ):
        place.port = service.sockets[0].getsockname()[1]
        place.elsewhere = other.sockets[0].getsockname()[1]
        yield place


@contextlib.asynccontextmanager
async def plain_forwarder(place: Generous) -> AsyncIterator[str]:
    """What people write: look at the beginning of the path, and at the method; put the header in; pass the rest on."""
    context = ssl.create_default_context(cafile=place.trust.bundle)

    async def there(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await until_blank(reader)).decode("latin-1").replace("http://issues.services", "", 1)
        method, path, *_ = head.split(" ")
        if not path.startswith("/api/") or method == "DELETE":
            writer.close()
            return
        lines = [line for line in head.strip().split("\r\n") if not line.lower().startswith(f"{HEADER}:")]
        lines = [line.replace("Host: issues.services", f"Host: {HOST}") for line in lines]
        ready = ("\r\n".join((*lines, f"{HEADER}: {TOKEN}")) + "\r\n\r\n").encode("latin-1")
        back, server = await there(HOST, place.port)
        server.write(ready)
        copying = [asyncio.create_task(_copy(reader, server))]
        answer = await back.readuntil(b"\r\n\r\n")
        if moved := re.search(rb"location: https://([^:/]+):(\d+)", answer):
            back, server = await there(moved[1].decode(), int(moved[2]))
            server.write(ready)
            answer = await back.readuntil(b"\r\n\r\n")
        writer.write(answer)
        copying.append(asyncio.create_task(_copy(back, writer)))
        await asyncio.wait(copying, timeout=0.1)
        for task in copying:
            task.cancel()
        for end in (server, writer):
            end.transport.abort()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


async def succeeds(attack: Attack, place: Generous, at: str, authorization: str = "") -> bool:
    """Whether the attack works by the forwarder or the gateway at this address."""
    place.asked.clear()
    place.stolen.clear()
    host, _, port = at.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = attack.request.replace("AT", "http://issues.services", 1)
    if authorization:
        request = request.replace("\r\n", f"\r\nProxy-Authorization: {authorization}\r\n", 1)
    answer = b""
    with contextlib.suppress(OSError, TimeoutError):
        writer.write(request.encode("latin-1"))
        async with asyncio.timeout(5):
            answer = await reader.read()
    writer.transport.abort()
    return attack.won(place, answer)
