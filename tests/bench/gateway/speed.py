"""`python -m tests.bench.gateway`: what the gateway costs, against the same without it, in one run on one machine.

Client, stand-in and gateway share the machine, so the figures are good for comparing within the run, and no more. A
request is 2 KB of JSON both ways, a stream 200 events that the stand-in sends 2 ms apart with the time at which each
was sent, a tunnel one download over TLS.
"""

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import ClientSession, TCPConnector, web
from tests.support.gatewaykit import PLACEHOLDER, Gateway, authority, basic, document, message, provider, running

NAME = "bench.example.org"
BODY = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "x" * 1900}]}
HEADERS = {"x-api-key": PLACEHOLDER, "content-type": "application/json"}
EVENTS = 200


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway", description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="of each kind (default %(default)s)")
    parser.add_argument("--megabytes", type=int, default=512, help="of a download (default %(default)s)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for line in asyncio.run(_measure(Path(directory), asked.requests, asked.megabytes)):
            print(line)


async def _measure(directory: Path, count: int, megabytes: int) -> list[str]:
    trust = authority(directory, NAME)
    async with provider() as api:
        api.answer = _answer
        download = await asyncio.start_server(_download(megabytes), "127.0.0.1", 0, ssl=trust.server())
        port = download.sockets[0].getsockname()[1]
        configuration = document(directory, provider=api.url, allowedDomains=[f"{NAME}:{port}"])
        configuration["egress"]["hosts"] = {NAME: ["127.0.0.1"]}
        configuration["limits"] = {"requestsPerMinutePerSandbox": 1_000_000}
        async with download:
            with running(directory, configuration) as gateway:
                rows = [("", "direct", "gateway", "ratio")]
                urls = (api.url, f"http://{gateway.broker}")
                before = _cpu(gateway.process.pid)
                rows += await _requests(urls, count)
                spent = (_cpu(gateway.process.pid) - before) * 1000 / (count * 3 + 1)
                rows.append(("CPU of the gateway for a request, ms", "", f"{spent:.2f}", ""))
                rows += await _events(urls)
                rows += await _tunnels(gateway, port, trust.bundle, megabytes)
                rows.append(("memory of the gateway, MB", "", f"{_memory(gateway.process.pid):.0f}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


async def _answer(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    if b'"stream": true' not in body:
        return web.json_response({**message(), "content": [{"type": "text", "text": "y" * 1900}]})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(EVENTS):
        await response.write(b"event: content_block_delta\ndata: %d\n\n" % time.monotonic_ns())
        await asyncio.sleep(0.002)
    return response


def _download(megabytes: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(1)
            for _ in range(megabytes):
                writer.write(bytes(1 << 20))
                await writer.drain()
        writer.close()

    return serve


async def _requests(urls: Sequence[str], count: int) -> list[tuple[str, str, str, str]]:
    """One at a time, alternating, so that what else the machine does is the same for both; then 32 at once."""
    times: list[list[float]] = [[], []]
    rates = []
    async with ClientSession(connector=TCPConnector(limit=0)) as session:

        async def one(url: str) -> float:
            started = time.perf_counter()
            async with session.post(f"{url}/v1/messages", json=BODY, headers=HEADERS) as answer:
                await answer.read()
                assert answer.status == 200
            return (time.perf_counter() - started) * 1000

        for url in urls:
            await one(url)
        for _ in range(count):
            for which, url in enumerate(urls):
                times[which].append(await one(url))
        for url in urls:
            left = iter(range(count * 2))

            async def worker(url: str = url, left: object = left) -> None:
                for _ in left:  # type: ignore[attr-defined]
                    await one(url)

            started = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(32)))
            rates.append(count * 2 / (time.perf_counter() - started))
    return [
        *_percentiles("request of 2 KB", times),
        ("requests a second, 32 at once", f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{rates[1] / rates[0]:.2f}"),
    ]


async def _events(urls: Sequence[str]) -> list[tuple[str, str, str, str]]:
    lags: list[list[float]] = []
    async with ClientSession() as session:
        for url in urls:
            found = []
            body = json.dumps({**BODY, "stream": True})
            async with session.post(f"{url}/v1/messages", data=body, headers=HEADERS) as answer:
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        found.append((time.monotonic_ns() - int(line[6:])) / 1e6)
            assert len(found) == EVENTS
            lags.append(found)
    return _percentiles("lag of an event", lags)


async def _tunnels(gateway: Gateway, port: int, bundle: Path, megabytes: int) -> list[tuple[str, str, str, str]]:
    context = ssl.create_default_context(cafile=bundle)
    openings: list[list[float]] = [[], []]
    rates = []
    for _ in range(50):
        for which, proxy in enumerate((None, gateway.proxy)):
            started = time.perf_counter()
            _, writer = await _open(proxy, port, context)
            openings[which].append((time.perf_counter() - started) * 1000)
            writer.transport.abort()
    for proxy in (None, gateway.proxy):
        reader, writer = await _open(proxy, port, context)
        writer.write(b"x")
        started, size = time.perf_counter(), 0
        while part := await reader.read(1 << 18):
            size += len(part)
        assert size == megabytes << 20
        rates.append(megabytes / (time.perf_counter() - started))
        writer.transport.abort()
    return [
        *_percentiles("new connection with TLS", openings),
        ("download over TLS, MB/s", f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{rates[1] / rates[0]:.2f}"),
    ]


async def _open(
    proxy: str | None, port: int, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if proxy is None:
        return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
    host, _, number = proxy.partition(":")
    reader, writer = await asyncio.open_connection(host, int(number))
    head = f"CONNECT {NAME}:{port} HTTP/1.1\r\nhost: {NAME}:{port}\r\nproxy-authorization: {basic()}\r\n\r\n"
    writer.write(head.encode())
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    await writer.start_tls(context, server_hostname=NAME)
    return reader, writer


def _percentiles(name: str, samples: Sequence[Sequence[float]]) -> list[tuple[str, str, str, str]]:
    rows = []
    for label, at in (("p50", 50), ("p99", 99)):
        direct, through = (statistics.quantiles(one, n=100)[at - 1] for one in samples)
        rows.append((f"{name}, {label}, ms", f"{direct:.2f}", f"{through:.2f}", f"{through / direct:.2f}"))
    return rows


def _cpu(pid: int) -> float:
    """That it has used, in seconds: what else the machine does changes it little."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    """Resident, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
