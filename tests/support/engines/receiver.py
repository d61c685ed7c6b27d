"""Somebody outside who is sent something by a sandbox, in the network of an engine or a node, and counts it.

It reads nothing until it is told to: so what was on its way is held in buffers, the sender's own among them.
"""

import array
import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SILENT = 3.0
"""Seconds after which nothing more is waited for."""


@dataclass(frozen=True)
class Receiver:
    """One that listens on `address`:`port`."""

    address: str
    port: int
    _process: subprocess.Popen[str]

    def wait_until_sent_to(self) -> None:
        """Until somebody sends, and more than fits into the receiver's own buffers."""
        assert _line(self._process.stdout) == "full"

    def after_now(self) -> int:
        """How many bytes arrive from now on, although there is room for them; returns when none has for a while."""
        assert self._process.stdin is not None
        self._process.stdin.write("now\n")
        self._process.stdin.flush()
        return int(_line(self._process.stdout))


def _line(output: IO[str] | None) -> str:
    assert output is not None
    return output.readline().strip()


@contextlib.contextmanager
def receiver_in(network: Path, address: str, port: int) -> Iterator[Receiver]:
    """One in a network namespace, on an address that there is in it; at any port, where that is 0."""
    command = ["nsenter", f"--net={network}", "--", sys.executable, __file__, address, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Receiver(address, int(_line(process.stdout)), process)
        finally:
            process.kill()


def _held(connection: socket.socket) -> int:
    """Bytes that have arrived and were not read."""
    found = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, found)
    return found[0]


def main(address: str, port: int) -> None:
    """Say the port, then `full`; after a line on standard input how much arrived since."""
    listening = socket.create_server((address, port))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    print(listening.getsockname()[1], flush=True)
    connection, _ = listening.accept()
    before, since = 0, time.monotonic()
    # Full: something is there, and for a second nothing more was taken.
    while not before or time.monotonic() - since < 1:
        if (now := _held(connection)) != before:
            before, since = now, time.monotonic()
        time.sleep(0.05)
    print("full", flush=True)
    sys.stdin.readline()
    left = _held(connection)
    connection.settimeout(SILENT)
    with contextlib.suppress(OSError):
        while part := connection.recv(1 << 16):
            left -= len(part)
    print(-left, flush=True)
    # The connection is open as long as the process is.
    os.read(0, 1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
