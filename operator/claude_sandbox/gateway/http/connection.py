"""A connection to a server that speaks HTTP/1.1, for one request after the other.

Theory of operation. Who has it asks (`begin`, `write`), takes the answer's head (`head`) and its parts (`part`) in this
order, and gives it to another one only if it is `free`: all that was asked for has come, and nothing else. What comes
is read by `AnswerReader` as it arrives. What nobody takes is kept up to `BUFFER` bytes; then nothing more is read from
the server until it is taken. Used from one event loop; a connection that is lost, or has brought what is no answer,
says so to who waits and to who asks next, and is never used again.
"""

import asyncio
from typing import cast

from claude_sandbox.gateway.http.answer import Answer, AnswerError, AnswerReader

BUFFER = 64 * 1024
"""Bytes of an answer that may wait."""


class Connection(asyncio.Protocol):
    """See the module. Made by `loop.create_connection`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: str | None = None
        """The address that it leads to."""
        self._reader: AnswerReader | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._held_up = False
        self._error: AnswerError | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    @property
    def done(self) -> bool:
        """Whether the last of the answer was read."""
        return self._reader is not None and self._reader.done

    @property
    def free(self) -> bool:
        """Whether another request may be made."""
        if self._error is not None or self.transport is None or self.transport.is_closing():
            return False
        return self._reader is None or (self._reader.reusable and self._reader.done and not self._parts)

    def begin(self, method: str, data: bytes) -> None:
        """Send the head of a request with this method, and what else there is of it already. Does not wait."""
        assert self.transport is not None  # noqa: S101
        self._reader = AnswerReader(method)
        self.transport.write(data)

    async def write(self, data: bytes) -> None:
        """Send more of the request, once the server takes it. Raises AnswerError where the connection is lost."""
        if self._error is not None:
            raise self._error
        assert self.transport is not None  # noqa: S101
        self.transport.write(data)
        if self._writable is not None:
            await self._writable

    async def head(self) -> Answer:
        """The answer's head. Raises AnswerError."""
        assert self._reader is not None  # noqa: S101
        while self._reader.answer is None:
            await self._more()
        return self._reader.answer

    async def part(self) -> bytes:
        """What there is of the answer's content and was not taken yet; b"" at its end. Raises AnswerError."""
        assert self._reader is not None  # noqa: S101
        while not self._parts:
            if self._reader.done:
                return b""
            await self._more()
        found = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._held_up and self.transport is not None:
            self._held_up = False
            self.transport.resume_reading()
        return found

    def fail(self, error: AnswerError) -> None:
        """End it: who waits for the answer gets this error."""
        if self._error is None:
            self._error = error
        if self.transport is not None:
            self.transport.abort()
        _wake(self._waiting)
        _wake(self._writable)

    def close(self) -> None:
        """End it in order: nobody uses it any more."""
        if self.transport is not None:
            self.transport.close()

    async def _more(self) -> None:
        """Wait until something has come."""
        if self._error is not None:
            raise self._error
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        # uvloop's are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else None

    def data_received(self, data: bytes) -> None:
        """The server has sent this."""
        if self._error is not None:
            return
        # It would be taken for the beginning of the next answer, which may be another sandbox's.
        if self._reader is None or self._reader.done:
            self.fail(AnswerError("the server says something that it was not asked for"))
            return
        try:
            parts = self._reader.feed(data)
        except AnswerError as error:
            self.fail(error)
            return
        if parts:
            self._parts += parts
            self._size += sum(map(len, parts))
            if self._size > BUFFER and not self._held_up and self.transport is not None:
                self._held_up = True
                self.transport.pause_reading()
        _wake(self._waiting)

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed, by whichever side."""
        if self._reader is not None and error is None:
            try:
                # An answer of which no length is said ends with its connection, and then is whole.
                self._reader.end()
            except AnswerError as cut_off:
                self._error = self._error or cut_off
        self._error = self._error or AnswerError("the connection is lost")
        self.transport = None
        _wake(self._waiting)
        _wake(self._writable)

    def pause_writing(self) -> None:
        """The server does not take what it is sent."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It takes it again."""
        _wake(self._writable)
        self._writable = None


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
