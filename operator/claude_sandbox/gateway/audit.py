"""One JSON line for each request and tunnel, on standard output; never a body, a credential, or a query.

Lines are written by one task, outside the event loop, since who reads them may be slow: a thousand may wait, and then
the next that is to be written is waited for. Up to there a line is put without giving way to anything else. What a
client chose (a name, a model, a session) is cut to a length and to plain characters.

Theory of operation. Holds the lines that are not written yet, and why some could not be: then `broken` tells, by which
the gateway ends, since what it does from then on would leave no trace. Lines are taken all the same, so that nobody
waits for what is not to come. Used from one event loop; a crash loses what waits.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from claude_sandbox.gateway.config.config import Sandbox

_WAITING = 1000
_TOGETHER = 0.05
"""Seconds that a line may wait for others."""
_STRANGE = re.compile(r"[^\x20-\x7e]")
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")

_encode = json.JSONEncoder(separators=(",", ":")).encode
Value = str | int | float | bool | None


class AuditError(Exception):
    """A line could not be written; the message says why."""


class Audit:
    """Writes records. `sink` takes whole lines and may block; by default it is standard output.

    `observe` gets each record too.
    """

    def __init__(
        self,
        sink: Callable[[bytes], None] | None = None,
        observe: Callable[[str, Mapping[str, Value]], None] | None = None,
    ) -> None:
        self._observe = observe
        self._sink = sink or _standard_output
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._lost = asyncio.Event()
        self._why = ""

    async def record(self, kind: str, fields: Mapping[str, Value]) -> None:
        """Write a line, even if who waits for it is cancelled. Fields that are None are left out."""
        if self._observe is not None:
            self._observe(kind, fields)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": now, "kind": kind, **{key: value for key, value in fields.items() if value is not None}}
        if self._task is None:
            self._task = asyncio.create_task(self._write())
        text = _encode(line).encode() + b"\n"
        try:
            self._queue.put_nowait(text)
        except asyncio.QueueFull:
            # Who is cancelled while it waits has its line written all the same: that it was cancelled is what the line
            # says.
            await asyncio.shield(self._queue.put(text))

    async def broken(self) -> None:
        """Wait until a line could not be written, and raise AuditError."""
        await self._lost.wait()
        raise AuditError(self._why)

    async def close(self) -> None:
        """Write what waits."""
        self._closing.set()
        if self._task is not None:
            await self._queue.join()
            self._task.cancel()

    async def _write(self) -> None:
        while True:
            lines = [await self._queue.get()]
            # What comes at the same time is written together: to wake a thread costs more than to write.
            if not self._closing.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), _TOGETHER)
            while not self._queue.empty():
                lines.append(self._queue.get_nowait())
            try:
                await asyncio.to_thread(self._sink, b"".join(lines))
            except OSError as error:
                self._why = error.strerror or type(error).__name__
                self._lost.set()
            finally:
                for _ in lines:
                    self._queue.task_done()


def plain(text: str | None, length: int = 253) -> str | None:
    """What a client chose, as it may stand in a line."""
    if text is None:
        return None
    text = text[:length]
    return text if text.isascii() and text.isprintable() else _STRANGE.sub("?", text)


def whose(sandbox: Sandbox | None) -> dict[str, Value]:
    """By which a line says whose it is: the UID for good, the names for people, where they are known."""
    if sandbox is None:
        return {}
    return {"sandbox": sandbox.uid, "namespace": sandbox.namespace or None, "name": sandbox.name or None}


def session(text: str | None) -> str | None:
    """A session's id, or None for what is none."""
    return text if text is not None and _SESSION.fullmatch(text) else None


def _standard_output(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
