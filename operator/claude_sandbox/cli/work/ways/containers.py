"""A sandbox on Docker: its container, by the engine, for who has that at hand."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.execution import STDERR, Execution, execute
from claude_sandbox.backends.docker.engine.log_stream import read_log
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.target import Target
from claude_sandbox.cli.work.ways.sessions import LogOptions
from claude_sandbox.kubernetes_api.pod_exec import Channel

T = TypeVar("T")


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
        # The engine knows it only when it has ended.
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
            # The engine's client blocks.
            return ContainerSession(await asyncio.to_thread(execute, api, container, command, stdin=stdin, tty=tty))
        except EngineError as error:
            raise _refused(error, self._target) from None

    async def log(self, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """Raises WorkError."""
        if options.previous:
            raise WorkError("An engine keeps one log over all restarts.", "Leave --previous out.")
        since = options.since.timestamp() if options.since is not None else None
        read = partial(
            read_log, self._connection.api, self._target.workload,
            since=since, tail=options.tail, follow=options.follow, timestamps=options.timestamps,
        )  # fmt: skip
        try:
            log = await asyncio.to_thread(read)
        except EngineError as error:
            raise _refused(error, self._target) from None
        try:
            while (part := await _asked(log.read)) is not None:
                yield part[1]
        finally:
            # Also where who reads has enough: it wakes the thread that waits for more.
            log.close()


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
