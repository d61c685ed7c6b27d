"""The stream of a watch: one event a line, each an object as JSON."""

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

import orjson

from claude_sandbox.kubernetes_api.errors import INVALID_RESPONSE, ApiError, from_status

MAX_EVENT_BYTES = 32 * 1024 * 1024
"""Far more than any event has: an object is stored in 1.5 MiB at most (etcd's limit for a request)."""


async def lines(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Whole lines. Raises ApiError for one that is too long. What came of a long one is looked through once."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > MAX_EVENT_BYTES:
            raise ApiError(200, INVALID_RESPONSE, f"an event of more than {MAX_EVENT_BYTES} bytes")
        if not others:
            continue
        *whole, last = others
        yield b"".join(parts)
        for line in whole:
            yield line
        parts, size = [last], len(last)


def event_of(line: bytes, *, sensitive: bool) -> dict[str, Any]:
    """The event in a line. Raises ApiError for one that tells of an error, and for what is no event."""
    try:
        event: dict[str, Any] = orjson.loads(line)
        kind, obj = event["type"], event["object"]
    except (ValueError, KeyError, TypeError):
        raise ApiError(200, INVALID_RESPONSE, "a watch event that is not JSON") from None
    if kind == "ERROR":
        raise from_status(500, obj, sensitive=sensitive)
    return event
