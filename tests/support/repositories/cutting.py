"""A way to a server on loopback that breaks off after so many bytes, as networks do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass
class Cut:
    """`up`, `down`: bytes after which a connection ends, to the server and from it; None for never."""

    port: int = 0
    up: int | None = None
    down: int | None = None


@contextlib.asynccontextmanager
async def cutting(port: int) -> AsyncIterator[Cut]:
    """A relay to this port; what is set of it counts for each connection by itself."""
    cut = Cut()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ways = (_copied(reader, back, cut.up), _copied(there, writer, cut.down))
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            writer.transport.abort()
            back.transport.abort()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    cut.port = server.sockets[0].getsockname()[1]
    async with server:
        yield cut
        server.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> None:
    with contextlib.suppress(ConnectionError):
        while (most is None or most > 0) and (part := await reader.read(min(65536, most or 65536))):
            writer.write(part)
            await writer.drain()
            most = None if most is None else most - len(part)
