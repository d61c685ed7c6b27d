"""What a client's fetch asks for (gitprotocol-v2, and gitprotocol-pack's Packfile Negotiation), read as bytes arrive.
Pure.

A fetch gives objects and the names of refs, and is let through for nothing else that a server may know: another
command, options for the server, packs that are to be had elsewhere, patterns that the server is to look up. So each
packet is judged before it goes on, and what is not known here is refused.
"""

import re
import zlib
from collections.abc import Iterator

from claude_sandbox.gateway.git.pkt_line import DELIMITER, FLUSH, MalformedError, PacketReader

MOST_WANTS = 20
"""That are noted of one request."""
MOST_READ = 32 * 1024 * 1024
"""Bytes of one request, inflated: half a million refs and commits."""
STEP = 64 * 1024
"""Bytes that are inflated and judged at a time: little that came may be much."""

_ID = rb"(?:[0-9a-f]{40}|[0-9a-f]{64})"
_REF = rb"[^\x00-\x20\x7f]{1,1000}"
_FILTER = rb"(?:blob:none|blob:limit=[0-9]{1,15}[kmgKMG]?|tree:[0-9]{1,9}|object:type=(?:blob|tree|commit|tag))"
_ARGUMENTS = (
    rb"(?:want|have|shallow) " + _ID
    + rb"|deepen [0-9]{1,10}|deepen-since [0-9]{1,15}|deepen-not " + _REF
    + rb"|filter (?:" + _FILTER + rb"|combine:" + _FILTER + rb"(?:\+" + _FILTER + rb"){1,7})"
)  # fmt: skip
_WORDS = rb"thin-pack|no-progress|include-tag|ofs-delta|deepen-relative|wait-for-done|done"
_CAPABILITY = rb"agent=[\x21-\x7e]{1,500}|object-format=sha(?:1|256)"
_OF_VERSION_2 = {
    b"command=fetch": re.compile(_ARGUMENTS + rb"|want-ref " + _REF + rb"|" + _WORDS),
    b"command=ls-refs": re.compile(rb"peel|symrefs|unborn|ref-prefix " + _REF),
}
_HEAD_OF_VERSION_2 = re.compile(_CAPABILITY)
_FIRST_WANT = re.compile(rb"want " + _ID + rb" (.*)")
_OF_VERSION_0 = re.compile(_ARGUMENTS + rb"|done")
_CAPABILITIES_OF_VERSION_0 = re.compile(
    rb"multi_ack|multi_ack_detailed|no-done|thin-pack|side-band|side-band-64k|ofs-delta|shallow|deepen-since|deepen-not"
    rb"|deepen-relative|no-progress|include-tag|allow-tip-sha1-in-want|allow-reachable-sha1-in-want|filter|"
    + _CAPABILITY
)


class FetchReader:
    """Takes a client's request in order, and gives it inflated, as far as it may go on. `wanted`: what is asked for."""

    def __init__(self, *, version2: bool, encoding: str | None) -> None:
        # 16 for the header and trailer of gzip, and 15 for its largest window.
        self._inflate = zlib.decompressobj(31) if encoding in ("gzip", "x-gzip") else None
        if self._inflate is None and encoding not in (None, "identity"):
            raise MalformedError("it is compressed in a way that is not known here")
        self._packets = PacketReader(delimited=version2)
        self._lines = _Version2() if version2 else _Version0()
        self._left = MOST_READ
        self.wanted: list[str] = []

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take further bytes; what may go on, by and by. Raises MalformedError."""
        if self._inflate is None:
            for start in range(0, len(data), STEP):
                yield self._judged(data[start : start + STEP])
            return
        while data:
            try:
                part = self._inflate.decompress(data, STEP)
            except zlib.error:
                raise MalformedError("it can't be inflated") from None
            # Behind the end of what was compressed readers differ on what is there.
            if self._inflate.unused_data:
                raise MalformedError("there is something behind its end")
            data = self._inflate.unconsumed_tail
            yield self._judged(part)

    def end(self) -> None:
        """No more comes. Raises MalformedError where it is not whole."""
        if self._packets.rest() or (self._inflate is not None and not self._inflate.eof):
            raise MalformedError("it is cut off")

    def _judged(self, part: bytes) -> bytes:
        self._left -= len(part)
        if self._left < 0:
            raise MalformedError("it asks for too much at once: fetch fewer refs at a time")
        self._packets.feed(part)
        given = bytearray()
        while (found := self._packets.next()) is not None:
            is_data, line = found
            text = line.removesuffix(b"\n")
            self._lines.judge(text if is_data else b"", line)
            self._note(text)
            given += b"%04x" % (len(line) + 4) + line if is_data else line
        return bytes(given)

    def _note(self, text: bytes) -> None:
        word, _, rest = text.partition(b" ")
        if word in (b"want", b"want-ref") and len(self.wanted) < MOST_WANTS:
            name = rest.partition(b" ")[0].decode("latin-1")
            if name not in self.wanted:
                self.wanted.append(name)


class _Once:
    """Words without a value, which say nothing the second time."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def note(self, text: bytes) -> None:
        if b" " in text:
            return
        if text in self._seen:
            raise _unknown(text, "it says twice")
        self._seen.add(text)


class _Version2:
    """One command, its capabilities, a delimiter, its arguments, and the end."""

    def __init__(self) -> None:
        self._once = _Once()
        self._arguments: re.Pattern[bytes] | None = None
        self._delimited = self._ended = False

    def judge(self, text: bytes, packet: bytes) -> None:
        """Take one packet; `text`: what it says, b"" for a mark. Raises MalformedError."""
        if self._ended:
            raise MalformedError("there is something behind its end")
        if packet == FLUSH:
            self._ended = True
        elif packet == DELIMITER:
            if self._arguments is None or self._delimited:
                raise MalformedError("its parts are in another order than git's")
            self._delimited = True
        elif self._arguments is None:
            self._arguments = _OF_VERSION_2.get(text)
            if self._arguments is None:
                raise _unknown(text)
        elif not (self._arguments if self._delimited else _HEAD_OF_VERSION_2).fullmatch(text):
            raise _unknown(text)
        else:
            self._once.note(text)


class _Version0:
    """What is wanted, what one has, and "done"; an end behind each part. The first want has the capabilities."""

    def __init__(self) -> None:
        self._once = _Once()
        self._began = self._flushed = self._ended = False

    def judge(self, text: bytes, packet: bytes) -> None:
        """Take one packet; `text`: what it says, b"" for a mark. Raises MalformedError."""
        if self._ended or (self._flushed and packet == FLUSH):
            raise MalformedError("there is something behind its end")
        self._flushed = packet == FLUSH
        if self._flushed:
            return
        if not self._began and (found := _FIRST_WANT.fullmatch(text)):
            for one in found[1].split():
                if not _CAPABILITIES_OF_VERSION_0.fullmatch(one):
                    raise _unknown(one)
        elif not _OF_VERSION_0.fullmatch(text):
            raise _unknown(text)
        self._began = True
        self._once.note(text)
        self._ended = text == b"done"


def _unknown(text: bytes, why: str = "it asks for what is not passed on") -> MalformedError:
    return MalformedError(f"{why}: {text[:40].decode('latin-1')!a}")
