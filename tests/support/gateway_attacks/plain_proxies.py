"""A proxy and a broker that let everything through: what has to succeed there to be an attack at all."""

import asyncio
import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Mapping, Sequence

from aiohttp import ClientSession, web
from yarl import URL


@contextlib.asynccontextmanager
async def plain_proxy(addresses: Mapping[str, Sequence[str]]) -> AsyncIterator[str]:
    """A forward proxy that reads as tolerantly as it can, and lets everything through; `HOST:PORT`. Names not in
    `addresses` are taken as the system's resolver takes them, with its ways to write an address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = None
        try:
            head = await until_blank(reader)
            method, target, *_ = head.decode("latin-1").split()
            authority = target if method == "CONNECT" else target.partition("//")[2]
            if method != "CONNECT":
                authority = authority[: min(authority.find(mark) for mark in "/?#" if mark in f"{authority}/?#")]
            host, port = _read(authority)
            there, server = await asyncio.open_connection(addresses.get(host, (host,))[0], port)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                server.write(head.replace(target.partition("//")[0].encode() + b"//" + authority.encode(), b"", 1))
            await asyncio.gather(_copy(reader, server), _copy(there, writer))
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            for one in (writer, server):
                if one is not None:
                    one.transport.abort()

    serving: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    async with server:
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


def _read(authority: str) -> tuple[str, int]:
    host, colon, port = authority.rpartition("@")[2].rpartition(":")
    if not colon or not port.isdigit():
        host, port = authority.rpartition("@")[2], "80"
    host = urllib.parse.unquote(host.encode("latin-1").decode("utf-8", "replace")).partition("\0")[0].strip("[]")
    with contextlib.suppress(UnicodeError):
        host = host.encode("idna").decode()
    return host.lower().rstrip("."), int(port)


async def until_blank(reader: asyncio.StreamReader) -> bytes:
    """A head of a request, however its lines end; b"" at the end."""
    head = b""
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        line = await reader.readline()
        if not line:
            return b""
        head += line
    return head


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.write_eof()


@contextlib.asynccontextmanager
async def plain_broker(upstream: str, key: str) -> AsyncIterator[str]:
    """What people write: replace the header, look for a model that is not allowed, pass everything on; `HOST:PORT`."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if b'"claude-opus' in body.partition(b'"messages"')[0]:
            return web.Response(status=400)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "x-api-key")}
        headers["x-api-key"] = key
        url = URL(upstream + request.raw_path, encoded=True)
        async with session.request(request.method, url, data=body, headers=headers) as answer:
            return web.Response(status=answer.status, body=await answer.read())

    runner = web.ServerRunner(web.Server(handle, access_log=None, auto_decompress=False), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as session:
        try:
            yield f"127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
