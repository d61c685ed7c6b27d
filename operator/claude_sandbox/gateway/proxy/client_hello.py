"""The first message of TLS as bytes arrive: which name a client asks for. Pure; keeps at most 16 KiB.

Records are RFC 8446 section 5.1 (RFC 5246 before it), ClientHello section 4.1.2, server_name RFC 6066 section 3, ECH
the extension 0xfe0d. Whatever way the message is cut into records and segments, the outcome is the same one.
"""

from dataclasses import dataclass
from enum import StrEnum

from claude_sandbox.gateway.destinations.names import NotANameError, normalise

LIMIT = 16 * 1024
"""Bytes of a ClientHello, with the records around it. Those with post-quantum key shares have about 2 KiB."""
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE = 20, 21, 22
_CLIENT_HELLO = 1
_MAX_ANYWHERE = 131_396
"""Bytes of a ClientHello that OpenSSL takes; others take less."""
_SERVER_NAME, _ECH, _ECH_OLD = 0, 0xFE0D, range(0xFE02, 0xFE0D)


class Outcome(StrEnum):
    """What came of it."""

    OK = "OK"
    NOT_TLS = "NotTLS"
    """The bytes are no handshake record of SSL 3.0 to TLS 1.3."""
    NOT_CLIENT_HELLO = "NotClientHello"
    MALFORMED = "Malformed"
    """A length leads out of what surrounds it, or something is left over."""
    DUPLICATE_EXTENSION = "DuplicateExtension"
    NO_SNI = "NoSNI"
    BAD_SNI = "BadSNI"
    """More than one name, an empty one, another type, an address, or characters that names don't have."""
    TOO_LONG = "TooLong"
    CUT_OFF = "CutOff"
    """The client ended before the message did."""


@dataclass(frozen=True)
class Hello:
    """A ClientHello, or why it is none. `sni`: the name, normalised. `ech`: it has, or pretends, an encrypted one."""

    outcome: Outcome
    sni: str | None = None
    ech: bool = False


class HelloReader:
    """Takes bytes of a client until it can tell. Feed it the bytes in order; it keeps the message, not the records."""

    def __init__(self) -> None:
        self._record = bytearray()
        self._message = bytearray()
        self._taken = 0
        self._hello: Hello | None = None

    def feed(self, data: bytes) -> Hello | None:
        """Take further bytes. The Hello once it is known, else None. Bytes after that change nothing."""
        if self._hello is None:
            # One byte beyond the limit is enough to know that it is too long; no more is kept, however much is sent.
            self._record += data[: LIMIT + 1 - self._taken]
            self._taken += len(data)
            self._hello = self._look()
            if self._hello is None and self._taken > LIMIT:
                self._hello = Hello(Outcome.TOO_LONG)
        return self._hello

    def end(self) -> Hello:
        """The client has ended: what is known, or that it came too early."""
        return self._hello or Hello(Outcome.CUT_OFF)

    def _look(self) -> Hello | None:
        while True:
            failed = self._judge_record_start()
            if failed:
                return Hello(failed)
            if len(self._record) < 5:
                return None
            length = int.from_bytes(self._record[3:5], "big")
            if len(self._record) < 5 + length:
                return None
            self._message += self._record[5 : 5 + length]
            del self._record[: 5 + length]
            found = self._judge_message()
            if found:
                return found

    def _judge_record_start(self) -> Outcome | None:
        start = self._record[:5]
        # Each byte is judged as soon as it is there: what is no TLS is not waited for.
        if start[:1] and start[0] != _HANDSHAKE:
            return Outcome.NOT_TLS
        if (start[1:2] and start[1] != 3) or (start[2:3] and start[2] > 4):
            return Outcome.NOT_TLS
        # RFC 8446, 5.1: at most 2^14 bytes, and no empty fragments of handshake messages.
        if len(start) == 5 and not 0 < int.from_bytes(start[3:5], "big") <= 1 << 14:
            return Outcome.MALFORMED
        return None

    def _judge_message(self) -> Hello | None:
        message = self._message
        if message[0] != _CLIENT_HELLO:
            return Hello(Outcome.NOT_CLIENT_HELLO)
        if len(message) < 4:
            return None
        length = int.from_bytes(message[1:4], "big")
        if length > LIMIT:
            return Hello(Outcome.TOO_LONG)
        if len(message) < 4 + length:
            return None
        # Nothing may follow in the same record before the server has answered.
        if len(message) > 4 + length or self._record:
            return Hello(Outcome.MALFORMED)
        return parse_client_hello(bytes(message[4:]))


