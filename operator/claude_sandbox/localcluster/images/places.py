"""Where images are built: a place for each content, held by whoever builds it.

Theory of operation. A place is a directory of the cache, named for what is built there, and the lock on it. Builds of
one image wait for each other, so that nobody builds what another is about to have built; those of different images
don't. Who holds a place finds it empty, and it is gone when it is given back. A build that is killed leaves its
directory, whose lock is free then: the next build, of whatever image, removes it.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked, locked_if_free


@contextmanager
def place(name: str, on_wait: Callable[[], None]) -> Iterator[Path]:
    """Hold the place of what is called so; `on_wait` is called where another process has it, before waiting for it."""
    # In the cache, because /tmp may be a small file system in memory.
    directory = cache_dir() / "builds" / name
    with locked(directory, on_wait):
        try:
            for left in directory.iterdir():
                _remove(left)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def remove_what_was_left() -> None:
    """Remove the places of builds that were killed."""
    for directory in (cache_dir() / "builds").glob("*"):
        with locked_if_free(directory) as held:
            if held:
                shutil.rmtree(directory, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
