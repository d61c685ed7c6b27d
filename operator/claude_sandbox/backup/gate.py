"""Work that is done beside a program, which waits for it at a file.

Theory of operation. The file is held by a lease of the kernel's (fcntl(2), F_SETLEASE): who opens it waits until it is
given up, and who holds it is told by a signal. The kernel takes a lease away after some time (fs.lease-break-time, 45
seconds), so a program that has come to the file is stopped (SIGSTOP) until the work is done; one that stood still for
longer than what it has elsewhere may be relied on (a lock that others take for left behind) is ended, to be run again.
Where there is no such lease, the work is done first. A helper that is killed holds nothing: so what the work makes has
to get its name only once it is whole. One gate at a time, by the main thread, for signals are the process's.
"""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_Handler = Callable[[int, FrameType | None], object] | int

_LONGEST = 900.0
"""Seconds that a program is stopped and then goes on: half of what restic takes a lock for alive without a word."""


class OverdueError(Exception):
    """The program stood still for too long, and was ended. The work is done."""


class Beside:
    """Work that is done once, beside whatever program runs first. The file is one that the program opens."""

    def __init__(self, file: Path, work: Callable[[], None]) -> None:
        self._file, self._work = file, work
        self._done = False

    def run(self, start: Callable[[], "subprocess.Popen[str]"]) -> "subprocess.Popen[str]":
        """The program, once the work is done. Raises what `start` and the work do, with the program ended; and
        OverdueError."""
        if self._done:
            return start()
        with _shut(self._file) as gate:
            if gate is None:
                self._finish()
                return start()
            running = start()
            try:
                gate.stops(running)
                self._finish()
                gate.open()
            except BaseException:
                running.kill()
                running.communicate()
                raise
            return running

    def _finish(self) -> None:
        self._work()
        self._done = True


class _Gate:
    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._running: subprocess.Popen[str] | None = None
        self._reached: float | None = None
        """When the program came to the file."""

    def stops(self, running: "subprocess.Popen[str]") -> None:
        """This program, if it comes to the file."""
        self._running = running
        if self._reached is not None:
            running.send_signal(signal.SIGSTOP)

    def reached(self, _: int, __: FrameType | None) -> None:
        """The kernel's word that somebody wants to open the file."""
        self._reached = time.monotonic()
        if self._running is not None:
            self._running.send_signal(signal.SIGSTOP)

    def open(self) -> None:
        """Let it go on. Raises OverdueError."""
        fcntl.fcntl(self._handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        if self._running is None or self._reached is None:
            return
        if time.monotonic() - self._reached > _LONGEST:
            raise OverdueError
        self._running.send_signal(signal.SIGCONT)


@contextmanager
def _shut(file: Path) -> Iterator[_Gate | None]:
    """None where the file can't be held: the file system has no leases, or this is not the main thread."""
    # A new one each time: restic would not open one that is as it was in the snapshot before.
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    gate = _Gate(handle)
    try:
        before = _watched(handle, gate)
        try:
            yield None if before is None else gate
        finally:
            if before is not None:
                with suppress(OSError):
                    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                signal.signal(signal.SIGIO, before)
    finally:
        os.close(handle)


def _watched(handle: int, gate: _Gate) -> _Handler | None:
    """Have the lease, and the gate told by a signal: what was told of it before."""
    if threading.current_thread() is not threading.main_thread():
        return None
    before = signal.signal(signal.SIGIO, gate.reached) or signal.SIG_DFL
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        signal.signal(signal.SIGIO, before)
        return None
    return before
