"""Where packs are while they are judged: in nameless files of one directory, or in memory.

Theory of operation. A `Spool` counts the bytes of all that it has open; a `Spooled` is one pack, of one sandbox, and
gives its bytes back when it is closed, however that comes. Of `places` that there can be at once each has its share of
`total` for certain: what is more than its share, a pack is given only while the shares of all the other places stay
free. So no sandbox can fill what another one needs, and whoever has a place can push its share. A file has no name from
the beginning, so a crash leaves nothing: the kernel frees it with the process. What is written to is the kernel's page
cache first: on a file system in memory (an emptyDir of `medium: Memory`, tmpfs) it counts as the gateway's memory.
"""

import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from claude_sandbox.gateway.git.pack import TooLargeError

MIB = 1024 * 1024


class FullError(Exception):
    """There is no room for more at this moment; the text is shown by git."""


@dataclass(frozen=True)
class Room:
    """Bytes: of one pack, and of all at a time. `directory`: None is in memory."""

    directory: Path | None = None
    each: int = 24 * MIB
    total: int = 96 * MIB


def room_of(directory: Path | None, each: int | None, total: int | None) -> Room:
    """The room with these bounds; None for what suits the place: 1 GiB of 4 on a disk, 24 MiB of 96 in memory."""
    usual = Room() if directory is None else Room(directory, 1024 * MIB, 4096 * MIB)
    return Room(directory, usual.each if each is None else each, usual.total if total is None else total)


@dataclass
class Spool:
    """For all sandboxes. `places`: how many packs there can be at once."""

    room: Room
    places: int
    _open: list["Spooled"] = field(default_factory=list)

    def open(self) -> "Spooled":
        """Another pack, with nothing in it. Raises FullError where the directory takes no file."""
        directory = self.room.directory
        try:
            # Unbuffered: what is written is written.
            file = io.BytesIO() if directory is None else tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise FullError(f"the gateway can't keep a push ({error.strerror}): tell its administrator") from None
        made = Spooled(self, file)
        self._open.append(made)
        return made

    def take(self, one: "Spooled", size: int) -> None:
        """Count bytes before they are written. Raises TooLargeError and FullError."""
        wanted, share = one.size + size, self.room.total // self.places
        if wanted > self.room.each:
            raise TooLargeError(f"the push has more than {self.room.each} bytes: push it in parts")
        others = [other.size for other in self._open if other is not one]
        # What all other places may still take: of one that is open its share, or what it has beyond that already.
        owed = share * (self.places - 1 - len(others)) + sum(max(share, other) for other in others)
        if wanted > share and wanted + owed > self.room.total:
            raise FullError("there is no room for a push of this size beside others: push again in a moment")

    def closed(self, one: "Spooled") -> None:
        """It takes no room any more."""
        self._open.remove(one)


class Spooled:
    """One pack. Not for two threads at a time."""

    def __init__(self, spool: Spool, file: IO[bytes]) -> None:
        self._spool = spool
        self._file = file
        self.size = 0

    def write(self, part: bytes) -> None:
        """Raises TooLargeError and FullError."""
        self._spool.take(self, len(part))
        left = memoryview(part)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise FullError(f"the gateway can't keep the push ({error.strerror}): tell its administrator") from None
        self.size += len(part)

    def rewind(self) -> None:
        """To read what was written from its beginning."""
        self._file.seek(0)

    def read(self, size: int) -> bytes:
        """The next bytes; none at the end. Raises OSError."""
        return self._file.read(size)

    def __enter__(self) -> "Spooled":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.closed(self)
        self._file.close()
