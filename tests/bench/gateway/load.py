"""What is asked of each column of the benchmark, and what it took: requests, events, tunnels, memory."""

import asyncio
import contextlib
import json
import os
import ssl
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from gatewaykit import PLACEHOLDER, basic, message

NAME = "bench.example.org"
BODY = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "x" * 1900}]}
HEADERS = {"x-api-key": PLACEHOLDER, "content-type": "application/json"}
EVENTS = 200
IDLE = 100
_AT_ONCE = 32


@dataclass(frozen=True)
class Column:
    """One way to the same servers. `url`: of the broker, or None; `proxy`: `HOST:PORT` of the proxy, or None; `pid`: of
    its process; `direct`: there is nothing between. `host`: the name that the proxy is asked for; `trust`: the CA."""

    name: str
    trust: ssl.SSLContext
    url: str | None = None
    proxy: str | None = None
    pid: int | None = None
    host: str = NAME
    direct: bool = False


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds."""

    p50: float
    p99: float


def percentiles(samples: Sequence[float]) -> Percentiles:
    """Of so many milliseconds."""
    found = statistics.quantiles(samples, n=100)
    return Percentiles(found[49], found[98])


async def answer(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    """As a provider: 2 KB, or `EVENTS` events 2 ms apart, each with the time at which it was sent; or, to `idle`, one
    event, and then nothing until the client goes."""
    if b'"stream": true' not in body:
        return web.json_response({**message(), "content": [{"type": "text", "text": "y" * 1900}]})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    if b'"idle"' in body:
        await response.write(b"event: ping\ndata: 0\n\n")
        await asyncio.sleep(300)
    for _ in range(EVENTS):
        await response.write(b"event: content_block_delta\ndata: %d\n\n" % time.monotonic_ns())
        await asyncio.sleep(0.002)
    return response


def download(megabytes: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A server that sends so much to whoever says anything."""
    part = bytes(1 << 20)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(1)
            for _ in range(megabytes):
                writer.write(part)
                await writer.drain()
        writer.close()

    return serve


async def requests(columns: Sequence[Column], count: int) -> tuple[dict[str, Percentiles], dict[str, float]]:
    """How long one takes, one at a time and the columns in turn, so that what else the machine does is the same for
    all; and how many there are in a second, with 32 at once."""
    times: dict[str, list[float]] = {one.name: [] for one in columns}
    rates = {}
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        for _ in range(10):
            for column in columns:
                await _request(session, column)
        for _ in range(count):
            for column in columns:
                times[column.name].append(await _request(session, column))
        for column in columns:
            rates[column.name] = await _rate(session, column, count * 2)
    return {name: percentiles(found) for name, found in times.items()}, rates


async def _request(session: ClientSession, column: Column) -> float:
    started = time.perf_counter()
    async with session.post(f"{column.url}/v1/messages", json=BODY, headers=HEADERS) as found:
        await found.read()
        assert found.status == 200, (column.name, found.status)
    return (time.perf_counter() - started) * 1000


async def _rate(session: ClientSession, column: Column, count: int) -> float:
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await _request(session, column)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    return count / (time.perf_counter() - started)


async def events(columns: Sequence[Column], rounds: int) -> dict[str, Percentiles]:
    """How long after it was sent an event is there; one stream at a time, the columns in turn."""
    lags: dict[str, list[float]] = {one.name: [] for one in columns}
    async with ClientSession() as session:
        for _ in range(rounds):
            for column in columns:
                before = len(lags[column.name])
                async with _stream(session, column) as found:
                    async for line in found.content:
                        if line.startswith(b"data: "):
                            lags[column.name].append((time.monotonic_ns() - int(line[6:])) / 1e6)
                assert len(lags[column.name]) - before == EVENTS, column.name
    return {name: percentiles(found) for name, found in lags.items()}


def _stream(session: ClientSession, column: Column, **more: object) -> "web._RequestContextManager":  # type: ignore[name-defined]
    data = json.dumps({**BODY, "stream": True, **more})
    return session.post(f"{column.url}/v1/messages", data=data, headers=HEADERS)


@contextlib.asynccontextmanager
async def idle_streams(column: Column) -> AsyncIterator[None]:
    """`IDLE` streams, open, in which nothing moves."""
    async with (
        ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None)) as session,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(IDLE):
            found = await stack.enter_async_context(_stream(session, column, metadata={"user_id": "idle"}))
            await found.content.readline()
        yield


async def openings(columns: Sequence[Column], port: int, count: int) -> dict[str, Percentiles]:
    """How long a new connection takes until TLS speaks, the columns in turn."""
    times: dict[str, list[float]] = {one.name: [] for one in columns}
    for _ in range(count):
        for column in columns:
            started = time.perf_counter()
            _, writer = await _open(column, port)
            times[column.name].append((time.perf_counter() - started) * 1000)
            writer.transport.abort()
    return {name: percentiles(found) for name, found in times.items()}


async def downloads(
    columns: Sequence[Column], port: int, megabytes: int, rounds: int, *, tls: bool
) -> dict[str, float]:
    """MB/s of a download, the median; over TLS, or, so that it is not the client's and the server's own TLS that takes
    the time, without."""
    rates: dict[str, list[float]] = {one.name: [] for one in columns}
    for _ in range(rounds):
        for column in columns:
            reader, writer = await _open(column, port, tls=tls)
            writer.write(b"x")
            started, size = time.perf_counter(), 0
            while part := await reader.read(1 << 20):
                size += len(part)
            assert size == megabytes << 20, (column.name, size)
            rates[column.name].append(megabytes / (time.perf_counter() - started))
            writer.transport.abort()
    return {name: statistics.median(found) for name, found in rates.items()}


async def _open(column: Column, port: int, *, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if column.proxy is None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    else:
        host, _, number = column.proxy.partition(":")
        reader, writer = await asyncio.open_connection(host, int(number), limit=1 << 20)
        at = f"{column.host}:{port}"
        writer.write(f"CONNECT {at} HTTP/1.1\r\nhost: {at}\r\nproxy-authorization: {basic()}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, (column.name, head)
    if tls:
        await writer.start_tls(column.trust, server_hostname=NAME)
    return reader, writer


def cpu(pid: int) -> float:
    """What it has used, in seconds: what else the machine does changes it little."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Resident, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000
