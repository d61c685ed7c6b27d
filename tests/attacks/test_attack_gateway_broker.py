"""Ways to the key, to another model or past a budget, by the broker: each succeeds against thirty lines that replace
the header, in the same test.

The agent has the placeholder and may write any bytes to the broker. It wants the real key sent where it can read it, a
model that is not allowed, more than its budget, paths of the API beyond messages, or the identity of another sandbox.
What closes them: listed paths alone (`gateway/broker/provider.py`), a body that can be read in one way only
(`gateway/http/json_scan.py`), redirects that are not followed (`gateway/broker/broker.py`), and reservations
(`gateway/budget/ledger.py`).
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from gatewaykit import KEY, PLACEHOLDER, Gateway, Provider, answered, document, message, provider, running
from yarl import URL

BUDGETED = "placeholder-of-the-one-with-a-budget"
STOLEN = "placeholder-of-a-sandbox-that-is-gone"
IDENTITY = "x-api-key: PLACE"


@contextlib.asynccontextmanager
async def plain_broker(upstream: str) -> AsyncIterator[str]:
    """What people write: replace the header, look at the model, pass everything on."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if b'"claude-opus' in body.partition(b'"messages"')[0]:
            return web.Response(status=400)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in ("host", "x-api-key")}
        headers["x-api-key"] = KEY
        url = URL(upstream + request.raw_path, encoded=True)
        async with session.request(request.method, url, data=body, headers=headers) as answer:
            return web.Response(status=answer.status, body=await answer.read())

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as session:
        try:
            yield "127.0.0.1:%d" % runner.addresses[0][1]  # noqa: UP031
        finally:
            await runner.cleanup()


@dataclass(frozen=True)
class Lab:
    gateway: Gateway
    plain: str
    api: Provider
    attacker: Provider

    async def both(self, head: str, body: bytes = b"") -> tuple[Provider, bytes]:
        """Send the bytes to the plain broker, keep what the servers saw; then to the gateway. What it answered, and
        what came of the plain one."""
        await _send(self.plain, head, body)
        before = Provider(seen=[*self.api.seen, *self.attacker.seen])
        self.api.seen.clear()
        self.attacker.seen.clear()
        return before, await _send(self.gateway.broker, head, body)


async def _send(where: str, head: str, body: bytes) -> bytes:
    host, _, port = where.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = head.replace("PLACE", PLACEHOLDER).replace("\n", "\r\n")
    writer.write(
        f"{head}\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode("latin-1") + body
    )
    found = b""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(5):
            found = await reader.read()
    writer.transport.abort()
    return found


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with provider() as api, provider() as attacker, plain_broker(api.url) as plain:
        configuration = document(tmp_path, provider=api.url, models=["claude-sonnet-*"])
        one = configuration["sandboxes"][0]
        configuration["sandboxes"].append(
            {**one, "uid": "uid-2", "identitySHA256": [hashlib.sha256(BUDGETED.encode()).hexdigest()], "models": [],
             "budget": {"maxCostUSD": "0.05"}}
        )  # fmt: skip
        with running(tmp_path, configuration) as gateway:
            yield Lab(gateway, plain, api, attacker)


POST = f"POST /v1/messages HTTP/1.1\n{IDENTITY}\ncontent-type: application/json"
OPUS = "claude-opus-5-5"
DEEP = "[" * 300 + "]" * 300
BODIES = {
    "the model behind the messages": f'{{"messages":[],"model":"{OPUS}"}}',
    "the model twice": f'{{"model":"claude-sonnet-5-5","messages":[],"model":"{OPUS}"}}',
    "the model twice, once in escapes": f'{{"model":"claude-sonnet-5-5","messages":[],"mod\\u0065l":"{OPUS}"}}',
    "the model in escapes": '{"model":"claude-\\u006fpus-5-5","messages":[]}',
    "the model behind a byte order mark": f'\ufeff{{"messages":[],"model":"{OPUS}"}}',
    "the model behind a comment": f'{{"messages":[]/* " */,"model":"{OPUS}"}}',
    "no model": '{"messages":[]}',
    "a list as the model": f'{{"messages":[],"model":["{OPUS}"]}}',
    "no JSON": "model=claude",
    "something behind the body": f'{{"model":"claude-sonnet-5-5","messages":[]}}{{"model":"{OPUS}"}}',
    "nested too deep to be read": f'{{"messages":{DEEP},"model":"claude-sonnet-5-5"}}',
}


