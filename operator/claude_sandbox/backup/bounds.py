"""What a helper may take of the machine that it is on, whatever somebody else wrote.

A file may be a million times as long as what it takes on a disk (a hole). To read it takes a day, in which the
repository is nobody else's, and restored it takes all of its length: the disk of a host, where the agent's own volume
is bounded. So a file that is longer than all its file system has room for is left out, and files that together are
TIMES as long end the backup. Who watches a helper can make a file longer once that was looked at: so what a program
reads is counted, and the room beside a copy is looked at while it is made.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from claude_sandbox.backup.tree import Entry

TIMES = 4
"""Names of one file are files of their own length each, for who reads them: packages' stores have two or three."""
_NO_WORD = 1 << 44
"""Bytes of a file system that does not say how many it has."""
_PART, _MOST = 20, 2 << 30
"""Of a disk what has to stay free: one part of so many, and no more bytes than that."""

Watch = Callable[[int], str]
"""Why a program, by its number, has to end now, as a sentence; empty where it may go on."""


class Lengths:
    """Of all that is backed up at once. `longest`: bytes of one file, at most."""

    def __init__(self, parts: Iterable[Path]) -> None:
        self.longest = max((_size_of_file_system(part) for part in parts), default=_NO_WORD)
        self._copied = self._read = 0
        self._known: set[str] = set()

    @property
    def most(self) -> int:
        """Bytes of all files, at most."""
        return TIMES * self.longest

    @property
    def most_copied(self) -> int:
        """Bytes of a restored copy, at most: with the list, and some more, as a file system may pack what is in it."""
        return self.longest * 5 // 4

    def counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries. Raises TooLongError once all that came is too much."""
        for entry in entries:
            if entry.kind == "file" and not entry.unread:
                self._read += entry.size
                if entry.same is None or entry.same not in self._known:
                    self._copied += entry.size
                if entry.same is not None:
                    self._known.add(entry.same)
                if self._read > self.most:
                    raise TooLongError(self.why(f"{self._read} bytes of files were listed"))
            yield entry

    def copied(self, processed: int) -> int:
        """Bytes that a copy takes, where so many went into the snapshot: that may be more than was counted."""
        return self._copied + max(0, processed - self._read)

    def why(self, what: str) -> str:
        """Why that is too much."""
        return (
            f"{what}, and the workspace's file system has {self.longest} bytes: files with holes, or many names of one"
            " file, are longer than what they take. Remove these (du --apparent-size tells them)"
        )

    def watch(self, process: int) -> str:
        """See Watch: of what reads what is backed up."""
        try:
            told = Path(f"/proc/{process}/io").read_text(encoding="ascii")
        except OSError:
            return ""  # It is over, or the kernel does not tell.
        read = told.partition("rchar: ")[2].split("\n")[0]
        return self.why(f"restic has read {read} bytes") if read.isdecimal() and int(read) > self.most else ""


class TooLongError(Exception):
    """The message says why, as a clause."""


def no_room(directory: Path, wanted: int = 0) -> str:
    """Why there is no room for so many bytes more in a directory, as a clause; empty where there is.

    The disk that it is on is also others'.
    """
    found = os.statvfs(directory)
    free, kept = found.f_bavail * found.f_frsize, min(found.f_blocks * found.f_frsize // _PART, _MOST)
    if free - wanted >= kept:
        return ""
    needs = f"it needs {wanted} bytes, and " if wanted else ""
    return f"{needs}there are {free} bytes of room, of which {kept} stay free for others"


def leaving_room(directory: Path) -> Watch:
    """What writes there may go on as long as there is room."""
    return lambda _: no_room(directory)


def _size_of_file_system(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize or _NO_WORD
