"""The body of a request to the provider: judged before the last of it is sent.

What is shorter than `HELD` is read at once when all of it is there, and sent when it has been judged. What is longer is
read and goes on as it comes, and its last part waits until the whole is judged: a request of which a part is missing
does nothing at the provider. So a body of 32 MB costs no more memory than one of that length.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from aiohttp import StreamReader

from claude_sandbox.gateway.broker.provider import APIError, invalid
from claude_sandbox.gateway.http.json_scan import JSONError, Scanned, Scanner
from claude_sandbox.gateway.http.json_whole import scan

HELD = 256 * 1024
"""Bytes that are kept before anything is sent."""

WANTED = frozenset(("model", "max_tokens", "stream", "speed", "inference_geo", "service_tier"))
"""Top-level fields that decide."""

Judge = Callable[[Scanned, int], Awaitable[None]]
Found = TypeVar("Found")


class Body:
    """One body on its way. `json`: it has to be a JSON object. `size`: bytes that came; `whole`: all of it is held;
    `refused`: why it was given up in the middle. `moved` is called for each part that comes while it is sent."""

    def __init__(self, content: StreamReader, limit: int, judge: Judge, *, json: bool) -> None:
        self._content = content
        self._limit = limit
        self._judge = judge
        self._json = json
        self._scanner: Scanner | None = None
        self._held: list[bytes] = []
        self.whole = False
        self.size = 0
        self.refused: APIError | None = None
        self.moved: Callable[[], None] = lambda: None

    async def hold(self) -> None:
        """Read until the end or until enough is held; at the end, judge. Raises APIError."""
        while self.size < HELD:
            part = await self._next()
            if not part:
                self.whole = True
                await self._judge(_read(lambda: scan(self.held(), WANTED)) if self._json else Scanned(), self.size)
                return
            self._held.append(part)
        if self._json:
            self._scanner = Scanner(WANTED)
            self._feed(self.held())

    def held(self) -> bytes:
        """What was read, where it is the whole."""
        if len(self._held) > 1:
            self._held = [b"".join(self._held)]
        return self._held[0] if self._held else b""

    async def stream(self) -> AsyncIterator[bytes]:
        """What was read and what comes, the last part after the judgement. Raises APIError, and notes it."""
        waiting = self.held()
        self._held.clear()
        try:
            while part := await self._next():
                self.moved()
                self._feed(part)
                yield waiting
                waiting = part
            # Before the last part: without it the provider does nothing with all that it has.
            await self._judge(_read(self._scanner.finish) if self._scanner is not None else Scanned(), self.size)
        except APIError as error:
            self.refused = error
            raise
        yield waiting

    async def _next(self) -> bytes:
        part = await self._content.readany()
        self.size += len(part)
        if self.size > self._limit:
            raise APIError(413, "request_too_large", f"the body is longer than {self._limit} bytes", "size")
        return part

    def _feed(self, part: bytes) -> None:
        scanner = self._scanner
        if scanner is not None:
            _read(lambda: scanner.feed(part))


def _read(look: Callable[[], Found]) -> Found:
    """What was found. Raises APIError for what is malformed."""
    try:
        return look()
    except JSONError as error:
        raise invalid(str(error), "malformed") from None
