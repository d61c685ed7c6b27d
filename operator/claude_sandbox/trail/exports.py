"""Copies of the trail's lines elsewhere: on standard output, or to a syslog server (RFC 5424).

A copy is what `verification` finds a rollback by, so a line is copied when the disk has it, and as it is there.

Theory of operation. Each export has a thread and a bounded queue of its own: one that hangs (a full pipe, a server that
is away) keeps neither the trail nor another export. What does not fit is left out of the copy and counted; the trail
has it. A crash loses what is in the queue.
"""

import logging
import os
import socket
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from claude_sandbox.trail.records import read

logger = logging.getLogger(__name__)

STDOUT = "stdout"
SCHEMES = ("syslog+udp", "syslog+tcp", "syslog+tls")
DEFAULT_PORTS = {"syslog+udp": 514, "syslog+tcp": 514, "syslog+tls": 6514}
CAPACITY = 10_000
TIMEOUT = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# Facility 13 (log audit), severity 5 (notice).
_PRIORITY = 13 * 8 + 5


class Sink(Protocol):
    """Where lines go."""

    def send(self, lines: Sequence[bytes]) -> None:
        """Raises OSError."""

    def close(self) -> None:
        """Nothing more comes."""


@dataclass(frozen=True)
class Target:
    """A syslog server."""

    scheme: str
    host: str
    port: int


def target(text: str) -> Target | None:
    """Where to: None is standard output. Raises ValueError."""
    if text == STDOUT:
        return None
    url = urlsplit(text)
    if url.scheme not in SCHEMES or not url.hostname or url.path not in ("", "/") or url.query or url.username:
        raise ValueError("write stdout, syslog+udp://HOST:PORT, syslog+tcp://HOST:PORT or syslog+tls://HOST:PORT")
    return Target(url.scheme, url.hostname, url.port or DEFAULT_PORTS[url.scheme])


def sink(to: Target | None) -> Sink:
    """What sends there."""
    return StandardOutput() if to is None else Syslog(to)


class StandardOutput:
    """Lines as they are, each in one write."""

    def send(self, lines: Sequence[bytes]) -> None:
        out = sys.stdout.buffer
        for line in lines:
            out.write(line + b"\n")
        out.flush()

    def close(self) -> None:
        pass


class Syslog:
    """Messages of RFC 5424; on a stream with their length before them (RFC 6587, and RFC 5425 for TLS)."""

    def __init__(self, to: Target) -> None:
        self._to = to
        self._host = os.environ.get("POD_NAME") or socket.gethostname() or "-"
        self._socket: socket.socket | None = None

    def send(self, lines: Sequence[bytes]) -> None:
        """What was sent before the server hung up may come twice."""
        if self._socket is None:
            self._socket = self._connected()
        try:
            for line in lines:
                message = syslog_message(line, self._host)
                if self._to.scheme == "syslog+udp":
                    self._socket.send(message)
                else:
                    self._socket.sendall(f"{len(message)} ".encode() + message)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None

    def _connected(self) -> socket.socket:
        to = self._to
        if to.scheme == "syslog+udp":
            # Connected, so that a port where nobody listens is told of by the next message's error.
            family, kind, protocol, _, address = socket.getaddrinfo(to.host, to.port, type=socket.SOCK_DGRAM)[0]
            found = socket.socket(family, kind, protocol)
            found.settimeout(TIMEOUT)
            found.connect(address)
            return found
        found = socket.create_connection((to.host, to.port), TIMEOUT)
        if to.scheme == "syslog+tls":
            try:
                return ssl.create_default_context().wrap_socket(found, server_hostname=to.host)
            except OSError:
                found.close()
                raise
        return found


def syslog_message(line: bytes, host: str) -> bytes:
    """The line as a message of RFC 5424, with its time and its kind. Raises LineError."""
    found = read(line)
    head = f"<{_PRIORITY}>1 {found.time} {host[:255]} claude-sandbox {os.getpid()} {found.kind[:32]} - "
    # RFC 5424 wants a header of printable ASCII; the line is such a text already (`records`).
    return head.encode("ascii", errors="replace") + line


class Export:
    """Sends lines elsewhere, by a thread of its own."""

    def __init__(self, name: str, to: Sink, left_out: Callable[[int], None] = lambda _: None) -> None:
        self.name = name
        self._sink = to
        self._left_out = left_out
        self._lines: deque[bytes] = deque()
        self._ready = threading.Condition()
        self._ends = False
        # A daemon: one that hangs in a write must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"export of the trail to {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, lines: Sequence[bytes]) -> None:
        """Never blocks for long, and never fails."""
        with self._ready:
            # It can be below nought: what could not be sent was put back.
            room = max(0, CAPACITY - len(self._lines))
            self._lines.extend(lines[:room])
            self._ready.notify()
        if len(lines) > room:
            self._left_out(len(lines) - room)

    def close(self, timeout: float) -> None:
        """Send what is there, for so many seconds at most."""
        with self._ready:
            self._ends = True
            self._ready.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        pause, failing = _FIRST_PAUSE, False
        while True:
            with self._ready:
                while not self._lines and not self._ends:
                    self._ready.wait()
                if not self._lines:
                    break
                batch = [self._lines.popleft() for _ in range(min(100, len(self._lines)))]
            try:
                self._sink.send(batch)
            # ValueError: standard output was closed.
            except (OSError, ValueError) as error:
                if not failing:
                    logger.warning("the trail can't be copied to %s: %s. It is tried again", self.name, error)
                failing = True
                with self._ready:
                    if self._ends:
                        break
                    # The whole of it: of a stream nobody knows what the server has taken, and twice is better than
                    # never.
                    self._lines.extendleft(reversed(batch))
                    self._ready.wait_for(lambda: self._ends, pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                if failing:
                    logger.info("the trail is copied to %s again", self.name)
                pause, failing = _FIRST_PAUSE, False
        self._sink.close()
