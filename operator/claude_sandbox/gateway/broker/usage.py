"""What the provider says that a request used, read from its answer while it passes. Pure; keeps little of it.

A whole answer (JSON) has a `usage`; a streamed one has it in `message_start`, and again, with what was written so far,
in each `message_delta`; each number counts from the last time that it was told. A stream that is cut off before its
`message_delta` has told only a part, which is said: `complete` is False then.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from claude_sandbox.gateway.budget.prices import Tokens

MAX_JSON = 8 << 20
"""Bytes of a whole answer that are kept to read its usage."""
MAX_EVENT = 1 << 20
"""Bytes of one line of a stream that are kept."""


@dataclass(frozen=True)
class Usage:
    """`model`: that answered. `complete`: all of it was told. `told`: the input was."""

    tokens: Tokens = field(default_factory=Tokens)
    model: str | None = None
    complete: bool = False
    told: bool = False


class StreamMeter:
    """Reads the usage out of server-sent events."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._skipping = False
        self._usage = Usage()

    def feed(self, data: bytes) -> None:
        """Take further bytes of the stream."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            if not self._skipping:
                self._line += line
                self._look(bytes(self._line))
            self._line.clear()
            self._skipping = False
        # Such a line is read over to its end, however many pieces that takes.
        if len(self._line) + len(rest) > MAX_EVENT:
            self._line.clear()
            self._skipping = True
        elif not self._skipping:
            self._line += rest

    def usage(self) -> Usage:
        """What was told so far."""
        return self._usage

    def _look(self, line: bytes) -> None:
        # Nearly all lines are pieces of text; only these two tell anything.
        if not line.startswith(b"data:") or (b"message_start" not in line and b"message_delta" not in line):
            return
        event = _loads(line[5:])
        kind = event.get("type")
        if kind == "message_start" and isinstance(event.get("message"), dict):
            self._usage = _merged(self._usage, event["message"], complete=False)
        elif kind == "message_delta":
            self._usage = _merged(self._usage, event, complete=True)


class WholeMeter:
    """Reads the usage out of a JSON answer."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take further bytes of the answer."""
        self._size += len(data)
        if self._size <= MAX_JSON:
            self._parts.append(data)
        else:
            self._parts.clear()

    def usage(self) -> Usage:
        """What it told; nothing where it is cut off, too long, or no answer of this kind."""
        return _merged(Usage(), _loads(b"".join(self._parts)), complete=True) if self._size <= MAX_JSON else Usage()

    def error(self) -> tuple[str | None, str | None]:
        """The type and the message of an answer that is an error in the API's form."""
        error = _loads(b"".join(self._parts)).get("error") if self._size <= MAX_JSON else None
        if not isinstance(error, dict):
            return None, None
        kind, message = error.get("type"), error.get("message")
        return kind if isinstance(kind, str) else None, message if isinstance(message, str) else None


def _loads(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _merged(before: Usage, document: dict[str, Any], *, complete: bool) -> Usage:
    told = document.get("usage")
    if not isinstance(told, dict):
        return before
    was = before.tokens
    five, hour = _cache_writes(was, told)
    tools = told.get("server_tool_use")
    searches = _count(tools.get("web_search_requests")) if isinstance(tools, dict) else None
    read = _count(told.get("input_tokens"))
    tokens = Tokens(
        was.input if read is None else read,
        _or(_count(told.get("output_tokens")), was.output),
        five,
        hour,
        _or(_count(told.get("cache_read_input_tokens")), was.cache_read),
        _or(searches, was.web_searches),
    )
    model = document.get("model")
    known = before.told or read is not None
    return Usage(tokens, model if isinstance(model, str) else before.model, complete=complete and known, told=known)


def _cache_writes(was: Tokens, told: dict[str, Any]) -> tuple[int, int]:
    """The writes by how long they are kept; where that is not said, all as the dearer."""
    total = _count(told.get("cache_creation_input_tokens"))
    if total is None:
        return was.cache_write_5m, was.cache_write_1h
    parts = told.get("cache_creation")
    five = _count(parts.get("ephemeral_5m_input_tokens")) if isinstance(parts, dict) else None
    five = min(five or 0, total)
    return five, total - five


def _or(found: int | None, before: int) -> int:
    return before if found is None else found


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