async def test_models(lab: Lab) -> None:
    for name, body in BODIES.items():
        before, answer = await lab.both(POST, body.encode())
        assert [seen.header("x-api-key") for seen in before.seen] == [[KEY]], f"{name}: as an attack it does not work"
        assert answer.startswith(b"HTTP/1.1 400 "), name
        assert b'"type": "invalid_request_error"' in answer
        assert lab.api.seen == []


PATHS = (
    "/v1/organizations/me", "/v1/organizations/api_keys", "/v1/messages/../organizations", "/v1/%6dessages",
    "//v1/messages", "/v1/messages;x=1", "/v1/messages/batches", "/v1/files", "/v1/files/file_1/content",
    "/v1/complete", "/v1/skills", "/",
)  # fmt: skip


async def test_paths(lab: Lab) -> None:
    for path in PATHS:
        before, answer = await lab.both(f"GET {path} HTTP/1.1\n{IDENTITY}")
        assert [seen.target for seen in before.seen] == [path], "as an attack it does not work"
        assert answer.startswith(b"HTTP/1.1 404 "), path
        assert lab.api.seen == []


async def test_a_redirect_does_not_take_the_key_along(lab: Lab) -> None:
    async def elsewhere(_request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        return web.Response(status=307, headers={"location": f"{lab.attacker.url}/caught"})

    lab.api.answer = elsewhere
    before, answer = await lab.both(POST, b'{"model":"claude-sonnet-5-5","messages":[]}')
    assert before.seen[-1].target == "/caught", "as an attack it does not work"
    assert before.seen[-1].header("x-api-key") == [KEY]
    assert answer.startswith(b"HTTP/1.1 307 ")
    assert lab.attacker.seen == []


HEADERS = {
    "cookie": "cookie: session=of-somebody",
    "authorization": "authorization: Bearer PLACE",
    "another provider's key": "x-goog-api-key: k",
    "who it came from": "x-forwarded-for: 10.0.0.1\nforwarded: for=10.0.0.1",
    "a proxy's": "proxy-authorization: Basic eA==",
}


async def test_headers_that_must_not_arrive(lab: Lab) -> None:
    for lines in HEADERS.values():
        names = [line.partition(":")[0] for line in lines.split("\n")]
        before, answer = await lab.both(f"{POST}\n{lines}", b'{"model":"claude-sonnet-5-5","messages":[]}')
        assert [one for one in names if before.seen[0].header(one)] == names, "as an attack it does not work"
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert [one for one in names if lab.api.seen[0].header(one)] == []
        assert PLACEHOLDER not in str(lab.api.seen[0].headers)
        lab.api.seen.clear()


async def test_identities(lab: Lab) -> None:
    body = b'{"model":"claude-sonnet-5-5","messages":[]}'
    for head in (
        f"POST /v1/messages HTTP/1.1\nx-api-key: {STOLEN}",
        "POST /v1/messages HTTP/1.1",
        f"POST /v1/messages HTTP/1.1\nx-api-key: PLACE\nauthorization: Bearer {STOLEN}",
        f"POST /v1/messages HTTP/1.1\nx-api-key: {hashlib.sha256(PLACEHOLDER.encode()).hexdigest()}",
    ):
        before, answer = await lab.both(head, body)
        assert [seen.header("x-api-key") for seen in before.seen] == [[KEY]], "as an attack it does not work"
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert lab.api.seen == []


async def test_a_key_given_twice_is_not_chosen_from(lab: Lab) -> None:
    before, answer = await lab.both(f"{POST}\nx-api-key: {BUDGETED}", b'{"model":"claude-sonnet-5-5","messages":[]}')
    assert before.seen, "as an attack it does not work"
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert lab.api.seen == []


async def test_a_budget_is_not_passed_by_many_requests_at_once_or_cut_off(lab: Lab) -> None:
    body = json.dumps({"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": []}).encode()
    lab.api.answer = answered(body=message(1000))
    head = POST.replace("PLACE", BUDGETED)
    await asyncio.gather(*(_send(lab.plain, head, body) for _ in range(30)))
    assert len(lab.api.seen) == 30, "as an attack it does not work"
    lab.api.seen.clear()

    async def cut_off() -> None:
        """Ask, and go away when the answer begins: what was written was written all the same."""
        host, _, port = lab.gateway.broker.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        request = f"{head}\nhost: x\ncontent-length: {len(body)}\n\n".replace("\n", "\r\n").encode() + body
        writer.write(request)
        await reader.read(1)
        writer.transport.abort()

    await asyncio.gather(*(cut_off() for _ in range(15)), *(_send(lab.gateway.broker, head, body) for _ in range(15)))
    # A request may cost 0.0223 USD by its bound, and costs 0.01: of 0.05 there is enough for four at most.
    assert 2 <= len(lab.api.seen) <= 4
