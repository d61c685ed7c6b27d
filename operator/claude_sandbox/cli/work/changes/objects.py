"""Takes a repository's objects and the names of its commits out of an archive of its `.git`, and nothing else.

Packs are kept as they are, to be indexed anew: an index, a commit graph or a bitmap of the agent's could say that one
object is another. Loose objects become one more pack, for the same reason. Alternates are not followed.
"""

import hashlib
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from claude_sandbox.cli.work.archives.archive import ArchiveError, Kind, Member

MOST_NAMES = 32 << 20
"""Bytes of HEAD, packed-refs, shallow and all files below refs/ together."""
_PACK = re.compile(rb"objects/pack/pack-[0-9a-f]{40,64}\.pack")
_LOOSE = re.compile(rb"objects/[0-9a-f]{2}/[0-9a-f]{38,62}")
_NAMES = re.compile(rb"HEAD|packed-refs|shallow|refs/.+")
_TYPES = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
_LONGEST_HEAD = 32
_PIECE = 1 << 16


class ObjectTaker:
    """Takes members and their content. `finish` closes what it writes. Raises ArchiveError for what is too much."""

    def __init__(self, packs: Path, most_bytes: int) -> None:
        self._packs = packs
        self._left = most_bytes
        self._most = most_bytes
        self.files: dict[str, bytes] = {}
        """HEAD, packed-refs, shallow, and those below refs/."""
        self._names_left = MOST_NAMES
        self.taken: list[Path] = []
        """Packs, of which none has been looked at."""
        self._pack: _Pack | None = None
        # Names of our own: those in the sandbox are paths that the agent chose.
        self._loose = LoosePack(packs / f"pack-{0:040x}.pack")
        self._inflating: _Inflating | None = None
        self._name = ""

    def take(self, one: Member | bytes) -> None:
        """A member, or a piece of the last one's content."""
        if isinstance(one, bytes):
            self._content(one)
            return
        self._end()
        # Before the content is taken: what a header says is what comes.
        self._left -= one.size
        if self._left < 0:
            raise ArchiveError(f"the repository has more than {self._most} bytes")
        name = one.name.removeprefix(b"./")
        if one.kind is not Kind.FILE:
            return
        if _PACK.fullmatch(name):
            self._pack = _Pack(self._packs / f"pack-{len(self.taken) + 1:040x}.pack")
            self.taken.append(self._pack.path)
        elif _LOOSE.fullmatch(name):
            self._inflating = _Inflating(self._loose, self._spend)
        elif _NAMES.fullmatch(name):
            self._names_left -= one.size
            if self._names_left < 0:
                raise ArchiveError(f"the repository's names have more than {MOST_NAMES} bytes")
            self._name = name.decode("utf-8", errors="replace")
            self.files[self._name] = b""

    def finish(self) -> None:
        """All has come."""
        self._end()
        if self._loose.finish():
            self.taken.append(self._loose.path)

    def _content(self, data: bytes) -> None:
        if self._pack is not None:
            self._pack.write(data)
        elif self._inflating is not None:
            self._inflating.feed(data)
        elif self._name:
            self.files[self._name] += data

    def _spend(self, size: int) -> None:
        # From the same account as what came: some bytes can become gigabytes.
        self._left -= size
        if self._left < 0:
            raise ArchiveError(f"the repository has more than {self._most} bytes, unpacked")

    def _end(self) -> None:
        if self._pack is not None:
            self._pack.close()
        if self._inflating is not None:
            self._inflating.end()
        self._pack, self._inflating, self._name = None, None, ""


class _Pack:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("xb")
        self.write, self.close = self._file.write, self._file.close


class LoosePack:
    """A pack that is written object by object (gitformat-pack)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("xb+")
        # Room for the head, which says how many objects there are.
        self._file.write(bytes(12))
        self._count = 0

    def begin(self, kind: int, size: int) -> None:
        """An object whose content follows, compressed."""
        self._count += 1
        head = bytearray()
        byte, left = (kind << 4) | (size & 15), size >> 4
        while left:
            head.append(byte | 0x80)
            byte, left = left & 0x7F, left >> 7
        self._file.write(bytes((*head, byte)))

    def write(self, data: bytes) -> None:
        """Compressed content."""
        self._file.write(data)

    def finish(self) -> bool:
        """Write how many they are, and the checksum; False, and no file, where there is none."""
        if not self._count:
            self._file.close()
            self.path.unlink()
            return False
        self._file.seek(0)
        self._file.write(b"PACK" + struct.pack(">II", 2, self._count))
        self._file.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)  # the format's own; git computes the objects' names
        while part := self._file.read(1 << 20):
            digest.update(part)
        self._file.write(digest.digest())
        self._file.close()
        return True


class _Inflating:
    """One loose object: `TYPE SIZE\\0CONTENT`, compressed, becomes an entry of a pack."""

    def __init__(self, pack: LoosePack, spend: Callable[[int], None]) -> None:
        self._pack = pack
        self._spend = spend
        self._inflate = zlib.decompressobj()
        self._deflate = zlib.compressobj(1)
        self._head = b""
        self._begun = False
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Raises ArchiveError for what is no object."""
        try:
            while data and not self._inflate.eof:
                # In pieces: some bytes can become gigabytes.
                self._take(self._inflate.decompress(data, _PIECE))
                data = self._inflate.unconsumed_tail
        except zlib.error:
            raise ArchiveError("the repository has an object that is damaged") from None

    def end(self) -> None:
        """Its content has come whole. Raises ArchiveError where not."""
        if not self._begun or self._left or not self._inflate.eof:
            raise ArchiveError("the repository has an object that is cut, or longer than it says")
        self._pack.write(self._deflate.flush())

    def _take(self, part: bytes) -> None:
        self._spend(len(part))
        if not self._begun:
            self._head += part
            head, zero, part = self._head.partition(b"\0")
            if len(head) > _LONGEST_HEAD:
                raise ArchiveError("the repository has an object that is none")
            if not zero:
                return
            kind, _, size = head.partition(b" ")
            if kind not in _TYPES or not size.isdigit():
                raise ArchiveError("the repository has an object of a type that is none")
            self._begun, self._left = True, int(size)
            self._pack.begin(_TYPES[kind], self._left)
        self._left -= len(part)
        # A pack says the size before the content: git would take what is beyond it for the next object.
        if self._left < 0:
            raise ArchiveError("the repository has an object that is longer than it says")
        self._pack.write(self._deflate.compress(part))
