"""What kopf is handed of the API server's answers about sandboxes: what is kept of them, line by line or page by page.

kopf decodes a whole answer at once, with the standard library's decoder, and would hold up everything else for as long;
and what it keeps would be as large as tenants like.

Theory of operation. Stands between one answer of aiohttp's and kopf, and holds of it at most a line of a watch or a
page of a list. Always true: kopf gets whole lines, of objects the projection alone; what is not understood is handed on
as it came, for kopf to complain of; a page that is too large is given up before it is decoded, and asked for again with
fewer objects, down to one. Called by the session's middleware (`watch.py`), once for each answer. A connection that
breaks in the middle is kopf's to make anew: half a line is handed on by nobody.
"""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson

from claude_sandbox.kubernetes_api.client import PAGE_BYTES
from claude_sandbox.kubernetes_api.informers.transforms import PROJECTIONS
from claude_sandbox.kubernetes_api.informers.watch_events import lines
from claude_sandbox.kubernetes_api.informers.yielding import Breath
from claude_sandbox.kubernetes_api.resources import SANDBOXES


class TooLargeError(Exception):
    """A page of a list that has more than may be decoded at once."""


def watched(response: aiohttp.ClientResponse) -> None:
    """Have kopf read of the answer to a watch what the projection keeps."""
    response.content = _Lines(response.content)  # type: ignore[assignment]


async def listed(response: aiohttp.ClientResponse, *, whole: bool) -> None:
    """Read a page of a list, and have kopf read what the projection keeps of it.

    Raises TooLargeError, unless it is to be read `whole` in any case.
    """
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > PAGE_BYTES and not whole:
            response.close()
            raise TooLargeError
    page, breath, items = orjson.loads(b"".join(parts)), Breath(), []
    del parts  # half of the memory that the page takes, while its items are gone through
    for item in page.get("items") or ():
        items.append(PROJECTIONS[SANDBOXES](item))
        await breath()
    response.content = _Read(response.content, orjson.dumps(page | {"items": items}))  # type: ignore[assignment]


class _Content:
    """Stands for an answer's content: all that is not defined here is the content's own."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


class _Lines(_Content):
    """Of a watch, as far as kopf reads it."""

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        """Whole lines."""
        async for line in lines(self._content.iter_any()):
            yield _kept(line) + b"\n"


class _Read(_Content):
    """Of a page that was read."""

    def __init__(self, content: aiohttp.StreamReader, body: bytes) -> None:
        super().__init__(content)
        self._body = body

    async def read(self, _: int = -1) -> bytes:
        """All of it."""
        return self._body


def _kept(line: bytes) -> bytes:
    try:
        event: Any = orjson.loads(line)
        # Bookmarks and errors hold no sandbox, and kopf reads them itself.
        if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
            return orjson.dumps(event | {"object": PROJECTIONS[SANDBOXES](event["object"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # kopf says what is wrong with it
    return line
