"""Standard input and output of a container over the engine's API.

Whatever carries it (a Unix socket, TLS, SSH), only sending and receiving is asked of it: not every kind can close one
direction alone, so the helper's end is a line, or the end of the whole connection.

Theory of operation. A `Session` holds one connection, which belongs to it alone and is of no use afterwards; it is
closed by who made it, whatever happened. One thing at a time is done with it, in a thread, and by its end it is either
done or raised EngineError. Of what the container says no more is kept than the word that is waited for. A crash ends
the connection, and with it the container's input.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from claude_sandbox.backends.docker.engine.client import uses
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError

TIMEOUT = 30.0
"""Seconds for each of the steps, and that the engine may be silent in one."""
_ENDED = (
    "the helper container ended without having put the key in place; if that lasts, see that --relay-image names the"
    " operator's image of the operator's own version"
)
_HEADER = 8
"""Bytes before each piece of what a container prints: on which stream, and how long it is."""
_STDOUT = 1
# Bytes; an engine sends what it reads from a container, 32 KiB at a time.
_LARGEST_FRAME = 1 << 20


class Run(Protocol):
    """Runs what blocks in a thread, for so many seconds at most."""

    def __call__(self, call: Callable[[], Any], bound: float, /) -> Awaitable[Any]: ...


class Session:
    """One attached container."""

    def __init__(self, attached: Any, run: Run, timeout: float = TIMEOUT) -> None:
        # What the SDK gives is a file object around a socket; only the socket can be written to.
        self._attached = attached
        self._socket = getattr(attached, "_sock", attached)
        self._socket.settimeout(timeout)
        self._run = run
        self._timeout = timeout

    async def send(self, line: bytearray) -> None:
        """Send a line, and wipe it."""

        def call() -> None:
            try:
                uses(lambda: self._socket)
                # Not a copy of it, which nobody could wipe.
                self._socket.sendall(memoryview(line))
            finally:
                line[:] = bytes(len(line))

        await self._run(call, self._timeout)

    async def expect(self, word: bytes, ended: str = _ENDED) -> None:
        """Wait until the container has written this line. Raises EngineError, with `ended`, if it ends before."""
        await self._run(lambda: self._expect(word + b"\n", ended), self._timeout)

    async def answer(self, most: int, ended: str) -> bytes:
        """The first line that the container writes, of so many bytes at most. Raises EngineError, with `ended`, if it
        ends before.
        """
        return await self._run(lambda: self._answer(most, ended), self._timeout)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """End the connection; the container sees the end of its input."""
        await self._run(self._close, self._timeout)

    def _expect(self, line: bytes, ended: str) -> None:
        uses(lambda: self._socket)
        seen = b""
        while line not in seen:
            header = self._read(_HEADER)
            if not header:
                raise EngineError(UNREACHABLE, ended)
            (length,) = struct.unpack(">I", header[4:])
            if length > _LARGEST_FRAME:
                raise EngineError(UNREACHABLE, "what came over the connection is not as an engine sends it")
            # What came before can be no more than the beginning of the line.
            seen = seen[-len(line) :] + self._read(length)

    def _answer(self, most: int, ended: str) -> bytes:
        uses(lambda: self._socket)
        seen = b""
        while b"\n" not in seen:
            header = self._read(_HEADER)
            if not header:
                raise EngineError(UNREACHABLE, ended)
            (length,) = struct.unpack(">I", header[4:])
            if len(seen) + length > most:
                raise EngineError(UNREACHABLE, "what came over the connection is longer than it can be")
            part = self._read(length)
            # What it says of its troubles is not its answer.
            seen += part if header[0] == _STDOUT else b""
        return seen.partition(b"\n")[0]

    def _read(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            part = self._socket.recv(length - len(found))
            if not part:
                return b""
            found += part
        return found

    def _close(self) -> None:
        # Closing the file object alone leaves the connection open: the response holds the socket too.
        for end in (lambda: self._socket.shutdown(socket.SHUT_RDWR), self._socket.close, self._attached.close):
            try:
                end()
            except (OSError, AttributeError, TypeError):
                continue
