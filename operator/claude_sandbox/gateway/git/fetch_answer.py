"""A server's answer in version 2 of the protocol (gitprotocol-v2: fetch, ls-refs), read up to its pack. Pure.

Its parts are known by their first lines. One that names places where packs are to be had (`packfile-uris`) git takes
even where it did not ask for any, and fetches from there: from whatever the sandbox, or what clones for it, can reach.
"""

import re

from claude_sandbox.gateway.git.pkt_line import DELIMITER, FLUSH, MalformedError, PacketReader

_ID = rb"(?:[0-9a-f]{40}|[0-9a-f]{64})"
_PARTS = {
    b"acknowledgments": re.compile(rb"NAK|ready|ACK " + _ID),
    b"shallow-info": re.compile(rb"(?:un)?shallow " + _ID),
    b"wanted-refs": re.compile(_ID + rb" [^\x00-\x20\x7f]+"),
}
# The answer to ls-refs has no parts, and lines that none begins with.
_LISTED = re.compile(rb"(?:unborn|" + _ID + rb") [^\x00-\x20\x7f]+(?: [^\x00-\x1f\x7f]+)?")
_PACK = b"packfile"


class AnswerReader:
    """Takes the answer's bytes and gives what may go on: the parts that are known, and from the pack on all that
    comes."""

    def __init__(self) -> None:
        self._packets = PacketReader(delimited=True)
        self._part: re.Pattern[bytes] | None = None
        self._pack = self._ended = False

    def feed(self, data: bytes) -> bytes:
        """Take further bytes. Raises MalformedError."""
        if self._pack:
            return data
        self._packets.feed(data)
        given = bytearray()
        while not self._pack and (found := self._packets.next()) is not None:
            is_data, line = found
            self._judge(is_data, line)
            given += b"%04x" % (len(line) + 4) + line if is_data else line
        return bytes(given) + (self._packets.rest() if self._pack else b"")

    def _judge(self, is_data: bool, line: bytes) -> None:
        text = line.removesuffix(b"\n")
        if self._ended:
            raise MalformedError("there is something behind the end of the server's answer")
        if line == FLUSH and not is_data:
            self._ended = True
        elif line == DELIMITER and not is_data:
            self._part = None
        elif text.startswith(b"ERR "):
            self._ended = True
        elif self._part is None:
            self._pack = text == _PACK
            self._part = _LISTED if _LISTED.fullmatch(text) else _PARTS.get(text)
            if not self._pack and self._part is None:
                raise MalformedError(f"the server's answer has a part that is not passed on: {_shown(text)}")
        elif not self._part.fullmatch(text):
            raise MalformedError(f"the server's answer is not git's: {_shown(text)}")


def _shown(text: bytes) -> str:
    return ascii(text[:40].decode("latin-1"))
