"""By which way the provider is reached: a bundle that comes with the configuration, and a company's proxy before it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from gatewaykit import PLACEHOLDER, Gateway, answered, authority, document, running

BODY = {"model": "claude-test-1", "max_tokens": 10, "messages": [{"role": "user", "content": "ping"}]}
NAME = "llm.corp.example.org"


@contextlib.asynccontextmanager
async def upstream_proxy(leads_to: int, asked: list[str]) -> AsyncIterator[str]:
    """A company's proxy: whatever is asked for is the server on this port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        inner, outer = await asyncio.open_connection("127.0.0.1", leads_to)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_copied(reader, outer), _copied(inner, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


async def ask(gateway: Gateway) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(headers={"x-api-key": PLACEHOLDER}) as session,
        session.post(f"http://{gateway.broker}/v1/messages", json=BODY) as answer,
    ):
        return answer.status, await answer.text()


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """Where a provider listens whose certificate is from a company's own authority."""
    trust = authority(tmp_path, NAME)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await answered(200)(request, await request.read())

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust.server()).start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


async def test_a_company_s_bundle_and_proxy_lead_to_the_provider_and_nothing_else_does(
    tmp_path: Path, port: int
) -> None:
    asked: list[str] = []
    async with upstream_proxy(port, asked) as proxy:
        found = document(tmp_path, provider=f"https://{NAME}")
        found["provider"] |= {"caBundle": (tmp_path / "ca.pem").read_text(), "upstreamProxy": proxy}
        with running(tmp_path, found) as gateway:
            assert (await ask(gateway))[0] == 200
            assert asked == [f"CONNECT {NAME}:443 HTTP/1.1"]
            # Another authority's, while it runs: the next request goes by it.
            stranger = tmp_path / "stranger"
            stranger.mkdir()
            authority(stranger, NAME)
            other = {**found, "provider": {**found["provider"], "caBundle": (stranger / "ca.pem").read_text()}}
            gateway.configure(other)
            async with asyncio.timeout(10):
                while (last := await ask(gateway))[0] == 200:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(0.1)
            assert last[0] == 502
            assert json.loads(last[1])["error"]["type"] == "api_error"


@pytest.mark.parametrize("others", [False, True], ids=["no bundle", "a bundle for other servers"])
async def test_without_the_bundle_its_certificate_is_worth_nothing(tmp_path: Path, port: int, others: bool) -> None:
    async with upstream_proxy(port, []) as proxy:
        found = document(tmp_path, provider=f"https://{NAME}")
        found["provider"] |= {"upstreamProxy": proxy}
        if others:
            found["egress"]["caBundle"] = (tmp_path / "ca.pem").read_text()
        with running(tmp_path, found) as gateway:
            assert (await ask(gateway))[0] == 502
