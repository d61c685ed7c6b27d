"""A command that runs in a sandbox, wherever that is; and what may be asked of the place."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.kubernetes_api.pod_exec import Channel

MOST_ERRORS = 8 * 1024
"""Bytes that are kept of what a command writes to its standard error."""


NO_END = (
    "The way to this sandbox can't tell a command that its input has ended.",
    "On Kubernetes that takes an API server from 1.30 on, with Docker an engine that is reached without TLS (unix://,"
    " ssh://). A terminal, cp and what only reads work all the same.",
)
"""Why what is not at a terminal can't be given an input, and what may help: a WorkError."""


class Session(Protocol):
    """As `PodExec`, which says what each raises. Read by one task, written to by another."""

    @property
    def exit_code(self) -> int | None: ...
    @property
    def can_end_input(self) -> bool: ...
    async def write(self, data: bytes) -> None: ...
    async def end_input(self) -> None: ...
    async def resize(self, columns: int, rows: int) -> None: ...
    def output(self) -> AsyncGenerator[tuple[Channel, bytes], None]: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class LogOptions:
    """Which part of a log: of the container before, from a time on, the last lines, and whether to go on."""

    follow: bool = False
    previous: bool = False
    since: datetime | None = None
    tail: int | None = None
    timestamps: bool = False


class Place(Protocol):
    """Where a sandbox runs. What it raises of its own is WorkError."""

    async def run(self, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> Session:
        """Run a command as the agent's user, in its container."""
        ...

    def log(self, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """What the agent's container has written, in pieces."""
        ...


@dataclass
class Ended:
    """How a command ended, and the beginning of what it said of it."""

    code: int
    errors: bytes = b""


async def reading(session: Session, errors: bytearray) -> AsyncGenerator[bytes, None]:
    """Its standard output, piece by piece; MOST_ERRORS bytes of its standard error are put into `errors`."""
    async for channel, data in session.output():
        if channel is Channel.STDERR:
            # The rest is read and dropped: a command that can't write would hang.
            errors += data[: max(0, MOST_ERRORS - len(errors))]
        else:
            yield data


async def feeding(session: Session, parts: AsyncIterable[bytes]) -> Ended:
    """Give it its standard input, to the end. What it writes to its standard output is nobody's.

    A command that ends before its input is told as it ended.
    """
    errors = bytearray()

    async def read() -> None:
        async for _ in reading(session, errors):
            pass

    async def write() -> None:
        async for part in parts:
            await session.write(part)
        await session.end_input()

    reader, writer = asyncio.create_task(read()), asyncio.create_task(write())
    try:
        await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        if writer.done() and not reader.done() and writer.exception() is not None:
            # Its end may be on its way, and says more than that nobody takes its input.
            await asyncio.wait((reader,), timeout=2.0)
        if not reader.done():
            writer.result()
        await reader
    finally:
        for task in (reader, writer):
            task.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)
    # What this machine could not read goes before how the command ended for want of it.
    if writer.done() and not writer.cancelled() and isinstance(writer.exception(), WorkError):
        writer.result()
    return ended(session, errors)


def ended(session: Session, errors: bytearray) -> Ended:
    """How it ended, after its output has."""
    assert session.exit_code is not None  # noqa: S101 - `output` ends with it, or raises
    return Ended(session.exit_code, bytes(errors))
