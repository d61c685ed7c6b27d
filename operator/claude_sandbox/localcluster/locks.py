"""Advisory locks between processes, held on a directory so that no lock file is left behind."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_ATTEMPTS = 100


@contextmanager
def locked(directory: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the directory's lock, creating the directory when it isn't there.

    `on_wait` is called where another process holds the lock, before waiting for it.

    The directory may be removed by the one who holds the lock (`down` does); who waited for it then
    holds a lock on something that has no name any more, and tries again with the new directory.
    """
    while True:
        descriptor = _open(directory)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # It may have been removed while this one waited.
            if _is_still(directory, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


@contextmanager
def locked_if_free(directory: Path) -> Iterator[bool]:
    """Hold the lock of a directory that is there, unless somebody else does. Gives whether it is held."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        yield False
        return
    try:
        yield _is_had(descriptor) and _is_still(directory, descriptor)
    finally:
        os.close(descriptor)


def _is_had(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(directory: Path) -> int:
    for attempt in range(_ATTEMPTS):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, FileExistsError):
            # Removed between two steps (of mkdir too) by one who holds its lock, or no place for a directory.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("not reached")


def _is_still(directory: Path, descriptor: int) -> bool:
    try:
        named = directory.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
