"""The commits and trees of a pack (gitformat-pack), read as its bytes arrive. Pure.

Theory of operation. `PackReader` takes a pack's bytes in order and holds what a decision on its history needs: each
commit and tree whole, and each delta of which it isn't known yet that it is of a blob. Blobs are inflated to find
where they end, and thrown away. What it holds is bounded (`Limits`); a pack that has more raises TooLargeError, and is
refused, since what wasn't read can't be judged. A pack that isn't whole, or isn't exactly as git writes it, raises
MalformedError: nothing behind its end is ever passed on.

Objects are held by the name that is computed of their bytes, never by one that the pack claims. A delta is of a base
before it in the pack, or of one that is named; a named one may come later or be the server's own (a thin pack), so
deltas are resolved by `objects`, when the pack is whole and the server's part is there.
"""

import hashlib
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_sandbox.gateway.git.pkt_line import MalformedError

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
_OFS_DELTA, _REF_DELTA = 6, 7
_NAMES = {COMMIT: b"commit", TREE: b"tree", TAG: b"tag"}
_CHUNK = 64 * 1024
_BESIDE = 400
"""Bytes that an object takes beside its data: itself, its name, and where it is found (measured: 333)."""


class TooLargeError(ValueError):
    """The pack has more than can be judged; the text says of what."""


@dataclass(frozen=True)
class Limits:
    """Numbers of objects, and bytes."""

    objects: int = 1_000_000
    held: int = 256 * 1024 * 1024
    """Of commits, trees and deltas together, with what each takes beside its data."""
    object: int = 32 * 1024 * 1024
    """Of one commit, tree or delta."""


@dataclass(frozen=True)
class GitObject:
    """A commit, tree or tag, whole."""

    kind: int
    data: bytes


@dataclass(frozen=True)
class _Delta:
    """`base`: the offset of its base in the pack, or its id."""

    base: int | bytes
    data: bytes


@dataclass
class _Entry:
    """What is being read."""

    offset: int
    kind: int
    size: int
    base: int | bytes = 0
    data: bytearray = field(default_factory=bytearray)
    inflated: int = 0


