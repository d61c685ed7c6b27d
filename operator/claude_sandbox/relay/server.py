"""Listens on one address and forwards what connects to it.

Theory of operation. Held are the listeners, and a task for each connection that is open, of all ports together: so many
at most, and a further one is closed before anything of it is read. A connection ends by itself, by either side or by
the limits, and takes its task with it; `close` ends those that are left. Used from one event loop. A crash ends the
connections, and nothing else is lost.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from claude_sandbox.relay.forward import BUFFER, Limits, SameSideError, Target, forward

_BACKLOG = 64
_ANYWHERE = ("192.0.2.1", 9)
"""An address for documentation (RFC 5737). Nothing is sent there: it only asks the kernel for the way."""


class Relay:
    """Forwards each port to its target. `outside` is the only address that is listened on."""

    def __init__(self, outside: str, targets: Mapping[int, Target], limits: Limits) -> None:
        self._outside = outside
        self._targets = targets
        self._limits = limits
        self._open: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen. Raises OSError where a port is taken or the address is not this machine's."""
        for port in self._targets:
            server = await asyncio.start_server(
                self._handler(port), self._outside, port, limit=BUFFER, backlog=_BACKLOG, reuse_address=True
            )
            self._servers.append(server)

    async def close(self) -> None:
        """Listen no more, and end what is forwarded."""
        for server in self._servers:
            server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _handler(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        target = self._targets[port]

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # One count for all ports: it bounds the memory, which is of the whole container.
            if len(self._open) >= self._limits.connections:
                writer.transport.abort()
                return
            task = asyncio.create_task(self._serve(reader, writer, target))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

        return accepted

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> None:
        try:
            # Who can't be helped is hung up on: there is nothing to say in a protocol that is not known.
            with suppress(OSError, TimeoutError, SameSideError):
                await forward(reader, writer, target, self._limits, self._outside)
        finally:
            writer.transport.abort()


def outside_address() -> str:
    """The address of this machine on the side of its default route. Raises OSError where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect(_ANYWHERE)
        return str(asked.getsockname()[0])
