"""Streams of hours in seconds: the broker on a clock that jumps to the next timer when nothing has come."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gatewaykit import PLACEHOLDER, document, provider, write
from virtual_clock import PatientLoop

from claude_sandbox.gateway.audit import Audit
from claude_sandbox.gateway.broker.bodies import HELD
from claude_sandbox.gateway.broker.broker import Broker
from claude_sandbox.gateway.broker.upstream import Upstreams
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.store import MemoryStore
from claude_sandbox.gateway.server import follower

BODY = {"model": "claude-sonnet-5-5", "max_tokens": 10, "stream": True}
PING = b"event: ping\ndata: {}\n\n"
IDLE = 120


async def stream(
    directory: Path, gaps: list[float], silence: float = 0, upload: Callable[[], AsyncIterator[bytes]] | None = None
) -> tuple[bytes, float]:
    """What comes of a stream that pings after so many seconds each; when it has ended, in seconds. `silence`: before
    the provider says anything. `upload`: the request's body."""

    async def answer(request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        await asyncio.sleep(silence)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for gap in gaps:
            await asyncio.sleep(gap)
            await response.write(PING)
        return response

    loop, found = asyncio.get_running_loop(), b""
    async with provider() as api:
        api.answer = answer
        configuration = document(directory, provider=api.url)
        configuration["limits"]["streamIdleSeconds"] = IDLE
        write(directory / "config.json", json.dumps(configuration))
        live = follower(directory / "config.json").live
        upstreams, audit = Upstreams(), Audit(sink=lambda _: None)
        broker = Broker(lambda: live, audit, Bookkeeper(MemoryStore()), upstreams)
        server = web.Server(broker.handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = "http://127.0.0.1:%d/v1/messages" % runner.addresses[0][1]  # noqa: UP031
        started = loop.time()
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.post(
                url, data=upload() if upload is not None else json.dumps(BODY), headers={"x-api-key": PLACEHOLDER}
            ) as answered,
        ):
            try:
                async for part in answered.content.iter_any():
                    found += part
            except aiohttp.ClientError:
                found += b"broken off"
        seconds = loop.time() - started
        await audit.close()
        await upstreams.close()
        await runner.cleanup()
    return found, seconds


def on_that_clock(main: Coroutine[Any, Any, tuple[bytes, float]]) -> tuple[bytes, float]:
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(main)


def test_a_stream_of_an_hour_in_which_nothing_but_pings_come(tmp_path: Path) -> None:
    found, seconds = on_that_clock(stream(tmp_path, [15.0] * 240))
    assert found == PING * 240
    assert seconds == pytest.approx(3600, rel=0.01)


def test_a_silence_of_two_minutes_is_borne_and_a_longer_one_ends_the_stream(tmp_path: Path) -> None:
    found, seconds = on_that_clock(stream(tmp_path, [IDLE - 1.0, IDLE - 1.0, IDLE + 10.0]))
    assert found == PING * 2 + b"broken off"
    assert seconds == pytest.approx(3 * IDLE - 2, rel=0.01)


def test_a_provider_that_says_nothing_is_waited_for_as_long(tmp_path: Path) -> None:
    found, seconds = on_that_clock(stream(tmp_path, [], silence=IDLE - 1.0))
    assert (found, seconds) == (b"", pytest.approx(IDLE - 1, rel=0.01))
    found, seconds = on_that_clock(stream(tmp_path, [], silence=IDLE + 10.0))
    assert b"the model's provider does not answer" in found
    assert seconds == pytest.approx(IDLE, rel=0.02)


def test_a_body_may_take_longer_as_long_as_it_comes(tmp_path: Path) -> None:
    async def upload() -> AsyncIterator[bytes]:
        yield json.dumps({**BODY, "metadata": "x" * HELD}).encode()[:-1]
        for _ in range(36):
            await asyncio.sleep(IDLE - 20)
            yield b" "
        yield b"}"

    found, seconds = on_that_clock(stream(tmp_path, [1.0], upload=upload))
    assert (found, seconds) == (PING, pytest.approx(3601, rel=0.01))
