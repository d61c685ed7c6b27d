"""A file or directory of this machine as a tar archive, piece by piece, in GNU's format, which every tar reads."""

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.plain import plain_line

_PIECE = 256 * 1024
UID = 1000
"""The agent's user and group (blueprint/agent.py)."""


class Packer:
    """Packs `source` under the name `copy`, and after it an empty file `complete`: who has that has all."""

    def __init__(self, source: Path) -> None:
        """Raises WorkError where there is no such thing."""
        if not source.exists():
            raise WorkError(f"There is no {source}.", "Name a file or directory of this machine.")
        self._source = source
        self.name = source.resolve().name
        """What it is called, whatever led to it."""
        self.left_out: list[str] = []
        """What is neither file, directory nor link."""

    def parts(self) -> Iterator[bytes]:
        """The archive. Raises WorkError for a file that changes meanwhile, OSError for what can't be read."""
        size = 0
        for part in self._members():
            size += len(part)
            yield part
        # The end of an archive, filled up to what tar reads at once: without more input it would wait.
        yield bytes(2 * tarfile.BLOCKSIZE + -(size + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)

    def _members(self) -> Iterator[bytes]:
        # A link that is named itself is followed, as cp does with an argument; those inside are copied as links.
        yield from self._member(self._source, "copy", follow=True)
        if self._source.is_dir():
            # Not as a recursion: a tree may be deep.
            for directory, directories, files in os.walk(self._source):
                directories.sort()
                below = Path("copy", Path(directory).relative_to(self._source))
                for name in sorted((*directories, *files)):
                    yield from self._member(Path(directory, name), str(below / name))
        yield self._header("complete", tarfile.REGTYPE, 0, 0o600)

    def _member(self, path: Path, name: str, *, follow: bool = False) -> Iterator[bytes]:
        found = path.stat() if follow else path.lstat()
        mode = stat.S_IMODE(found.st_mode) & 0o777
        if stat.S_ISDIR(found.st_mode):
            # Whoever copies what can't be written to wants to be able to remove the copy.
            yield self._header(name, tarfile.DIRTYPE, 0, mode | 0o700)
        elif stat.S_ISLNK(found.st_mode):
            yield self._header(name, tarfile.SYMTYPE, 0, mode, str(path.readlink()))
        elif stat.S_ISREG(found.st_mode):
            with path.open("rb") as file:
                # Of the open file: the one that was looked at may be another by now.
                size = os.fstat(file.fileno()).st_size
                yield self._header(name, tarfile.REGTYPE, size, mode)
                yield from _content(file, size, path)
        else:
            self.left_out.append(plain_line(os.fsencode(path)))

    def _header(self, name: str, kind: bytes, size: int, mode: int, target: str = "") -> bytes:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode, info.linkname = kind, size, mode, target
        info.uid = info.gid = UID
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _content(file: BinaryIO, size: int, path: Path) -> Iterator[bytes]:
    left = size
    while left:
        part = file.read(min(left, _PIECE))
        if not part:
            raise WorkError(f"{plain_line(os.fsencode(path))} became shorter while it was copied.", "Try again.")
        left -= len(part)
        yield part
    yield bytes(-size % tarfile.BLOCKSIZE)
