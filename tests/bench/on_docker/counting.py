"""A socket in front of an engine's, which counts what is asked of it: the engine itself keeps no such account."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

# Whoever speaks here writes the head of a request at once; what a body or a hijacked connection holds is no such line.
_REQUEST = re.compile(rb"(GET|POST|PUT|DELETE|HEAD) (/[^ ?]*)\S* HTTP/1\.1\r\n")
_VERSION = re.compile(r"^/v1\.\d+")
_WORDS = frozenset({"containers", "networks", "volumes", "images", "exec", "events", "info", "version", "_ping"}) | {
    *("json", "create", "start", "stop", "kill", "rename", "update", "archive", "attach", "unpause"),
    *("connect", "disconnect"),
}
_CHUNK = 1 << 16


class Counting:
    """Use with `counting`. `requests` by kind, as `GET /containers/…/json`, grows for as long as it is open."""

    def __init__(self, engine: Path) -> None:
        self._engine = engine
        self._connections: set[asyncio.Task[None]] = set()
        self.requests: Counter[str] = Counter()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One more connection, which goes on until either side ends it."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def close(self) -> None:
        """End all connections."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, before = await asyncio.open_unix_connection(self._engine)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pass(reader, before, counts=True), self._pass(behind, writer, counts=False))

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK):
                if counts:
                    self.requests.update(kinds(chunk))
                to.write(chunk)
                await to.drain()
        with contextlib.suppress(OSError, RuntimeError):
            # The other direction may go on: a hijacked connection is closed by halves.
            to.write_eof() if counts else to.close()


@contextlib.asynccontextmanager
async def counting(engine: Path, socket: Path) -> AsyncIterator[Counting]:
    """Listen at `socket` for the engine that listens at `engine`."""
    found = Counting(engine)
    server = await asyncio.start_unix_server(found.take, socket)
    try:
        yield found
    finally:
        server.close()
        await found.close()


def kinds(sent: bytes) -> Iterator[str]:
    """The requests that begin in these bytes, without versions, names and identifiers."""
    for method, path in _REQUEST.findall(sent):
        parts = _VERSION.sub("", path.decode()).strip("/").split("/")
        named = (_named(place, part) for place, part in enumerate(parts))
        yield f"{method.decode()} /{'/'.join(named)}"


def _named(place: int, part: str) -> str:
    # What stands second is an object, unless all of its kind are meant.
    known = part in ("create", "json") if place == 1 else part in _WORDS
    return part if known else "…"
