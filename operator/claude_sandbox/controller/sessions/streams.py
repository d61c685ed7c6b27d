"""Carries a session: what a client sends to what runs in the sandbox, and what that writes to the client.

Theory of operation. A `Stream` holds one connection and one thing that runs, and belongs to one task. Three tasks of
its own read the client, read what runs, and look whether the session may go on; the first that ends ends all. What
runs blocks, so it is read and written in threads of the sessions' own, at most one each way for a session. Nobody reads
ahead: a client that is slow, or a command that does not read, holds up its own session and nobody's memory.

Both sides are hostile. A message of a client that is none of the protocol ends the session. The protocol is that of the
API server's `pods/exec` (see `kubernetes_api/pod_exec.py`), so that clients need one for both. A crash ends the
connection, and with it the command's input.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from aiohttp import WSMsgType, web

from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.execution import STDERR
from claude_sandbox.kubernetes_api.pod_exec import Channel

T = TypeVar("T")

_GOODBYE = 5.0
"""Seconds for the last words to a client."""
_LEFT = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED)


class Running(Protocol):
    """What runs: an `Execution` or a `LogStream`. Its calls block, and raise EngineError."""

    @property
    def can_end_input(self) -> bool: ...
    def write(self, data: bytes) -> None: ...
    def end_input(self) -> None: ...
    def resize(self, columns: int, rows: int) -> None: ...
    def read(self) -> tuple[int, bytes] | None: ...
    def exit_code(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Bounds:
    """Of one session, in seconds: without a byte either way, altogether, and between two looks whether it may go on."""

    idle: float = 3600.0
    longest: float = 12 * 3600.0
    looks: float = 5.0


class MalformedError(Exception):
    """The client sent what is none of the protocol; the message says what."""


class EndedError(Exception):
    """The session may not go on; the message says why."""


class Stream:
    """One session. `may_go_on` says why it has to end, or nothing; `spend` waits until bytes may be carried."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        running: Running,
        threads: Executor,
        may_go_on: Callable[[], Awaitable[str]],
        spend: Callable[[int], Awaitable[None]],
        bounds: Bounds = Bounds(),
    ) -> None:
        self._socket = socket
        self._running = running
        self._threads = threads
        self._may_go_on = may_go_on
        self._spend = spend
        self._bounds = bounds
        self._moved = self._began = time.monotonic()

    async def run(self) -> str:
        """Carry it to its end: how that was, for the log."""
        giving = asyncio.create_task(self._give(), name="session: client")
        showing = asyncio.create_task(self._show(), name="session: command")
        looking = asyncio.create_task(self._look(), name="session: limits")
        tasks = (giving, showing, looking)
        try:
            # Whichever it is: none of the three is of use without the others.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First, since it wakes the threads that wait for it.
            self._running.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return await self._told(*tasks)

    async def _told(
        self, giving: "asyncio.Task[None]", showing: "asyncio.Task[int]", looking: "asyncio.Task[None]"
    ) -> str:
        """Tell the client how it ended, as far as it is there."""
        # First: a command that ended is told of, though a limit was met, or the client left, at the same moment.
        if _done(showing) and (error := showing.exception()) is None:
            code = showing.result()
            await self._say(_exited(code))
            return f"exit code {code}"
        if _done(looking):
            error = looking.exception()
            await self._say(_failed("Ended", f"The session ended: {error}."))
            return str(error)
        if _done(giving):
            if not isinstance(error := giving.exception(), MalformedError):
                return "the client left"
            await self._say(_failed("BadRequest", f"The session ended: {error}."))
            return str(error)
        error = showing.exception()
        if isinstance(error, EngineError):
            await self._say(_failed("InternalError", f"The session ended: {error}."))
            return str(error)
        return "the client left"

    async def _give(self) -> None:
        """What the client sends, until it leaves. Raises MalformedError."""
        while (message := await self._socket.receive()).type not in _LEFT:
            if message.type is not WSMsgType.BINARY or not message.data:
                raise MalformedError("a message of an unknown kind came")
            channel, data = message.data[0], message.data[1:]
            self._moved = time.monotonic()
            if channel == Channel.STDIN:
                # Before it is handed on, so that a client that sends fast is read more slowly.
                await self._spend(len(data))
                await self._ignored(self._running.write, data)
            elif channel == Channel.RESIZE:
                await self._ignored(self._running.resize, *_size(data))
            elif channel == Channel.CLOSE and data == bytes([Channel.STDIN]):
                await self._ignored(self._running.end_input)
            else:
                raise MalformedError("a message for an unknown stream came")
            # Once more: the time that a command took to read it was not idle.
            self._moved = time.monotonic()

    async def _show(self) -> int:
        """What runs writes, to its end: its exit code. Raises EngineError, and ConnectionError where nobody reads."""
        while (part := await self._thread(self._running.read)) is not None:
            channel = Channel.STDERR if part[0] == STDERR else Channel.STDOUT
            # Before it is sent, so that a command that writes fast is read more slowly.
            await self._spend(len(part[1]))
            await self._socket.send_bytes(bytes([channel]) + part[1])
            self._moved = time.monotonic()
        return await self._thread(self._running.exit_code)

    async def _look(self) -> None:
        """Raises EndedError when the session may not go on."""
        while True:
            await asyncio.sleep(self._bounds.looks)
            now = time.monotonic()
            if now - self._moved > self._bounds.idle:
                raise EndedError(f"nothing was carried for {self._bounds.idle:.0f} s")
            if now - self._began > self._bounds.longest:
                raise EndedError(f"it lasted {self._bounds.longest:.0f} s")
            if why := await self._may_go_on():
                raise EndedError(why)

    async def _ignored(self, call: Callable[..., None], *arguments: object) -> None:
        """Of a command that has ended: how it did is told with its output."""
        with suppress(EngineError):
            await self._thread(call, *arguments)

    async def _thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _say(self, status: dict[str, object]) -> None:
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._socket.send_bytes(bytes([Channel.ERROR]) + json.dumps(status).encode())
                await self._socket.close()
        except (TimeoutError, ConnectionError, RuntimeError):
            pass  # nobody is there


def _done(task: "asyncio.Task[T]") -> bool:
    return task.done() and not task.cancelled()


def _size(data: bytes) -> tuple[int, int]:
    """Columns and rows. Raises MalformedError."""
    try:
        # A size is shorter; what is longer is none, and is not parsed to its end.
        found = json.loads(data[:100])
        size = found["Width"], found["Height"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MalformedError("the size of a terminal came in an unknown form") from None
    if not all(type(one) is int and 0 < one < 1 << 16 for one in size):
        raise MalformedError("no terminal has the size that came")
    return size


def _exited(code: int) -> dict[str, object]:
    """As the API server tells it (kubernetes/apimachinery, remotecommand)."""
    if not code:
        return {"status": "Success"}
    cause = {"reason": "ExitCode", "message": str(code)}
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}


def _failed(reason: str, message: str) -> dict[str, object]:
    return {"status": "Failure", "reason": reason, "message": message}
