"""Bytes both ways between a client and a server, counted, with limits on how long nothing moves and how long at all."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

CHUNK = 256 * 1024
"""Bytes that are read at a time at most: with 64 KiB a tunnel had half the throughput."""


@dataclass
class Moved:
    """Bytes that went each way: `up` to the server, `down` to the client."""

    up: int = 0
    down: int = 0


@dataclass(frozen=True)
class Side:
    """One end of a tunnel."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class WatchedError(Exception):
    """What the client sends must not be passed on; the message says why."""


def drop(writer: asyncio.StreamWriter) -> None:
    """End a connection at once: what the kernel has of it and did not send yet, it does not send any more."""
    # As it is closed by default, the kernel would go on sending for as long as the peer takes it.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def splice(
    client: Side,
    server: Side,
    moved: Moved,
    idle: float,
    total: float,
    watch: Callable[[bytes], str | None] | None = None,
) -> str:
    """Pass on until both have ended, one has failed, or a limit is reached; how it ended. Both are closed then.

    `watch` gets what the client sends before it is passed on, and says why it must not be. Raises WatchedError then.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + total
    for one in (client, server):
        # A peer that vanished without a word is noticed by the kernel.
        one.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        # One limit for both directions: a download during which nothing goes up is not idle.
        async with asyncio.timeout_at(min(end, loop.time() + idle)) as bound:

            def up(part: bytes) -> None:
                reason = watch(part) if watch is not None and part else None
                if reason:
                    raise WatchedError(reason)
                moved.up += len(part)
                bound.reschedule(min(end, loop.time() + idle))

            def down(part: bytes) -> None:
                moved.down += len(part)
                bound.reschedule(min(end, loop.time() + idle))

            await _both((client, server, up), (server, client, down))
    except TimeoutError:
        return "total time" if loop.time() >= end else "idle"
    except OSError:
        return "broken"
    return "ended"


Way = tuple[Side, Side, Callable[[bytes], None]]


async def _both(one: Way, other: Way) -> None:
    tasks = [asyncio.create_task(_one_way(*way)) for way in (one, other)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # Both ends were told; what is still in the buffers has to get out before the connections are dropped.
    for side in (one[0], one[1]):
        side.writer.close()
        with suppress(OSError):
            await side.writer.wait_closed()


async def _one_way(source: Side, target: Side, moved: Callable[[bytes], None]) -> None:
    while part := await source.reader.read(CHUNK):
        moved(part)
        target.writer.write(part)
        await target.writer.drain()
        # Once more: that the receiver has taken it moves something too.
        moved(b"")
    if target.writer.can_write_eof():
        target.writer.write_eof()
    else:
        # TLS has no half of a connection; what is in the buffer still gets out.
        target.writer.close()
