"""Git's packets: four hexadecimal digits of length, and so many bytes less four (gitprotocol-common). Pure.

Only what git itself writes is read: a packet of another spelling would leave open which of its readings the server
takes.
"""

from collections.abc import Iterator

MAX_DATA = 65516
"""Bytes in one packet at most (gitprotocol-common: 65520 with the length)."""

FLUSH = b"0000"
"""The packet that ends a list."""

DELIMITER = b"0001"
"""The packet between two parts, in protocol version 2."""

_DIGITS = frozenset(b"0123456789abcdef")


class MalformedError(ValueError):
    """What was sent is not git's protocol; the text says in what."""


class PacketReader:
    """Splits a stream into packets, and keeps what comes behind the last that was asked for.

    It holds the bytes that were fed and not read yet: at most those of one packet and of what was fed with it.
    """

    def __init__(self, *, delimited: bool = False) -> None:
        self._data = bytearray()
        self._delimited = delimited

    def feed(self, data: bytes) -> None:
        """Take in further bytes of the stream."""
        self._data += data

    def next(self) -> tuple[bool, bytes] | None:
        """Whether it is data, and the data; of what is none, the packet itself. None where it is not whole yet.

        Raises MalformedError.
        """
        if len(self._data) < 4:
            return None
        # Lower case alone: what `int` takes besides (`+`, `_`, blanks), no git writes.
        if not _DIGITS.issuperset(self._data[:4]):
            raise MalformedError("a packet's length is no number")
        length = int(self._data[:4], 16)
        if length == 0:
            del self._data[:4]
            return False, FLUSH
        if length == 1 and self._delimited:
            del self._data[:4]
            return False, DELIMITER
        # 1 to 3 are marks of protocol version 2, which pushes don't have; 4 is a packet that says nothing.
        if not 4 < length <= MAX_DATA + 4:
            raise MalformedError(f"a packet's length is {length}")
        if len(self._data) < length:
            return None
        data = bytes(self._data[4:length])
        del self._data[:length]
        return True, data

    def rest(self) -> bytes:
        """What was fed and not read; it is held no more."""
        rest = bytes(self._data)
        self._data.clear()
        return rest


def packet(data: bytes) -> bytes:
    """One packet. Raises ValueError for more than MAX_DATA bytes, and for none."""
    if not 0 < len(data) <= MAX_DATA:
        raise ValueError("a packet has 1 to 65516 bytes")
    return b"%04x" % (len(data) + 4) + data


def side_band(band: int, data: bytes) -> Iterator[bytes]:
    """Packets of one band (1: the answer, 2: what a person reads) of side-band-64k."""
    step = MAX_DATA - 1
    for start in range(0, len(data), step):
        yield packet(bytes([band]) + data[start : start + step])