class PackReader:
    """Reads one pack. `done`: its end was seen, and its checksum is right."""

    def __init__(self, *, sha256: bool = False, limits: Limits = Limits()) -> None:
        self._hash = hashlib.sha256 if sha256 else hashlib.sha1
        self._limits = limits
        self._sum = self._hash()
        self._buffer = bytearray()
        self._consumed = 0
        # Objects that are still to come; below 0 the pack's header is.
        self._left = -1
        self._entry: _Entry | None = None
        self._inflate = zlib.decompressobj()
        self._whole: dict[int, GitObject] = {}
        self._deltas: dict[int, _Delta] = {}
        # Offsets as they come, so in order: of a million blobs 8 MB.
        self._blobs = array("Q")
        self._held = 0
        self.done = False

    def feed(self, data: bytes) -> None:
        """Take further bytes. Raises MalformedError and TooLargeError."""
        self._buffer += data
        while not self.done and self._step():
            pass
        if self.done and self._buffer:
            raise MalformedError("something comes behind the pack")

    def end(self) -> None:
        """No more comes. Raises MalformedError where the pack isn't whole."""
        if not self.done:
            raise MalformedError("the pack is cut off")

    def objects(self, others: Mapping[bytes, GitObject]) -> Mapping[bytes, GitObject]:
        """Commits, trees and tags of the pack by their ids in hex; `others`: what the server has, for deltas of it.

        A delta whose base is not known is left out: it is of a blob, or of something that will be missed. What deltas
        make counts towards the limit for each call by itself; it is the caller's to hold one of them at a time.
        """
        held = self._held
        try:
            return self._resolved(others)
        finally:
            self._held = held

    def _resolved(self, others: Mapping[bytes, GitObject]) -> Mapping[bytes, GitObject]:
        found: dict[bytes, GitObject] = {}
        waiting: dict[int | bytes, list[int]] = {}
        for offset, delta in self._deltas.items():
            waiting.setdefault(delta.base, []).append(offset)
        ready = list(self._whole.items())
        theirs = [(others.get(base), made) for base, made in waiting.items() if isinstance(base, bytes)]
        ready += [(offset, self._made(one, offset)) for one, made in theirs if one is not None for offset in made]
        # No recursion: a chain of deltas may be as long as the pack.
        while ready:
            offset, one = ready.pop()
            name = self.name(one)
            # Of a name that two have, the first is as good: it is a hash of all that they are.
            known = name in found
            found[name] = one
            bases: tuple[int | bytes, ...] = (offset,) if known or name in others else (offset, name)
            ready += [(next_, self._made(one, next_)) for base in bases for next_ in waiting.get(base, ())]
        return found

    def _made(self, base: GitObject, offset: int) -> GitObject:
        one = GitObject(base.kind, patched(base.data, self._deltas[offset].data, self._limits.object))
        self._hold(len(one.data) + _BESIDE)
        return one

    def name(self, one: GitObject) -> bytes:
        """The id of an object, in hex."""
        header = b"%s %d\0" % (_NAMES[one.kind], len(one.data))
        return self._hash(header + one.data).hexdigest().encode()

    def _step(self) -> bool:
        """Whether something was taken from the buffer."""
        if self._left < 0:
            return self._begin()
        if self._entry is not None:
            return self._inflated(self._entry)
        return self._begin_entry() if self._left else self._checksum()

    def _begin(self) -> bool:
        if len(self._buffer) < 12:
            return False
        if bytes(self._buffer[:8]) not in (b"PACK\0\0\0\2", b"PACK\0\0\0\3"):
            raise MalformedError("what follows is no pack of version 2 or 3")
        self._left = int.from_bytes(self._buffer[8:12], "big")
        if self._left > self._limits.objects:
            raise TooLargeError(f"the push has more than {self._limits.objects} objects")
        self._take(12)
        return True

    def _begin_entry(self) -> bool:
        # A header has ten bytes at most for a size that fits 64 bits, and an offset or an id.
        read = _header(self._buffer, self._consumed, self._hash().digest_size)
        if read is None:
            if len(self._buffer) > 64:
                raise MalformedError("an object's header is too long")
            return False
        self._entry, length = read
        if self._keeps(self._entry) and self._entry.size > self._limits.object:
            raise TooLargeError(f"a commit, tree or delta has more than {self._limits.object} bytes")
        self._take(length)
        self._inflate = zlib.decompressobj()
        return True

    def _keeps(self, entry: _Entry) -> bool:
        return entry.kind != BLOB and not (isinstance(entry.base, int) and self._is_blob(entry.base))

    def _is_blob(self, offset: int) -> bool:
        at = bisect_left(self._blobs, offset)
        return at < len(self._blobs) and self._blobs[at] == offset

    def _inflated(self, entry: _Entry) -> bool:
        if not self._buffer:
            return False
        # No more than it may need, or of a small object what is behind it would be copied again and again.
        left = entry.size - entry.inflated
        given = bytes(self._buffer[: min(_CHUNK, left + left // 256 + 128)])
        try:
            data = self._inflate.decompress(given, _CHUNK)
        except zlib.error:
            raise MalformedError("an object is not well compressed") from None
        unused = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        used = len(given) - len(unused)
        entry.inflated += len(data)
        if entry.inflated > entry.size:
            raise MalformedError("an object has more than its header says")
        if self._keeps(entry):
            self._hold(len(data))
            entry.data += data
        self._take(used)
        if self._inflate.eof:
            self._end_entry(entry)
        return bool(used or data)

    def _end_entry(self, entry: _Entry) -> None:
        if entry.inflated != entry.size:
            raise MalformedError("an object has less than its header says")
        if not self._keeps(entry):
            # Remembered by where it is: a delta of a blob makes a blob, and need not be held either.
            self._blobs.append(entry.offset)
        else:
            self._hold(_BESIDE)
            self._kept(entry)
        self._entry = None
        self._left -= 1

    def _kept(self, entry: _Entry) -> None:
        if entry.kind in (_OFS_DELTA, _REF_DELTA):
            self._deltas[entry.offset] = _Delta(entry.base, bytes(entry.data))
        else:
            self._whole[entry.offset] = GitObject(entry.kind, bytes(entry.data))

    def _checksum(self) -> bool:
        length = self._sum.digest_size
        if len(self._buffer) < length:
            return False
        # As the server would see: a pack that it reads otherwise than this did has another sum.
        if bytes(self._buffer[:length]) != self._sum.digest():
            raise MalformedError("the pack's checksum is wrong")
        del self._buffer[:length]
        self.done = True
        return True

    def _take(self, length: int) -> None:
        self._sum.update(self._buffer[:length])
        del self._buffer[:length]
        self._consumed += length

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > self._limits.held:
            raise TooLargeError(f"commits and trees of the push have more than {self._limits.held} bytes")


def _header(data: bytearray, offset: int, id_length: int) -> tuple[_Entry, int] | None:
    """An entry and the length of its header; None where it isn't whole. Raises MalformedError."""
    at, shift, size = 0, 4, 0
    kind = 0
    while True:
        if at == len(data):
            return None
        byte = data[at]
        if at == 0:
            kind, size = byte >> 4 & 7, byte & 15
        else:
            size |= (byte & 127) << shift
            shift += 7
        at += 1
        if not byte & 128:
            break
        if shift > 60:
            raise MalformedError("an object's size is no number")
    if kind in _NAMES or kind == BLOB:
        return _Entry(offset, kind, size, -1), at
    if kind == _REF_DELTA:
        name = bytes(data[at : at + id_length])
        return (_Entry(offset, kind, size, name.hex().encode()), at + id_length) if len(name) == id_length else None
    if kind != _OFS_DELTA:
        raise MalformedError("an object is of no known kind")
    return _offset_delta(data, at, offset, size)


def _offset_delta(data: bytearray, at: int, offset: int, size: int) -> tuple[_Entry, int] | None:
    back, first = 0, True
    while True:
        if at == len(data):
            return None
        byte = data[at]
        at += 1
        # Each byte but the first adds one (gitformat-pack), so that no offset can be written in two ways.
        back = (back if first else (back + 1) << 7) | byte & 127
        first = False
        if not byte & 128:
            break
        if back > offset:
            raise MalformedError("a delta's base is before the pack")
    # The first 12 bytes are the pack's header.
    if not 0 < back <= offset - 12:
        raise MalformedError("a delta's base is before the pack")
    return _Entry(offset, _OFS_DELTA, size, offset - back), at


def patched(base: bytes, delta: bytes, limit: int) -> bytes:
    """The object that a delta makes of its base (gitformat-pack, Deltified representation).

    Raises MalformedError, and TooLargeError for a result of more than `limit` bytes.
    """
    base_size, at = _varint(delta, 0)
    size, at = _varint(delta, at)
    if base_size != len(base):
        raise MalformedError("a delta is of another base")
    if size > limit:
        raise TooLargeError(f"a commit or tree has more than {limit} bytes")
    made = bytearray()
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 128:
            start, length, at = _copy(delta, at, code)
            part = base[start : start + length]
            if len(part) != length:
                raise MalformedError("a delta copies what is not there")
        else:
            part = delta[at : at + code]
            at += code
            if not code or len(part) != code:
                raise MalformedError("a delta is cut off")
        made += part
        if len(made) > size:
            raise MalformedError("a delta makes more than it says")
    if len(made) != size:
        raise MalformedError("a delta makes less than it says")
    return bytes(made)


def _copy(delta: bytes, at: int, code: int) -> tuple[int, int, int]:
    values = []
    for bits in ((0, 1, 2, 3), (4, 5, 6)):
        value = 0
        for index, bit in enumerate(bits):
            if code >> bit & 1:
                if at == len(delta):
                    raise MalformedError("a delta is cut off")
                value |= delta[at] << 8 * index
                at += 1
        values.append(value)
    return values[0], values[1] or 0x10000, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at == len(data) or shift > 60:
            raise MalformedError("a delta's size is no number")
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at
