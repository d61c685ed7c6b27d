"""A sandbox on Docker: its container, by the engine, for who has that at hand."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import requests

from claude_sandbox.backends.docker.engine.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection_errors import ConnectError
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.execution import STDERR, Execution, execute
from claude_sandbox.cli.engine_address import EngineAddress
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.sessions import LogOptions
from claude_sandbox.cli.work.target import Target
from claude_sandbox.kubernetes_api.pod_exec import Channel

T = TypeVar("T")

_SILENCE, _FOR_EVER = 60.0, 7 * 86400.0
"""Seconds without a byte after which a log is given up: one that has an end, and one that is followed."""
_HEADER, _PIECE = 8, 64 * 1024


class ContainerSession:
    """A `Session`."""

    def __init__(self, running: Execution) -> None:
        self._running = running
        self._code: int | None = None

    @property
    def exit_code(self) -> int | None:
        """How the command ended; None while it has not."""
        return self._code

    @property
    def can_end_input(self) -> bool:
        """Whether the way to the engine can."""
        return self._running.can_end_input

    async def write(self, data: bytes) -> None:
        """Raises WorkError."""
        await _asked(self._running.write, data)

    async def end_input(self) -> None:
        """Nothing more comes."""
        await asyncio.to_thread(self._running.end_input)

    async def resize(self, columns: int, rows: int) -> None:
        """Raises WorkError."""
        await _asked(self._running.resize, columns, rows)

    async def output(self) -> AsyncGenerator[tuple[Channel, bytes], None]:
        """Raises WorkError."""
        while (part := await _asked(self._running.read)) is not None:
            yield Channel.STDERR if part[0] == STDERR else Channel.STDOUT, part[1]
        self._code = await _asked(self._running.exit_code)

    async def close(self) -> None:
        """End the connection."""
        self._running.close()


class ContainerPlace:
    """A `Place`."""

    def __init__(self, connection: Connection, target: Target) -> None:
        self._connection = connection
        self._target = target

    async def run(self, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> ContainerSession:
        """Raises WorkError."""
        api, container = self._connection.api, self._target.workload
        try:
            return ContainerSession(await asyncio.to_thread(execute, api, container, command, stdin=stdin, tty=tty))
        except EngineError as error:
            raise _refused(error, self._target) from None

    async def log(self, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """Raises WorkError."""
        if options.previous:
            raise WorkError("An engine keeps one log over all restarts.", "Leave --previous out.")
        more = {"stderr": "1", "tail": "all" if options.tail is None else str(options.tail)}
        more |= {"timestamps": "1"} if options.timestamps else {}
        since = options.since.timestamp() if options.since is not None else None
        engine = Engine(lambda: self._connection.api)
        try:
            response = await asyncio.to_thread(
                engine.stream_log, self._target.workload, since, _FOR_EVER if options.follow else _SILENCE,
                follow=options.follow, more=more,
            )  # fmt: skip
            try:
                while len(header := await asyncio.to_thread(response.raw.read, _HEADER)) == _HEADER:
                    left = int.from_bytes(header[4:], "big")
                    while left and (part := await asyncio.to_thread(response.raw.read, min(left, _PIECE))):
                        left -= len(part)
                        yield part
            finally:
                response.close()
        except EngineError as error:
            raise _refused(error, self._target) from None
        except (requests.RequestException, OSError) as error:
            raise WorkError(f"The log ended: {type(error).__name__}.", "Try again.") from None
        finally:
            engine.close()


@asynccontextmanager
async def container_place(where: EngineAddress, target: Target) -> AsyncIterator[ContainerPlace]:
    """Where a sandbox runs, by its engine. Raises WorkError."""
    try:
        connection = await asyncio.to_thread(connect, where.address, where.credentials)
    except ConnectError as error:
        raise WorkError(
            f"{where.endpoint}: {error}.",
            f"Run this where the Docker host's engine can be reached, as a user who may use it (docker ps), or name the"
            f" engine with --host: ClaudeSandbox {target} is on DockerHost {target.host}.",
        ) from None
    with connection:
        yield ContainerPlace(connection, target)


async def _asked(call: Callable[..., T], *arguments: Any) -> T:
    try:
        return await asyncio.to_thread(call, *arguments)
    except EngineError as error:
        raise WorkError(f"The connection to the sandbox broke: {error}.", "Try again.") from None


def _refused(error: EngineError, target: Target) -> WorkError:
    if error.is_not_found or error.is_conflict:
        return WorkError(
            f"The container of ClaudeSandbox {target} is not there, or does not run: {error}.",
            "Try again: the operator makes it anew. Where the engine is not its Docker host's, name that with --host.",
        )
    return WorkError(f"The engine does not let you into ClaudeSandbox {target}: {error}.", "See the engine's own log.")
