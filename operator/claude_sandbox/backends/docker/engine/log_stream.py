"""What a container has written, as its engine gives it back: read like the output of a command (`Execution`).

Theory of operation. A `LogStream` holds one connection, which belongs to it alone; it is closed by who made it, from
any thread, and that wakes whoever waits for it. Reading blocks. What comes was written by a hostile program: no more
than a part of it is held.
"""

import contextlib
import socket
from typing import Any

import docker
import requests
import urllib3

from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError
from claude_sandbox.backends.docker.engine.execution import STDERR, STDOUT
from claude_sandbox.backends.docker.engine.frames import HEADER

_SILENCE, _FOR_EVER = 60.0, 7 * 86400.0
"""Seconds without a byte after which a log is given up: one that has an end, and one that is followed."""
_PIECE = 64 * 1024


class LogStream:
    """A log that is read. What it raises is EngineError."""

    can_end_input = False

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._stream, self._left = STDOUT, 0

    def read(self) -> tuple[int, bytes] | None:
        """A part of it, and of which stream; None at its end. Blocks."""
        try:
            while not self._left:
                header = self._response.raw.read(HEADER)
                if len(header) < HEADER:
                    return None
                self._stream, self._left = header[0], int.from_bytes(header[4:], "big")
            part = self._response.raw.read(min(self._left, _PIECE))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
            raise EngineError(UNREACHABLE, f"the log ended: {type(error).__name__}") from None
        if not part:
            return None
        self._left -= len(part)
        return (STDERR if self._stream == STDERR else STDOUT, part)

    def write(self, data: bytes) -> None:
        """Nothing: nobody reads it."""

    def end_input(self) -> None:
        """Nothing."""

    def resize(self, columns: int, rows: int) -> None:
        """Nothing."""

    def exit_code(self) -> int:
        """It was read."""
        return 0

    def close(self) -> None:
        """End the connection."""
        # The socket first: closing the response waits for the reader, who waits for the engine.
        with contextlib.suppress(OSError, AttributeError):
            raw: Any = self._response.raw
            connection: Any = getattr(raw, "connection", None) or getattr(raw, "_connection", None)
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
        with contextlib.suppress(OSError, AttributeError, requests.RequestException, urllib3.exceptions.HTTPError):
            self._response.close()


def read_log(
    client: docker.APIClient,
    container: str,
    *,
    since: float | None = None,
    tail: int | None = None,
    follow: bool = False,
    timestamps: bool = False,
) -> LogStream:
    """Begin to read: from `since` on, in seconds since 1970, and the last `tail` lines. Blocks; raises EngineError."""
    more = {"stderr": "1", "tail": "all" if tail is None else str(tail), **({"timestamps": "1"} if timestamps else {})}
    engine = Engine(lambda: client)
    try:
        timeout = _FOR_EVER if follow else _SILENCE
        return LogStream(engine.stream_log(container, since, timeout, follow=follow, more=more))
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise EngineError(UNREACHABLE, f"the Docker Engine can't be reached ({type(error).__name__})") from None
    finally:
        engine.close()
