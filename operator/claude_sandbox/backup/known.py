"""Which files are as they were in an earlier list, so that they need not be read again for the next.

Theory of operation. A file is known if a list whose snapshot was verified has it with the same inode, change time
(ctime), time, size and mode, and the change was long over when that list read it: no user can set a change time back.
restic goes by the same, and stores what it takes for unchanged from the snapshot before. So that nobody has to believe
the kernel for ever, one in READ_AGAIN of them is read all the same, by chance: what changed without a word is found
some backups later. One `KnownFiles` is for one walk, which asks in the order of the list.
"""

import os
import random
import stat
from collections.abc import Callable, Iterable, Iterator

from claude_sandbox.backup.tree import Entry, parts

READ_AGAIN = 8


class KnownFiles:
    """Those of a list."""

    def __init__(self, entries: Iterable[Entry], chance: Callable[[], float] = random.random) -> None:
        self._left: Iterator[Entry] = iter(entries)
        self._next = next(self._left, None)
        self._chance = chance

    def __call__(self, path: bytes, seen: os.stat_result) -> Entry | None:
        """The file as it was, if that is how it is."""
        while self._next is not None and self._next.path != path:
            if parts(self._next.path) > parts(path):
                return None
            self._next = next(self._left, None)
        entry, self._next = self._next, next(self._left, None)
        if entry is None or entry.digest is None or not _is_as_it_was(entry, seen):
            return None
        return None if self._chance() * READ_AGAIN < 1 else entry


def _is_as_it_was(entry: Entry, seen: os.stat_result) -> bool:
    return (
        entry.inode == seen.st_ino
        and entry.ctime == seen.st_ctime_ns
        and entry.mtime == seen.st_mtime_ns
        and entry.size == seen.st_size
        and stat.S_ISREG(seen.st_mode)
        and entry.mode == stat.S_IMODE(seen.st_mode)
    )
