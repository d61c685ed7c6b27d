"""This machine's terminal, for a program elsewhere: raw while it runs, and as it was afterwards."""

import asyncio
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

_PIECE = 64 * 1024


def is_one() -> bool:
    """Whether both what is typed and what is shown is at a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def size() -> tuple[int, int]:
    """Columns and rows, of the terminal itself: the variables COLUMNS and LINES don't follow it."""
    with suppress(OSError):
        found = os.get_terminal_size(1)
        if found.columns and found.lines:
            return found.columns, found.lines
    fallback = shutil.get_terminal_size()
    return fallback.columns, fallback.lines


@contextmanager
def raw() -> Iterator[None]:
    """Every key goes to the program elsewhere, Ctrl-C too. As it was before, whatever happens."""
    before = termios.tcgetattr(0)
    try:
        # Not what `setraw` does by itself, which forgets what was typed meanwhile.
        tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def resized(told: Callable[[], None]) -> Iterator[None]:
    """Tell of each change of its size."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, told)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


async def typed() -> AsyncIterator[bytes]:
    """What comes on standard input, a file or a pipe as well, to its end.

    Read in a thread that is given up with the program: a read of a terminal can't be ended.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    # A command that does not read must not have a whole file taken into memory.
    room = threading.Semaphore(4)

    def read() -> None:
        part = b"?"
        while part:
            room.acquire()
            try:
                part = os.read(0, _PIECE)
            except OSError:
                part = b""
            with suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(queue.put_nowait, part)

    threading.Thread(target=read, daemon=True).start()
    while part := await queue.get():
        yield part
        room.release()


async def show(descriptor: int, data: bytes) -> None:
    """Write all of it; a reader that is slow holds up this task alone. Raises BrokenPipeError."""

    def write() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    await asyncio.to_thread(write)
