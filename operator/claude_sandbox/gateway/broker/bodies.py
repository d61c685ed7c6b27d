"""The body of a request to the provider: judged before the last of it is sent.

What is shorter than `HELD` is sent when all of it has been judged. What is longer goes on as it comes, and its last
part waits until the whole is judged: a request of which a part is missing does nothing at the provider. So a body of
32 MB costs no more memory than one of that length.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import StreamReader

from claude_sandbox.gateway.broker.provider import APIError, invalid
from claude_sandbox.gateway.http.json_scan import JSONError, Scanned, Scanner

HELD = 256 * 1024
"""Bytes that are kept before anything is sent."""

WANTED = frozenset(("model", "max_tokens", "stream", "speed", "inference_geo", "service_tier"))
"""Top-level fields that decide."""

Judge = Callable[[Scanned, int], Awaitable[None]]


class Body:
    """One body on its way. `size`: bytes that came; `refused`: why it was given up in the middle."""

    def __init__(self, content: StreamReader, limit: int, judge: Judge, *, scan: bool) -> None:
        self._content = content
        self._limit = limit
        self._judge = judge
        self._scanner = Scanner(WANTED) if scan else None
        self._held: list[bytes] = []
        self.whole = False
        self.size = 0
        self.refused: APIError | None = None

    async def hold(self) -> None:
        """Read until the end or until enough is held; at the end, judge. Raises APIError."""
        while self.size < HELD:
            part = await self._next()
            if not part:
                self.whole = True
                await self._judged()
                return
            self._held.append(part)

    def held(self) -> bytes:
        """What was read, where it is the whole."""
        return b"".join(self._held)

    async def stream(self) -> AsyncIterator[bytes]:
        """What was read and what comes, the last part after the judgement. Raises APIError, and notes it."""
        waiting = self.held()
        self._held.clear()
        try:
            while part := await self._next():
                yield waiting
                waiting = part
            await self._judged()
        except APIError as error:
            self.refused = error
            raise
        yield waiting

    async def _next(self) -> bytes:
        part = await self._content.readany()
        self.size += len(part)
        if self.size > self._limit:
            raise APIError(413, "request_too_large", f"the body is longer than {self._limit} bytes", "size")
        if self._scanner is not None and part:
            try:
                self._scanner.feed(part)
            except JSONError as error:
                raise invalid(str(error), "malformed") from None
        return part

    async def _judged(self) -> None:
        try:
            scanned = self._scanner.finish() if self._scanner is not None else Scanned()
        except JSONError as error:
            raise invalid(str(error), "malformed") from None
        await self._judge(scanned, self.size)
