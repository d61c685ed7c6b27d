"""Reads a tar archive as it comes, from somebody who may have made it to do harm. Pure.

The formats of GNU's tar, busybox's and libarchive's: ustar, with names in GNU's or POSIX's (pax) headers. Python's own
`tarfile` reads a header of any size into memory, and understands more than is wanted here. What is kept of an archive
is one header, and nothing of its content; every size is bounded before it is believed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

BLOCK = 512
LONGEST_NAME = 4096
"""Bytes, as Linux's PATH_MAX."""
LARGEST_HEADER = 64 * 1024
"""Bytes of a header of GNU's or POSIX's with names in it."""
_LARGEST = 1 << 60


class ArchiveError(Exception):
    """It is none, or more than is taken; the message says what is wrong, and is plain."""


class Kind(Enum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARD_LINK = "hard link"
    OTHER = "device, pipe or socket"


_KINDS = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.HARD_LINK, b"2": Kind.SYMLINK,
    b"3": Kind.OTHER, b"4": Kind.OTHER, b"5": Kind.DIRECTORY, b"6": Kind.OTHER,
}  # fmt: skip
_GNU_NAME, _GNU_TARGET, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"


@dataclass(frozen=True)
class Member:
    """What an archive says of one of its members. `name` and `target` are any bytes but NUL."""

    name: bytes
    kind: Kind
    size: int
    """Bytes of its content, which follow; 0 for what is no file."""
    executable: bool
    target: bytes = b""


class Reader:
    """Feed it; it gives members, each followed by its content in pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._ended = False
        self._zeros = 0
        self._content = 0
        """Bytes of the present member that are still to come."""
        self._padding = 0
        self._names: dict[str, bytes] = {}

    @property
    def ended(self) -> bool:
        """Whether the archive's own end has come: what was cut off before has none."""
        return self._ended

    def feed(self, data: bytes) -> Iterator[Member | bytes]:
        """What came with this piece. Raises ArchiveError. To be read to its end before the next piece."""
        self._rest += data
        while not self._ended:
            if self._content:
                if not self._rest:
                    return
                part = bytes(self._rest[: self._content])
                del self._rest[: len(part)]
                self._content -= len(part)
                yield part
            elif self._padding:
                if len(self._rest) < self._padding:
                    return
                del self._rest[: self._padding]
                self._padding = 0
            else:
                step = self._header()
                if step is None:
                    return
                yield from step
        self._rest.clear()  # what fills the last record

    def _header(self) -> tuple[Member, ...] | None:
        """Read a header, and what names follow it; None where more has to come first."""
        if len(self._rest) < BLOCK:
            return None
        block = bytes(self._rest[:BLOCK])
        if not any(block):
            del self._rest[:BLOCK]
            self._zeros += 1
            # Two blocks of zeros end an archive (POSIX); a single one is borne, as GNU's tar does.
            self._ended = self._zeros == 2
            return ()
        self._zeros = 0
        kind, size = block[156:157], _number(block[124:136], "size")
        if _checksum(block) != _number(block[148:156], "checksum"):
            raise ArchiveError("it is no tar archive, or was damaged: a header's checksum is wrong")
        if kind in (_GNU_NAME, _GNU_TARGET, _PAX, _PAX_GLOBAL):
            if size > LARGEST_HEADER:
                raise ArchiveError(f"a header with names has more than {LARGEST_HEADER} bytes")
            whole = BLOCK + _padded(size)
            # Nothing is taken of it before it is there as a whole, so that nothing has to be put back.
            if len(self._rest) < whole:
                return None
            self._take_names(kind, bytes(self._rest[BLOCK : BLOCK + size]))
            del self._rest[:whole]
            return ()
        del self._rest[:BLOCK]
        return (self._member(block, kind, size),)

    def _take_names(self, kind: bytes, data: bytes) -> None:
        if kind == _GNU_NAME:
            self._names["path"] = data.split(b"\0", 1)[0]
        elif kind == _GNU_TARGET:
            self._names["linkpath"] = data.split(b"\0", 1)[0]
        elif kind == _PAX:
            self._names |= _records(data)

    def _member(self, block: bytes, kind: bytes, size: int) -> Member:
        # They are of the next member alone. A global header's are not taken.
        names, self._names = self._names, {}
        if kind == b"S" or any(name.startswith("GNU.sparse.") for name in names):
            raise ArchiveError("it has a file with holes (GNU's sparse format), which is not taken")
        name = names.get("path", _text(block[:100]))
        if "path" not in names and block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
            name = prefix + b"/" + name
        what = _KINDS.get(kind, Kind.OTHER)
        if kind == b"\0" and name.endswith(b"/"):
            what = Kind.DIRECTORY
        # pax writes there what does not fit into the header's octal digits.
        if "size" in names:
            size = _decimal(names["size"])
        target = names.get("linkpath", _text(block[157:257]))
        if max(len(name), len(target)) > LONGEST_NAME or not name:
            raise ArchiveError(f"a name has no byte, or more than {LONGEST_NAME}")
        # No system call takes one; a name would end there for the kernel, and not for us.
        if b"\0" in name + target:
            raise ArchiveError("a name has a NUL in it")
        # Of what is neither a file nor unknown there is no content, whatever its header says (POSIX, pax).
        has_content = what is Kind.FILE or kind not in _KINDS
        self._content, self._padding = (size, _padded(size) - size) if has_content else (0, 0)
        executable = bool(_number(block[100:108], "mode") & 0o100)
        return Member(name, what, self._content, executable, target if what in _LINKS else b"")


_LINKS = (Kind.SYMLINK, Kind.HARD_LINK)


def _records(data: bytes) -> dict[str, bytes]:
    """POSIX's header: `LENGTH KEY=VALUE\\n`, again and again."""
    found: dict[str, bytes] = {}
    while data.strip(b"\0"):
        length, space, _ = data.partition(b" ")
        end = _decimal(length) if space else 0
        if not len(length) + 3 < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ArchiveError("a header of POSIX's has a record that is none")
        key, equals, value = data[len(length) + 1 : end - 1].partition(b"=")
        if not equals:
            raise ArchiveError("a header of POSIX's has a record that is none")
        found[key.decode("utf-8", errors="replace")] = value
        data = data[end:]
    return found


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 18:
        raise ArchiveError("a header has a number that is none")
    return int(digits)


def _number(field: bytes, what: str) -> int:
    """Octal digits; or, as GNU's tar writes what needs more of them, the number itself after a bit."""
    if field[0] == 0x80:
        value = int.from_bytes(field[1:], "big")
    else:
        digits = field.split(b"\0", 1)[0].strip(b" ") or b"0"
        if any(digit not in b"01234567" for digit in digits):
            raise ArchiveError(f"it is no tar archive: a header's {what} is no number")
        value = int(digits, 8)
    if value > _LARGEST:
        raise ArchiveError(f"a header's {what} is too large a number")
    return value


def _checksum(block: bytes) -> int:
    return sum(block[:148]) + 8 * 0x20 + sum(block[156:])


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _padded(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK
