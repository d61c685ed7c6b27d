"""The broker as a real program: what goes on, what is put in, what is refused, what it counts, and how it ends."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gatewaykit import KEY, PLACEHOLDER, answered, document, message, provider, running, until, write
from yarl import URL

from claude_sandbox.gateway.audit import Audit
from claude_sandbox.gateway.broker.broker import Broker
from claude_sandbox.gateway.broker.upstream import Upstreams
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.store import MemoryStore
from claude_sandbox.gateway.config.follow import Follower, Live

BODY = {"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]}
IDENTITY = {"x-api-key": PLACEHOLDER, "content-type": "application/json", "anthropic-version": "2023-06-01"}
STREAMS = 200


async def post(
    where: str, body: Any = BODY, path: str = "/v1/messages", **headers: str
) -> tuple[int, Any, aiohttp.ClientResponse]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(URL(f"http://{where}{path}", encoded=True), data=data, headers={**IDENTITY, **headers}) as answer,
    ):
        text = await answer.read()
        return answer.status, json.loads(text) if text else None, answer


async def test_a_request_goes_on_unchanged_but_for_the_credential(tmp_path: Path) -> None:
    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=f"{api.url}/base")) as gateway:
            api.answer = answered(headers={"request-id": "r-1", "anthropic-organization-id": "o", "set-cookie": "a=b"})
            status, found, answer = await post(
                gateway.broker, path="/v1/messages?beta=true", authorization=f"Bearer {PLACEHOLDER}", cookie="a=b",
                **{"anthropic-beta": "x-1,y-2", "x-claude-code-session-id": "s-1", "user-agent": "claude-cli",
                   "x-forwarded-for": "1.2.3.4", "x-goog-api-key": "k", "proxy-authorization": "Basic eA==",
                   "x-app": "cli"},
            )  # fmt: skip
    assert (status, found, answer.headers["request-id"]) == (200, message(), "r-1")
    assert "set-cookie" not in answer.headers
    (seen,) = api.seen
    assert (seen.method, seen.target, json.loads(seen.body)) == ("POST", "/base/v1/messages?beta=true", BODY)
    assert sorted(name.lower() for name, _ in seen.headers) == [
        "accept", "accept-encoding", "anthropic-beta", "anthropic-version", "content-length", "content-type", "host",
        "user-agent", "x-api-key", "x-app", "x-claude-code-session-id",
    ]  # fmt: skip
    assert (seen.header("x-api-key"), seen.header("anthropic-beta")) == ([KEY], ["x-1,y-2"])
    assert PLACEHOLDER not in str(seen.headers)


async def test_an_answer_that_is_all_there_goes_out_at_once(tmp_path: Path) -> None:
    # Else who waits is woken for the head alone, which is a good part of what a short request takes.
    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=api.url)) as gateway:
            host, _, port = gateway.broker.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {PLACEHOLDER}\r\n"
            body = json.dumps(BODY)
            for _ in range(20):
                writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
                found = await reader.readuntil(b"\r\n\r\n")
                assert found.startswith(b"HTTP/1.1 200 OK\r\n")
                length = found.lower().partition(b"content-length:")[2].split()[0]
                assert json.loads(await reader.readexactly(int(length))) == message()
            received = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
            writer.close()
    # Of struct tcp_info, tcpi_data_segs_in: in how many parts 20 answers came.
    assert struct.unpack_from("I", received, 152)[0] < 30


async def test_an_oauth_token_goes_as_bearer_with_its_beta(tmp_path: Path) -> None:
    configuration = document(tmp_path, credential={"file": str(tmp_path / "key"), "kind": "OAuthToken"})
    async with provider() as api:
        configuration["provider"]["baseURL"] = api.url
        with running(tmp_path, configuration) as gateway:
            assert (await post(gateway.broker, **{"anthropic-beta": "x-1"}))[0] == 200
    (seen,) = api.seen
    assert seen.header("authorization") == [f"Bearer {KEY}"]
    assert (seen.header("x-api-key"), seen.header("anthropic-beta")) == ([], ["x-1,oauth-2025-04-20"])


async def test_what_is_refused_is_refused_in_the_apis_own_form_and_never_sent(tmp_path: Path) -> None:
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (401, "authentication_error", {"x-api-key": "wrong"}),
        (401, "authentication_error", {"authorization": "Bearer other"}),
        (400, "invalid_request_error", {"body": b"{}"}),
        (400, "invalid_request_error", {"body": {**BODY, "model": 1}}),
        (400, "invalid_request_error", {"body": b'{"model":"a","model":"b"}'}),
        (400, "invalid_request_error", {"body": b'{"model":"claude-sonnet-5-5","mod\\u0065l":"claude-opus-5-5"}'}),
        (400, "invalid_request_error", {"body": {**BODY, "model": "claude-opus-5-5"}}),
        (400, "invalid_request_error", {"content-encoding": "gzip"}),
        (400, "invalid_request_error", {"path": "/v1/messages?a=<"}),
        (404, "not_found_error", {"path": "/v1/messages/"}),
        (404, "not_found_error", {"path": "/v1//messages"}),
        (404, "not_found_error", {"path": "/v1/messages%2f"}),
        (404, "not_found_error", {"path": "/v1/files"}),
        (404, "not_found_error", {"path": "/v1/messages/batches"}),
        (404, "not_found_error", {"path": "/v1/organizations/me"}),
        (404, "not_found_error", {"path": "/v1/models/../organizations"}),
    ]
    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=api.url, models=["claude-sonnet-*"])) as gateway:
            for expected, kind, case in cases:
                status, found, _ = await post(gateway.broker, **case)
                assert (status, found["type"], found["error"]["type"]) == (expected, "error", kind), case
    assert api.seen == []


async def test_a_stream_comes_as_it_is_sent_and_a_client_that_goes_ends_it_at_the_provider(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def stream(request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        start = {"type": "message_start", "message": message(1)}
        await response.write(f"event: message_start\ndata: {json.dumps(start)}\n\n".encode())
        await go_on.wait()
        await response.write(b"event: ping\ndata: {}\n\n")
        await asyncio.sleep(30)
        return response

    async with provider() as api, aiohttp.ClientSession() as session:
        api.answer = stream
        with running(tmp_path, document(tmp_path, provider=api.url, budget={"maxCostUSD": "1"})) as gateway:
            async with session.post(f"http://{gateway.broker}/v1/messages", json=BODY, headers=IDENTITY) as answer:
                assert b"message_start" in await asyncio.wait_for(answer.content.readany(), 5)
                go_on.set()
                assert await asyncio.wait_for(answer.content.readany(), 5) == b"event: ping\ndata: {}\n\n"
                answer.close()
            await until(lambda: api.cancelled)
            (line,) = await gateway.audited(1)
    assert (line["verdict"], line["estimated"], line["inputTokens"], line["outputTokens"]) == (
        "Cancelled",
        True,
        10,
        1000,
    )


async def test_who_does_not_read_makes_the_provider_wait(tmp_path: Path) -> None:
    written = 0

    async def flood(request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"data: " + b"x" * 65529 + b"\n")
            written += 65536
        return response

    async with provider() as api:
        api.answer = flood
        with running(tmp_path, document(tmp_path, provider=api.url)) as gateway:
            host, _, port = gateway.broker.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=2**16)
            data = json.dumps(BODY)
            lines = [
                f"{name}: {value}" for name, value in {**IDENTITY, "host": "x", "content-length": len(data)}.items()
            ]
            writer.write(("POST /v1/messages HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n" + data).encode())
            assert b"200" in await reader.readline()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.5)
            before = written
            await asyncio.sleep(0.5)
            assert written == before < 40 << 20
            writer.transport.abort()


async def test_a_body_of_32_megabytes_passes_and_one_that_is_refused_at_its_end_never_ends_at_the_provider(
    tmp_path: Path,
) -> None:
    big = {**BODY, "messages": ["x" * (31 << 20)]}
    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=api.url, models=["claude-sonnet-*"])) as gateway:
            assert (await post(gateway.broker, big))[0] == 200
            assert len(api.seen[0].body) > 31 << 20
            api.seen.clear()
            late = json.dumps({"messages": big["messages"], "max_tokens": 1, "model": "claude-opus-5-5"}).encode()
            status, found, _ = await post(gateway.broker, late)
            assert (status, found["error"]["type"]) == (400, "invalid_request_error")
            status, found, _ = await post(gateway.broker, b" " * (33 << 20))
            assert (status, found["error"]["type"]) == (413, "request_too_large")
    assert api.seen == []


async def test_200_streams_at_once(tmp_path: Path) -> None:
    opened, all_open = 0, asyncio.Event()

    async def stream(request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        nonlocal opened
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        start = {"type": "message_start", "message": message(1)}
        await response.write(f"event: message_start\ndata: {json.dumps(start)}\n\n".encode())
        opened += 1
        if opened == STREAMS:
            all_open.set()
        await all_open.wait()
        for number in range(5):
            await response.write(b"event: ping\ndata: %d\n\n" % number)
            await asyncio.sleep(0.01)
        end = {"type": "message_delta", "usage": {"output_tokens": 7}}
        await response.write(f"event: message_delta\ndata: {json.dumps(end)}\n\n".encode())
        return response

    async def ask(session: aiohttp.ClientSession, where: str) -> bytes:
        async with session.post(f"http://{where}/v1/messages", json=BODY, headers=IDENTITY) as answer:
            return await answer.read()

    async with provider() as api, asyncio.timeout(120):
        api.answer = stream
        with running(tmp_path, document(tmp_path, provider=api.url)) as gateway:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                found = await asyncio.gather(*(ask(session, gateway.broker) for _ in range(STREAMS)))
            lines = await gateway.audited(STREAMS)
    # None ended before all were open.
    assert {one.count(b"event: ping") for one in found} == {5}
    assert {(line["verdict"], line["outputTokens"]) for line in lines} == {("Allowed", 7)}
    assert len(lines) == STREAMS


async def test_200_requests_at_once_against_a_budget_for_ten(tmp_path: Path) -> None:
    # By the bound of a request: 1,000 tokens written, and its body and what is hidden read at the dearest rate.
    prompt = len(json.dumps(BODY)) + 3000
    one = 1000 * 10 + prompt * 4
    spent = message(1000, input_tokens=0, cache_creation_input_tokens=prompt)
    configuration = document(tmp_path, budget={"maxCostUSD": f"{one * 10 / 10**6:.6f}"})
    configuration["ledgerDirectory"] = str(tmp_path / "ledger")
    (tmp_path / "ledger").mkdir()
    async with provider() as api, asyncio.timeout(60):
        api.answer = answered(body=spent)
        configuration["provider"]["baseURL"] = api.url
        with running(tmp_path, configuration) as gateway:
            found = await asyncio.gather(*(post(gateway.broker) for _ in range(200)))
            statuses = sorted(status for status, _, _ in found)
            assert (len(api.seen), statuses.count(200)) == (10, 10)
            assert set(statuses) <= {200, 402, 429}
            status, refusal, answer = await post(gateway.broker)
            assert (status, refusal["error"]["type"], answer.headers["x-should-retry"]) == (
                402,
                "billing_error",
                "false",
            )
            assert "The budget of this sandbox is spent" in refusal["error"]["message"]
            assert sum(line.get("costUSD", 0) for line in await gateway.audited(201)) == pytest.approx(one * 10 / 10**6)
            assert gateway.stop() == 0
    account = json.loads((tmp_path / "ledger" / "uid-1.json").read_text())["account"]
    assert (account["spent"], account["overrun"], account["reserved"]) == (one * 10 * 1000, 0, {})


async def test_what_failed_costs_nothing(tmp_path: Path) -> None:
    configuration = document(tmp_path, budget={"maxCostUSD": "0.03"})
    async with provider() as api:
        configuration["provider"]["baseURL"] = api.url
        with running(tmp_path, configuration) as gateway:
            api.answer = answered(529, {"type": "error", "error": {"type": "overloaded_error", "message": "m"}})
            for _ in range(5):
                status, found, _ = await post(gateway.broker)
                assert (status, found["error"]["type"]) == (529, "overloaded_error")
            api.answer = answered()
            assert (await post(gateway.broker))[0] == 200
        configuration["provider"]["baseURL"] = "http://127.0.0.1:9"
        with running(tmp_path, configuration) as gateway:
            for _ in range(5):
                assert (await post(gateway.broker))[0] == 502


async def test_rate_and_concurrency(tmp_path: Path) -> None:
    configuration = document(tmp_path)
    configuration["limits"] = {"requestsPerMinutePerSandbox": 3}
    async with provider() as api:
        configuration["provider"]["baseURL"] = api.url
        with running(tmp_path, configuration) as gateway:
            found = [await post(gateway.broker) for _ in range(4)]
    assert [status for status, _, _ in found] == [200, 200, 200, 429]
    assert found[3][1]["error"]["type"] == "rate_limit_error"
    assert 1 <= int(found[3][2].headers["retry-after"]) <= 20


async def test_a_new_key_is_used_within_a_second_and_fails_nothing_under_way(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(_request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        await release.wait()
        return web.json_response(message())

    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=api.url)) as gateway:
            api.answer = slow
            under_way = asyncio.create_task(post(gateway.broker))
            await until(lambda: api.seen)
            api.answer = answered()
            write(tmp_path / "key", "sk-ant-another")
            await asyncio.sleep(1)
            assert (await post(gateway.broker))[0] == 200
            release.set()
            assert (await under_way)[0] == 200
            (tmp_path / "key").unlink()
            await asyncio.sleep(1)
            assert (await post(gateway.broker))[0] == 503
    assert [seen.header("x-api-key") for seen in api.seen] == [[KEY], ["sk-ant-another"]]


async def test_a_wrong_configuration_changes_nothing_and_is_told(tmp_path: Path) -> None:
    configuration = document(tmp_path)
    async with provider() as api, aiohttp.ClientSession() as session:
        configuration["provider"]["baseURL"] = api.url
        with running(tmp_path, configuration) as gateway:
            gateway.configure({**configuration, "limits": {"drainSeconds": -1}})
            await until(lambda: "the configuration is not followed" in gateway.output())
            assert (await post(gateway.broker))[0] == 200
            async with session.get(f"http://{gateway.health}/readyz") as answer:
                found = await answer.json()
            assert found["configuration"] == "limits.drainSeconds: write a whole number from 0 to 86400"
            assert gateway.output().count("the configuration is not followed: limits.drainSeconds") == 1
            gateway.configure({**configuration, "sandboxes": []})
            async with asyncio.timeout(20):
                while (await post(gateway.broker))[0] != 401:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)


async def test_a_body_that_takes_long_is_judged_by_what_is_declared_at_its_end(tmp_path: Path) -> None:
    """Else who begins a request before a model is taken away may ask for it long after."""
    body = json.dumps(BODY).encode()
    async with provider() as api:
        configuration = document(tmp_path, provider=api.url)
        with running(tmp_path, configuration) as gateway:
            host, _, port = gateway.broker.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {PLACEHOLDER}\r\ncontent-length: {len(body)}"
            writer.write(f"{head}\r\n\r\n".encode() + body[:-1])
            async with aiohttp.ClientSession() as session:

                async def open_requests() -> int:
                    async with session.get(f"http://{gateway.health}/readyz") as answer:
                        return int((await answer.json())["requests"])

                async with asyncio.timeout(60):
                    while await open_requests() != 1:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            (one,) = configuration["sandboxes"]
            gateway.configure({**configuration, "sandboxes": [{**one, "models": ["claude-opus-*"]}]})
            async with asyncio.timeout(60):
                while (await post(gateway.broker))[0] != 400:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            asked = len(api.seen)
            writer.write(body[-1:])
            found = await reader.readuntil(b"\r\n")
            writer.close()
    assert (found.split()[1], len(api.seen)) == (b"400", asked)


@pytest.mark.parametrize("again", [False, True], ids=["gone", "another came"])
async def test_a_credential_that_is_taken_away_while_a_long_body_comes_is_not_used(tmp_path: Path, again: bool) -> None:
    """Else an agent keeps a compromised key in use by not ending a request's body, for as long as it likes."""
    body = json.dumps({**BODY, "messages": ["x" * (1 << 20)]}).encode()
    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=api.url)) as gateway:
            host, _, port = gateway.broker.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {PLACEHOLDER}\r\ncontent-length: {len(body)}"
            writer.write(f"{head}\r\n\r\n".encode() + body[:-1])
            await until(lambda: api.begun)
            (tmp_path / "key").unlink()
            async with asyncio.timeout(60):
                while (await post(gateway.broker))[0] != 503:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            if again:
                write(tmp_path / "key", "sk-ant-another")
                async with asyncio.timeout(60):
                    while (await post(gateway.broker))[0] != 200:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            writer.write(body[-1:])
            found = await reader.readuntil(b"\r\n")
            writer.close()
            await until(lambda: [one for one in gateway.audit() if one["bytesUp"] == len(body)])
            (line,) = [one for one in gateway.audit() if one["bytesUp"] == len(body)]
    assert (found.split()[1], line["rule"]) == (b"503", "credential")
    assert not [seen for seen in api.seen if len(seen.body) > 1 << 20]


async def test_what_a_sandbox_has_under_way_ends_with_its_quarantine(tmp_path: Path) -> None:
    """In a cluster such a sandbox stays known, so that its account goes on: as one without a credential."""
    go_on = asyncio.Event()

    async def slow(_request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        await go_on.wait()
        return web.json_response(message())

    async with provider() as api, broker_of(tmp_path, document(tmp_path, provider=api.url)) as lab:
        api.answer = slow
        under_way = asyncio.create_task(post(lab.where))
        await until(lambda: api.seen)
        (one,) = lab.live.sandboxes.values()
        lab.live = replace(lab.live, sandboxes={one.uid: replace(one, credential=None)}, credentials={})
        lab.broker.changed()
        await until(lambda: api.cancelled)
        with pytest.raises(aiohttp.ClientError):
            await under_way
    (told,) = lab.lines
    assert (told["verdict"], told["rule"]) == ("Cancelled", "no longer allowed")


async def test_who_goes_before_the_provider_was_reached_has_used_nothing(tmp_path: Path) -> None:
    class Never(Upstreams):
        @contextlib.asynccontextmanager
        async def exchange(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
            connecting.set()
            await asyncio.sleep(60)
            yield

    connecting = asyncio.Event()
    configuration = document(tmp_path, budget={"maxCostUSD": "1"})
    async with broker_of(tmp_path, configuration, Never()) as lab:
        under_way = asyncio.create_task(post(lab.where))
        await asyncio.wait_for(connecting.wait(), 60)
        under_way.cancel()
        await until(lambda: not lab.broker.open)
        await lab.books.flush()
        account = await lab.books.account("uid-1")
    assert (account.spent, account.reserved, [one["verdict"] for one in lab.lines]) == (0, {}, ["Cancelled"])


@dataclass
class Lab:
    """A broker in this process, at `where`, which goes by `live`."""

    broker: Broker
    books: Bookkeeper
    where: str
    live: Live
    written: list[bytes]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in b"".join(self.written).splitlines()]


@contextlib.asynccontextmanager
async def broker_of(
    directory: Path, configuration: dict[str, Any], upstreams: Upstreams | None = None
) -> AsyncIterator[Lab]:
    write(directory / "config.json", json.dumps(configuration))
    follower = Follower(directory / "config.json")
    follower.start()
    written: list[bytes] = []
    audit, books, upstreams = Audit(written.append), Bookkeeper(MemoryStore()), upstreams or Upstreams()
    lab: Lab | None = None
    broker = Broker(lambda: lab.live if lab else follower.live, audit, books, upstreams)
    runner = web.ServerRunner(web.Server(broker.handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    lab = Lab(broker, books, f"127.0.0.1:{runner.addresses[0][1]}", follower.live, written)
    try:
        yield lab
    finally:
        await runner.cleanup()
        await upstreams.close()
        await audit.close()


async def test_it_ends_when_what_is_under_way_has_ended(tmp_path: Path) -> None:
    async def slow(_request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        await asyncio.sleep(1.5)
        return web.json_response(message())

    async with provider() as api:
        api.answer = slow
        with running(tmp_path, document(tmp_path, provider=api.url)) as gateway:
            under_way = asyncio.create_task(post(gateway.broker))
            await until(lambda: api.seen)
            started = time.monotonic()
            gateway.process.terminate()
            assert (await under_way)[0] == 200
            assert await asyncio.to_thread(gateway.process.wait, 5) == 0
            assert time.monotonic() - started < 5
            assert [line["status"] for line in await gateway.audited(1)] == [200]


async def test_a_gateway_that_can_write_no_audit_ends(tmp_path: Path) -> None:
    """It went on, unseen, for a thousand requests, and then each of them waited for ever."""
    (tmp_path / "audit").symlink_to("/dev/full")
    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=api.url)) as gateway:
            assert (await post(gateway.broker))[0] == 200
            assert await asyncio.to_thread(gateway.process.wait, 60) == 1
    assert "its audit can't be written: No space left on device" in (tmp_path / "errors").read_text()


async def test_no_secret_is_in_anything_that_it_writes(tmp_path: Path) -> None:
    async with provider() as api:
        api.answer = answered(401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid"}})
        with running(tmp_path, document(tmp_path, provider=api.url, budget={"maxCostUSD": "1"})) as gateway:
            await post(gateway.broker, {**BODY, "system": "a-word-of-the-prompt"}, path="/v1/messages?q=in-the-query")
            await post(gateway.broker, path="/v1/unknown-path", **{"x-api-key": "a-wrong-identity"})
            await post(
                gateway.broker, {**BODY, "model": 'm\r\n{"forged":1}'}, **{"x-claude-code-session-id": "s\u00e9"}
            )
            gateway.stop()
            text = gateway.output()
            lines = await gateway.audited(3)
    for secret in (
        KEY,
        PLACEHOLDER,
        "a-word-of-the-prompt",
        "in-the-query",
        "a-wrong-identity",
        "unknown-path",
        'forged":1',
    ):
        assert secret not in text
    assert len(lines) == 3
    assert lines[2]["model"] == 'm??{"forged":1}'
    assert "sessionId" not in lines[2]


FRAMINGS = {
    "both lengths": "content-length: 0\r\ntransfer-encoding: chunked",
    "a length twice": "content-length: 0\r\ncontent-length: 5",
    "a length with a sign": "content-length: +5",
    "a folded header": "x: a\r\n b",
    "a control character": "x: a\x0bb",
    "a bare line feed": "x: a\nhost: b",
    "an unknown coding": "transfer-encoding: xchunked",
    "a compressed body": "content-encoding: gzip\r\ncontent-length: 0",
    "another protocol": "upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 0",
}


async def test_requests_that_could_be_read_in_two_ways_are_refused_and_end_the_connection(tmp_path: Path) -> None:
    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=api.url)) as gateway:
            host, _, port = gateway.broker.partition(":")
            for name, lines in FRAMINGS.items():
                reader, writer = await asyncio.open_connection(host, int(port))
                head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {PLACEHOLDER}\r\n{lines}\r\n\r\n"
                again = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: {PLACEHOLDER}\r\n\r\n"
                writer.write(f"{head}0\r\n\r\n{again}".encode("latin-1"))
                answer = await asyncio.wait_for(reader.read(), 10)
                assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), name
                assert answer.count(b"HTTP/1.") == 1, name
                writer.transport.abort()
    assert api.seen == []


async def test_files_and_batches_where_they_are_open(tmp_path: Path) -> None:
    async with provider() as api:
        with running(tmp_path, document(tmp_path, provider=api.url, apis=["Files", "Batches", "Messages"])) as gateway:
            big = b"x" * (2 << 20)
            assert (await post(gateway.broker, big, path="/v1/files", **{"content-type": "multipart/form-data"}))[
                0
            ] == 200
            assert (await post(gateway.broker, {"requests": []}, path="/v1/messages/batches"))[0] == 200
        limited = document(tmp_path, provider=api.url, apis=["Batches"], budget={"maxCostUSD": "1"})
        with running(tmp_path, limited) as gateway:
            status, found, _ = await post(gateway.broker, {"requests": []}, path="/v1/messages/batches")
            assert (status, "batches can't be limited" in found["error"]["message"]) == (400, True)
    assert [(one.target, len(one.body)) for one in api.seen] == [("/v1/files", 2 << 20), ("/v1/messages/batches", 16)]


async def test_who_opens_many_connections_has_them_closed(tmp_path: Path) -> None:
    configuration = document(tmp_path)
    configuration["limits"] = {"requestsPerSandbox": 5}
    async with provider() as api:
        configuration["provider"]["baseURL"] = api.url
        with running(tmp_path, configuration) as gateway:
            host, _, port = gateway.broker.partition(":")
            opened = [await asyncio.open_connection(host, int(port)) for _ in range(12)]
            ended = [asyncio.create_task(reader.read()) for reader, _ in opened]
            await until(lambda: sum(task.done() for task in ended) == 2)
            for _, writer in opened:
                writer.transport.abort()
            await asyncio.gather(*ended, return_exceptions=True)
            assert (await post(gateway.broker))[0] == 200
