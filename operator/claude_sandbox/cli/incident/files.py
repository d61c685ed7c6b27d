"""Where what is fetched after an incident is written to, and what has to be over before a command ends."""

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import IO, Any

from claude_sandbox.api.clip import plain
from claude_sandbox.cli.work.errors import WorkError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that was not there, for its owner alone: an agent wrote what comes into it.

    Where it is not written to its end there is none. Raises WorkError where it can't be made, OSError where it can't be
    written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise WorkError(f"{plain(str(path))} can't be made: {error.strerror}.", "Name another file.") from None
    with os.fdopen(handle, "wb") as file:
        try:
            yield file
            file.flush()
        except BaseException:
            path.unlink()
            raise


class Bounded:
    """A file that takes so many bytes and no more: one with a hole is longer than all that its owner could store."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most
        self.size = 0
        """Bytes that were written."""

    def write(self, part: bytes) -> None:
        """Raises WorkError where that is too much, OSError where it can't be written."""
        if self.size + len(part) > self._most:
            raise WorkError(
                f"It has more than {self._most} bytes. Nothing was kept of what was read.",
                "Raise --max-size where there is room for it: a file with a hole is as long here as it says.",
            )
        self.size += self._file.write(part)


async def to_its_end(last: Coroutine[Any, Any, None]) -> None:
    """Await it, and where that is cancelled meanwhile, still until it is over."""
    going = asyncio.ensure_future(last)
    try:
        await asyncio.shield(going)
    except asyncio.CancelledError:
        await going
        raise
