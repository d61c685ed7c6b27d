"""One connection forwarded: bytes both ways, with each direction's end told to the other side."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

CHUNK = 16 * 1024
"""Bytes that are read at a time."""
BUFFER = 32 * 1024
"""Bytes that wait for a slow receiver before its sender is made to wait: for each direction, give or take a chunk."""


@dataclass(frozen=True)
class Limits:
    """What a relay takes part in at most. Times in seconds."""

    connections: int = 128
    """At a time, of all ports together; a further one is closed at once."""
    idle: float = 3600.0
    """Without a byte in either direction, after which a connection is ended."""
    connect: float = 10.0
    """That the target may take to accept."""


@dataclass(frozen=True)
class Target:
    """Where a port leads: a name or an address, and a TCP port."""

    host: str
    port: int


class SameSideError(Exception):
    """The target is on the side that connections come from."""


async def forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target, limits: Limits, outside: str
) -> None:
    """Connect to the target, and pass on until both sides have ended, one has failed, or nothing moves any more.

    `outside`: the address that is listened on. Raises OSError and TimeoutError where the target can't be reached, and
    SameSideError where the way to it begins at that very address, so that it is not inside.
    """
    async with asyncio.timeout(limits.connect):
        inner_reader, inner_writer = await asyncio.open_connection(target.host, target.port, limit=BUFFER)
    try:
        if inner_writer.get_extra_info("sockname")[0] == outside != inner_writer.get_extra_info("peername")[0]:
            raise SameSideError
        # A peer that vanished without a word is noticed by the kernel.
        for one in (writer, inner_writer):
            one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with suppress(OSError, TimeoutError):
            await _both_ways((reader, writer), (inner_reader, inner_writer), limits.idle)
    finally:
        inner_writer.transport.abort()


Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _both_ways(one: Side, other: Side, idle: float) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle) as bound:

        def moved() -> None:
            bound.reschedule(loop.time() + idle)

        # The first that fails ends the other: half of a broken connection is of no use to anyone.
        tasks = [asyncio.create_task(_one_way(a[0], b[1], moved)) for a, b in ((one, other), (other, one))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # Both ends were told; what is still in the buffers has to get out before the connection is dropped.
        for _, writer in (one, other):
            writer.close()
            await writer.wait_closed()


async def _one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moved: Callable[[], None]) -> None:
    while part := await reader.read(CHUNK):
        moved()
        writer.write(part)
        await writer.drain()
        moved()
    writer.write_eof()
