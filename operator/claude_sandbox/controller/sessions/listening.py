"""Accepts connections of anybody in the network, as many as there is room for.

Theory of operation. It holds the listening socket, how many TLS handshakes are under way, and which connections have
asked for something. A connection beyond MOST is closed at once; one that has asked for nothing after OPENS seconds, its
handshake included, is as well. So nobody fills the operator's table of files by connecting and waiting. Used on the
event loop; a crash closes all.
"""

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from weakref import WeakSet

from aiohttp import web

logger = logging.getLogger(__name__)

MOST = 256
"""Connections at a time, those of sessions included."""
OPENS = 10.0
"""Seconds in which a connection asks for something."""
_PAUSE = 0.2
"""Seconds without accepting after an error, such as no file being left."""


class Listener:
    """For one server. `close()` it."""

    def __init__(self, server: web.Server, context: ssl.SSLContext, most: int = MOST, opens: float = OPENS) -> None:
        self._server = server
        self._context = context
        self._most = most
        self._opens = opens
        self._handshakes: set[asyncio.Task[None]] = set()
        self._asked: WeakSet[asyncio.BaseTransport] = WeakSet()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is bound; another than was asked for where that was 0."""
        assert self._socket is not None, "not started"  # noqa: S101
        return int(self._socket.getsockname()[1])

    def start(self, host: str, port: int) -> None:
        """Bind the address and accept. Raises OSError."""
        self._socket = socket.create_server((host, port), family=_family(host), backlog=128)
        self._socket.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(self._socket), name="sessions: accepting")

    def asks(self, transport: asyncio.BaseTransport | None) -> None:
        """A connection has asked for something."""
        if transport is not None:
            self._asked.add(transport)

    def close(self) -> None:
        """Accept nothing more; connections are the server's to close."""
        for task in (self._accepting, *self._handshakes):
            if task is not None:
                task.cancel()
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:
                logger.warning("no connection for a session can be accepted: %s", error.strerror)
                await asyncio.sleep(_PAUSE)
                continue
            # Accepted and closed: left in the kernel's line it would keep others from getting as far.
            if len(self._handshakes) + len(self._server.connections) >= self._most:
                accepted.close()
                continue
            task = asyncio.create_task(self._connected(accepted), name="sessions: handshake")
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _connected(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # Whoever connected may do anything; the connection alone ends with it.
        with suppress(OSError, ssl.SSLError):
            transport, _ = await loop.connect_accepted_socket(
                self._server, accepted, ssl=self._context, ssl_handshake_timeout=self._opens
            )
            # aiohttp has no time-out for a connection that never asks for anything.
            loop.call_later(self._opens, self._end_idle, transport)

    def _end_idle(self, transport: asyncio.BaseTransport) -> None:
        if transport not in self._asked and not transport.is_closing():
            transport.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
