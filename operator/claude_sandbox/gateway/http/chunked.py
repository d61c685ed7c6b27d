"""A chunked body (RFC 9112, 7.1) as bytes arrive, read strictly; so that its end is known for certain. Pure."""

import re

from claude_sandbox.gateway.http.head import BadRequestError

_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_MAX_LINE = 16
"""Bytes of a chunk's size line. Extensions and trailers, which nobody needs and readers differ about, are refused."""


class ChunkedReader:
    """Takes the bytes of a chunked body and gives its content. `done`: the last chunk was seen; `rest` is after it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        self._after_chunk = False
        self.done = False

    @property
    def rest(self) -> bytes:
        return bytes(self._buffer) if self.done else b""

    def feed(self, data: bytes) -> bytes:
        """Take further bytes; the content among them. Raises BadRequestError for what is no chunked body."""
        self._buffer += data
        content = bytearray()
        while not self.done and self._step(content):
            pass
        return bytes(content)

    def _step(self, content: bytearray) -> bool:
        """Whether something was taken from the buffer."""
        if self._left:
            part = self._buffer[: self._left]
            content += part
            del self._buffer[: len(part)]
            self._left -= len(part)
            self._after_chunk = True
            return bool(part)
        if self._after_chunk:
            if len(self._buffer) >= 2:
                self._expect_line_end()
                self._after_chunk = False
                return True
            return False
        return self._size_line()

    def _expect_line_end(self) -> None:
        if self._buffer[:2] != b"\r\n":
            raise BadRequestError("a chunk is longer than it says")
        del self._buffer[:2]

    def _size_line(self) -> bool:
        end = self._buffer.find(b"\r\n", 0, _MAX_LINE + 2)
        if end < 0:
            if len(self._buffer) > _MAX_LINE:
                raise BadRequestError("a chunk's size is malformed")
            return False
        line = bytes(self._buffer[:end])
        if not _SIZE.fullmatch(line):
            raise BadRequestError("a chunk's size is malformed")
        if int(line, 16):
            del self._buffer[: end + 2]
            self._left = int(line, 16)
            return True
        if len(self._buffer) < end + 4:
            return False
        del self._buffer[: end + 2]
        self._expect_line_end()
        self.done = True
        return True


def chunk(content: bytes) -> bytes:
    """The content as one chunk; b"" is the last one."""
    return b"%x\r\n%b\r\n" % (len(content), content)