class SecondHello:
    """Watches what a client sends after its ClientHello, for another one (RFC 8446, 4.1.4: after a HelloRetryRequest),
    which a server may go by. It has to ask for the same name.

    Feed it the client's bytes before they are passed on. Only records before the first encrypted ones are looked at:
    changes of cipher spec and alerts are skipped, application data and any other handshake message end it. In a
    resumed session of TLS 1.2 an encrypted message comes here; it is taken for a ClientHello once in 2^15 times.
    """

    def __init__(self, sni: str) -> None:
        self._sni = sni
        self._record = bytearray()
        self._message = bytearray()
        self.over = False

    def feed(self, data: bytes) -> str | None:
        """Take further bytes. Why the connection has to end, or None."""
        if self.over:
            return None
        self._record += data
        while not self.over and len(self._record) >= 6:
            # The sixth byte is the message's type: only with it can a ClientHello be told from what is encrypted.
            kind, length = self._record[0], int.from_bytes(self._record[3:5], "big")
            if kind not in (_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE):
                self._end()
                break
            if kind == _HANDSHAKE and not self._message and self._record[5] != _CLIENT_HELLO:
                self._end()
                break
            if len(self._record) < 5 + length:
                break
            if kind == _HANDSHAKE:
                self._message += self._record[5 : 5 + length]
            del self._record[: 5 + length]
            reason = self._judge()
            if reason:
                return reason
        return "TooLong" if len(self._record) + len(self._message) > 2 * LIMIT and not self.over else None

    def _judge(self) -> str | None:
        message = self._message
        if len(message) < 4:
            return None
        length = int.from_bytes(message[1:4], "big")
        if length > _MAX_ANYWHERE:
            # No server takes so long a ClientHello: it is an encrypted message.
            self._end()
            return None
        if length > LIMIT:
            return Outcome.TOO_LONG
        if len(message) < 4 + length:
            return None
        found = parse_client_hello(bytes(message[4 : 4 + length]))
        self._end()
        return None if found.sni == self._sni else "SNIMismatch in a second ClientHello"

    def _end(self) -> None:
        self.over = True
        self._record.clear()
        self._message.clear()


class _ShortError(Exception):
    """There are fewer bytes than a length says."""


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise _ShortError
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """A vector whose length has `size` bytes."""
        return self.take(self.number(size))

    def rest(self) -> int:
        return len(self._data) - self._at


def parse_client_hello(body: bytes) -> Hello:
    """Read the body of a whole ClientHello, without its type and length."""
    try:
        extensions = _extensions(_Cursor(body))
    except _ShortError:
        return Hello(Outcome.MALFORMED)
    if extensions is None:
        return Hello(Outcome.MALFORMED)
    kinds = [kind for kind, _ in extensions]
    ech = any(kind == _ECH or kind in _ECH_OLD for kind in kinds)
    # RFC 8446, 4.2 forbids it: the gateway would judge the one name, and a server might go by the other.
    if len(set(kinds)) != len(kinds):
        return Hello(Outcome.DUPLICATE_EXTENSION, None, ech)
    names = [content for kind, content in extensions if kind == _SERVER_NAME]
    if not names:
        return Hello(Outcome.NO_SNI, None, ech)
    sni = _server_name(names[0])
    return Hello(Outcome.BAD_SNI, None, ech) if sni is None else Hello(Outcome.OK, sni, ech)


def _extensions(cursor: _Cursor) -> list[tuple[int, bytes]] | None:
    """The extensions in order; None where something is left over, or a part has a length that it can't have."""
    version = cursor.number(2)
    cursor.take(32)
    session, suites, compressions = cursor.vector(1), cursor.vector(2), cursor.vector(1)
    if version >> 8 != 3 or len(session) > 32 or not suites or len(suites) % 2 or not compressions:
        return None
    if not cursor.rest():
        return []
    block = cursor.vector(2)
    if cursor.rest():
        return None
    inner, found = _Cursor(block), []
    while inner.rest():
        kind = inner.number(2)
        found.append((kind, inner.vector(2)))
    return found


def _server_name(content: bytes) -> str | None:
    cursor = _Cursor(content)
    try:
        inner = _Cursor(cursor.vector(2))
        kind, raw = inner.number(1), inner.vector(2)
    except _ShortError:
        return None
    if cursor.rest() or inner.rest() or kind != 0:
        return None
    try:
        return normalise(raw.decode("ascii"))
    except (UnicodeDecodeError, NotANameError):
        return None
