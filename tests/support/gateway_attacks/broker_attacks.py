"""The attacks on a broker, as a table: what is sent, what it gains, and how the gateway refuses it.

The agent has the placeholder and may write any bytes to the broker. It wants the real key sent where it can read it, a
model that is not allowed, paths of the API beyond messages, or what only the provider's own may have in a request.
"""

import asyncio
import contextlib
import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp import web
from gatewaykit import KEY, PLACEHOLDER, Handler, Provider

STOLEN = "placeholder-of-a-sandbox-that-is-gone"
POST = f"POST /v1/messages HTTP/1.1\nx-api-key: {PLACEHOLDER}\ncontent-type: application/json"
GOOD = b'{"model":"claude-sonnet-5-5","messages":[]}'
_OPUS = "claude-opus-5-5"


@dataclass(frozen=True)
class Servers:
    """The provider, and a server of the attacker's."""

    api: Provider
    attacker: Provider

    def forget(self) -> None:
        self.api.seen.clear()
        self.attacker.seen.clear()


@dataclass(frozen=True)
class Attack:
    """`kind`: the section of the table. `head`: with bare line feeds. `gained`: whether it worked, by what the servers
    saw. `status` and `rule`: the gateway's answer, and the reason in its audit. `answer`: the provider's."""

    kind: str
    name: str
    head: str
    body: bytes
    gained: Callable[[Servers], bool]
    status: int
    rule: str
    answer: Callable[[Servers], Handler] | None = None


async def send(where: str, head: str, body: bytes) -> bytes:
    """Ask a broker at `HOST:PORT`; what it answered, b"" if nothing in five seconds."""
    host, _, port = where.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = f"{head}\nhost: gateway\nconnection: close\ncontent-length: {len(body)}\n\n"
    writer.write(lines.replace("\n", "\r\n").encode("latin-1") + body)
    found = b""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(5):
            found = await reader.read()
    writer.transport.abort()
    return found


async def answer_to(attack: Attack, servers: Servers, where: str) -> bytes:
    """Do it to the broker at `HOST:PORT`; what it answered. What came of it is in `servers`."""
    servers.forget()
    usual = servers.api.answer
    if attack.answer is not None:
        servers.api.answer = attack.answer(servers)
    try:
        return await send(where, attack.head, attack.body)
    finally:
        servers.api.answer = usual


def attacks() -> list[Attack]:
    """All of them."""
    return [*_models(), *_paths(), *_headers(), *_identities()]


def _with_key(servers: Servers) -> bool:
    return any(KEY in one.header("x-api-key") for one in servers.api.seen)


def _models() -> Iterator[Attack]:
    deep = "[" * 300 + "]" * 300
    for name, body, rule in (
        ("the model behind the messages", f'{{"messages":[],"model":"{_OPUS}"}}', "model"),
        ("the model twice", f'{{"model":"claude-sonnet-5-5","messages":[],"model":"{_OPUS}"}}', "malformed"),
        ("the model twice, once in escapes",
         f'{{"model":"claude-sonnet-5-5","messages":[],"mod\\u0065l":"{_OPUS}"}}', "malformed"),
        ("the model in escapes", '{"model":"claude-\\u006fpus-5-5","messages":[]}', "model"),
        ("the model behind a byte order mark", f'\ufeff{{"messages":[],"model":"{_OPUS}"}}', "malformed"),
        ("the model behind a comment", f'{{"messages":[]/* " */,"model":"{_OPUS}"}}', "malformed"),
        ("no model", '{"messages":[]}', "malformed"),
        ("a list as the model", f'{{"messages":[],"model":["{_OPUS}"]}}', "malformed"),
        ("no JSON", "model=claude", "malformed"),
        ("something behind the body", f'{GOOD.decode()}{{"model":"{_OPUS}"}}', "malformed"),
        ("nested too deep to be read", f'{{"messages":{deep},"model":"claude-sonnet-5-5"}}', "malformed"),
    ):  # fmt: skip
        yield Attack("A model that is not allowed", name, POST, body.encode(), _with_key, 400, rule)
    packed = gzip.compress(f'{{"model":"{_OPUS}","messages":[]}}'.encode())
    yield Attack("A model that is not allowed", "the model in a compressed body", f"{POST}\ncontent-encoding: gzip",
                 packed, _with_key, 400, "malformed")  # fmt: skip


def _paths() -> Iterator[Attack]:
    for path in (
        "/v1/organizations/me", "/v1/organizations/api_keys", "/v1/messages/../organizations", "/v1/%6dessages",
        "//v1/messages", "/v1/messages;x=1", "/v1/messages/batches", "/v1/files", "/v1/files/file_1/content",
        "/v1/complete", "/v1/skills", "/",
    ):  # fmt: skip
        head = f"GET {path} HTTP/1.1\nx-api-key: {PLACEHOLDER}"
        yield Attack("Another part of the API, with the key", f"GET {path}", head, b"", _with_key, 404, "path")


def _headers() -> Iterator[Attack]:
    kind = "What must not arrive, or not leave"

    def elsewhere(servers: Servers) -> Handler:
        async def answer(_request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
            return web.Response(status=307, headers={"location": f"{servers.attacker.url}/caught"})

        return answer

    yield Attack(kind, "a redirect, followed with the key", POST, GOOD,
                 lambda servers: any(KEY in one.header("x-api-key") for one in servers.attacker.seen),
                 307, "allowed", elsewhere)  # fmt: skip
    for name, lines in (
        ("a cookie", "cookie: session=of-somebody"),
        ("a second credential", f"authorization: Bearer {PLACEHOLDER}"),
        ("a key of another provider", "x-goog-api-key: k"),
        ("where the request came from", "x-forwarded-for: 10.0.0.1\nforwarded: for=10.0.0.1"),
        ("a proxy's credential", "proxy-authorization: Basic eA=="),
    ):
        names = [line.partition(":")[0] for line in lines.split("\n")]
        yield Attack(kind, f"{name}, passed on", f"{POST}\n{lines}", GOOD, _arrived(names), 200, "allowed")


def _arrived(names: list[str]) -> Callable[[Servers], bool]:
    return lambda servers: any(one.header(name) for one in servers.api.seen for name in names)


def _identities() -> Iterator[Attack]:
    kind = "Another's identity, or none"
    digest = hashlib.sha256(PLACEHOLDER.encode()).hexdigest()
    for name, head, status, rule in (
        ("a placeholder that is nobody's", f"x-api-key: {STOLEN}", 401, "identity"),
        ("no placeholder", "x-nothing: x", 401, "identity"),
        ("two that differ", f"x-api-key: {PLACEHOLDER}\nauthorization: Bearer {STOLEN}", 401, "identity"),
        ("the digest in place of the placeholder", f"x-api-key: {digest}", 401, "identity"),
        ("the header twice", f"x-api-key: {PLACEHOLDER}\nx-api-key: {STOLEN}", 400, "malformed"),
    ):
        yield Attack(kind, name, f"POST /v1/messages HTTP/1.1\n{head}", GOOD, _with_key, status, rule)
