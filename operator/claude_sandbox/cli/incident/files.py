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


async def to_its_end(last: Coroutine[Any, Any, None]) -> None:
    """Await it, and where that is cancelled meanwhile, still until it is over."""
    going = asyncio.ensure_future(last)
    try:
        await asyncio.shield(going)
    except asyncio.CancelledError:
        await going
        raise
