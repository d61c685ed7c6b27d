"""A server's answer (RFC 9112) as its bytes arrive: its head, and its body to exactly its end. Pure.

It is read for its content, which is framed anew for who gets it; so extensions of chunks and trailers are read over,
and all else that is not in the grammar ends the answer.
"""

import re
from dataclasses import dataclass

from claude_sandbox.gateway.http.head import LIMIT, MAX_HEADERS

_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LENGTH = re.compile(r"[0-9]{1,15}")
_MAX_LINE = 4096
"""Bytes of a chunk's size with its extensions, and of a trailer."""
MAX_INTERIM = 100
"""Answers of one request that tell only that its answer is still to come: by more, a server would hold a place, and
keep a processor busy, for as long as it likes without being silent."""

Headers = list[tuple[str, str]]


class AnswerError(Exception):
    """This is no answer. The message has nothing of it."""


@dataclass(frozen=True)
class Answer:
    """The head of an answer. Names of headers as they were sent."""

    status: int
    reason: str
    headers: Headers
    content_type: str
    """Without parameters, in lower case; "" where none is said."""


class AnswerReader:
    """Reads one answer to a request with this method. `answer`: its head, once it is there. `done`: all of it was read.

    `reusable`: the connection can have another request, as far as this answer says.
    """

    def __init__(self, method: str) -> None:
        self.answer: Answer | None = None
        self.done = False
        self.reusable = False
        self._method = method
        self._buffer = b""
        self._chunked = False
        # Bytes of the body, or of the chunk, that are still to come; None: until the connection ends.
        self._left: int | None = 0
        self._in_chunk = False
        self._last_chunk = False
        self._trailers = 0
        self._interim = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take further bytes; the content among them. Raises AnswerError."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self.answer is None:
            rest = self._head(data)
            if rest is None:
                return []
            data = rest
        if self.done:
            # Nobody asked for more: this connection can't be trusted with another request.
            self.reusable = self.reusable and not data
            return []
        if not data:
            return []
        return self._chunks(data) if self._chunked else self._plain(data)

    def end(self) -> None:
        """The connection has ended. Raises AnswerError where the answer has not."""
        if self.done:
            return
        if self.answer is None or self._left is not None:
            raise AnswerError("the answer is cut off")
        self.done = True

    def _head(self, data: bytes) -> bytes | None:
        """Read the head, or keep what there is of it. What is behind it."""
        while True:
            end = data.find(b"\r\n\r\n")
            if end > LIMIT or (end < 0 and len(data) > LIMIT):
                raise AnswerError("the head is too long")
            if end < 0:
                self._buffer = data
                return None
            found = _HEAD.fullmatch(data, 0, end + 4)
            if found is None:
                raise AnswerError("the head is malformed")
            data = data[end + 4 :]
            status = int(found[2])
            # What is below tells only that the answer is still to come (100, 103), and is read over.
            if status >= 200:
                self._framed(status, found)
                return data
            if status == 101:
                raise AnswerError("the server changes the protocol")
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise AnswerError("the server goes on saying that the answer is still to come")

    def _framed(self, status: int, found: re.Match[bytes]) -> None:
        headers, seen = _headers(found[4])
        encoding, length = seen.get("transfer-encoding"), seen.get("content-length")
        connection = {part.strip() for part in seen.get("connection", "").lower().split(",")}
        self.reusable = found[1] == b"1" and "close" not in connection
        # With both, who reads it next may go by the other one (RFC 9112, 6.3).
        if encoding is not None and (length is not None or encoding.lower() != "chunked"):
            raise AnswerError("the length of the body can't be told")
        if length is not None and not _LENGTH.fullmatch(length):
            raise AnswerError("Content-Length is no number")
        if self._method == "HEAD" or status in (204, 304) or (self._method == "CONNECT" and status < 300):
            self.done = True
        elif encoding is not None:
            self._chunked = True
        elif length is not None:
            self._left = int(length)
            self.done = self._left == 0
        else:
            self._left, self.reusable = None, False
        kind = seen.get("content-type", "").partition(";")[0].strip().lower()
        self.answer = Answer(status, (found[3] or b"").decode("latin-1").strip(), headers, kind)

    def _plain(self, data: bytes) -> list[bytes]:
        if self._left is None:
            return [data]
        if len(data) > self._left:
            data, self.reusable = data[: self._left], False
        self._left -= len(data)
        self.done = not self._left
        return [data]

    def _chunks(self, data: bytes) -> list[bytes]:
        content: list[bytes] = []
        at = 0
        while not self.done:
            if self._left:
                part = data[at : at + self._left]
                if not part:
                    return content
                at += len(part)
                self._left -= len(part)
                content.append(part)
                continue
            end = data.find(b"\r\n", at)
            if end < 0 or end - at > _MAX_LINE:
                if len(data) - at > _MAX_LINE:
                    raise AnswerError("a chunk's size is malformed")
                self._buffer = data[at:]
                return content
            self._line(data[at:end])
            at = end + 2
        self.reusable = self.reusable and at == len(data)
        return content

    def _line(self, line: bytes) -> None:
        """A line of the framing: the end of a chunk, a size, or a trailer."""
        if self._last_chunk:
            self._trailers += 1
            if self._trailers > MAX_HEADERS:
                raise AnswerError("there are too many trailers")
            self.done = not line
        elif self._in_chunk:
            if line:
                raise AnswerError("a chunk is longer than it says")
            self._in_chunk = False
        else:
            found = _SIZE.fullmatch(line)
            if found is None:
                raise AnswerError("a chunk's size is malformed")
            self._left = int(found[1], 16)
            self._in_chunk, self._last_chunk = self._left > 0, self._left == 0


def _headers(lines: bytes) -> tuple[Headers, dict[str, str]]:
    """All headers, and those that decide by their names in lower case. Raises AnswerError where one of these differs
    from itself."""
    found: Headers = []
    seen: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        value = value.strip(" \t")
        found.append((name, value))
        lower = name.lower()
        if lower in _DECISIVE:
            if seen.get(lower, value) != value:
                raise AnswerError("a header is there twice")
            seen[lower] = value
        elif lower == "connection":
            seen[lower] = f"{seen[lower]},{value}" if lower in seen else value
    if len(found) > MAX_HEADERS:
        raise AnswerError("there are too many headers")
    return found, seen


_DECISIVE = frozenset(("transfer-encoding", "content-length", "content-type"))
