"""A command in a container over the engine's API: its standard streams, its terminal's size, its exit code.

Theory of operation. An `Execution` holds one connection, which belongs to it alone; it is closed by who made it,
whatever happened, and that wakes whoever waits for it. Reading and writing block, and are each for one thread of the
caller's. What comes was written by a hostile program: no more than a frame's part is held. A crash ends the
connection, and with it the command's input. The engine tells of the session as of anybody's: as the container's own
user, it harms no control.
"""

import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Any

import docker

from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError

STDOUT, STDERR = 1, 2
_HEADER = 8
"""Bytes before each part: the stream, and how many bytes of it follow (Docker Engine API, attach)."""
_PIECE = 64 * 1024
_ENDS = 10.0
"""Seconds in which an engine knows of a command's end, after its output has ended."""


class Execution:
    """One command that runs. What it raises is EngineError."""

    def __init__(self, client: docker.APIClient, identifier: str, attached: Any, *, tty: bool) -> None:
        self._client = client
        self._identifier = identifier
        # What the SDK gives is a file object around a socket; only the socket can be written to.
        self._attached = attached
        self._socket = getattr(attached, "_sock", attached)
        # Who works in a terminal may say nothing for hours.
        self._socket.settimeout(None)
        self._tty = tty
        self._stream, self._left = STDOUT, 0

    @property
    def can_end_input(self) -> bool:
        """Whether one direction of the connection can be closed alone: not with TLS."""
        return type(self._socket) is socket.socket

    def write(self, data: bytes) -> None:
        """To its standard input. Blocks."""
        try:
            self._socket.sendall(data)
        except OSError:
            raise EngineError(UNREACHABLE, "the connection to the Docker Engine ended") from None

    def end_input(self) -> None:
        """Nothing more comes on standard input; nothing happens where `can_end_input` is false."""
        if self.can_end_input:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def resize(self, columns: int, rows: int) -> None:
        """The size of its terminal. One that has ended has none."""
        with contextlib.suppress(docker.errors.APIError):
            self._client.exec_resize(self._identifier, height=rows, width=columns)

    def read(self) -> tuple[int, bytes] | None:
        """A part of what it writes, and to which stream; None at its end. Blocks."""
        if self._tty:
            part = self._receive(_PIECE)
            return (STDOUT, part) if part else None
        while not self._left:
            header = b""
            while len(header) < _HEADER:
                part = self._receive(_HEADER - len(header))
                if not part:
                    return None
                header += part
            self._stream, self._left = header[0], int.from_bytes(header[4:], "big")
        part = self._receive(min(self._left, _PIECE))
        if not part:
            raise EngineError(UNREACHABLE, "the connection to the Docker Engine ended within what was written")
        self._left -= len(part)
        return (STDERR if self._stream == STDERR else STDOUT, part)

    def exit_code(self) -> int:
        """How it ended, after its output has. Blocks."""
        deadline = time.monotonic() + _ENDS
        while time.monotonic() < deadline:
            try:
                found = self._client.exec_inspect(self._identifier)
            except (docker.errors.DockerException, OSError, ValueError) as error:
                raise EngineError(UNREACHABLE, f"how the command ended is not told ({type(error).__name__})") from None
            code = found.get("ExitCode")
            if not found.get("Running") and isinstance(code, int):
                return code
            time.sleep(0.05)
        raise EngineError(UNREACHABLE, "the connection ended before the command did")

    def close(self) -> None:
        """End the connection."""
        # Closing the file object alone leaves the connection open: the response holds the socket too.
        for end in (lambda: self._socket.shutdown(socket.SHUT_RDWR), self._socket.close, self._attached.close):
            with contextlib.suppress(OSError, AttributeError, TypeError):
                end()

    def _receive(self, most: int) -> bytes:
        try:
            found: bytes = self._socket.recv(most)
        except OSError:
            raise EngineError(UNREACHABLE, "the connection to the Docker Engine ended") from None
        return found


def execute(
    client: docker.APIClient, container: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
) -> Execution:
    """Run a command as the container's own user, with no privilege. Blocks; raises EngineError."""
    try:
        made = client.exec_create(
            container, list(command), stdin=stdin, tty=tty, stdout=True, stderr=True, privileged=False
        )
        attached = client.exec_start(made["Id"], tty=tty, socket=True)
    except docker.errors.APIError as error:
        raise EngineError(
            error.status_code or UNREACHABLE, str(error.explanation or "no reason given")[:1000]
        ) from None
    except (docker.errors.DockerException, OSError, ValueError, KeyError) as error:
        raise EngineError(UNREACHABLE, f"the Docker Engine can't be reached ({type(error).__name__})") from None
    return Execution(client, str(made["Id"]), attached, tty=tty)
