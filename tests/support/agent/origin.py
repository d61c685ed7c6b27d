"""A server of the kind that agents reach through their gateway: files, git, bodies of any size, streams, WebSockets."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import WSMsgType, web
from http_backend import http_backend

_PART = bytes(1 << 20)
EVENTS = 20


@contextlib.asynccontextmanager
async def origin(files: Path, context: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> AsyncIterator[int]:
    """The server, on loopback unless told where, and its port. `/files/…` (of a directory, its `index.html`) and, as
    `git http-backend` has them, `/git/…` are below `files`; `/bytes/N` gives N MiB; `/digest` answers with the size and
    the SHA-256 of the body; `/events` sends `EVENTS` server-sent events; `/socket` says again what it hears."""
    app = web.Application(client_max_size=1 << 30)

    async def index(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(files / request.match_info["path"] / "index.html")

    app.add_routes([
        web.get("/files/{path:.*}/", index),
        web.static("/files", files),
        web.route("*", "/git/{path:.*}", http_backend(files)),
        web.get("/bytes/{count}", _bytes),
        web.route("*", "/digest", _digest),
        web.get("/events", _events),
        web.get("/socket", _socket),
    ])  # fmt: skip
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, 0, ssl_context=context, backlog=512).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _bytes(request: web.Request) -> web.StreamResponse:
    count = int(request.match_info["count"])
    response = web.StreamResponse(headers={"content-length": str(count << 20)})
    await response.prepare(request)
    for _ in range(count):
        await response.write(_PART)
    return response


async def _digest(request: web.Request) -> web.StreamResponse:
    size, digest = 0, hashlib.sha256()
    async for part in request.content.iter_any():
        size += len(part)
        digest.update(part)
    return web.Response(text=f"{size} {digest.hexdigest()}\n")


async def _events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(EVENTS):
        await response.write(b"data: %d\n\n" % number)
        await asyncio.sleep(0.05)
    return response


async def _socket(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(f"{message.data} again")
    return socket
