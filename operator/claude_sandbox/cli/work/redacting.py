"""What a hostile program wrote, without the credentials in it. Pure.

Theory of operation. It comes in pieces, which may end anywhere, in the middle of a credential too. So it is judged by
whole lines; of a line of more than LONGEST_LINE, by parts of it, of each of which the end is kept back and judged with
the next part. A part that ended in what was taken out goes on in the next: that goes as well. A private key has many
lines: those after its beginning go as long as they look like one's, so that nobody can hide other lines by a beginning
that has no end.

One for each log that is read, used by who reads it. What is shown depends on what was written and not on how it came.
"""

import re

from claude_sandbox.cli.work.plain import LONGEST_LINE
from claude_sandbox.controller.machinery.redaction import REDACTED, redact_credentials

_KEPT_BACK = 4096
"""Characters of the end of a part: no credential needs more of them to be known for one."""
_MOST_LINES = 400
"""Of a private key; one of 16,384 bits has some 200."""
_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_ENDS = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")
_STAMP = re.compile(r"\A\d{4}-\d\d-\d\dT[\d:.]+Z ")
"""What `--timestamps` begins a line with."""
_OF_A_KEY = re.compile(r"[\s>|:\d]*(?:[A-Za-z0-9+/]{1,76}={0,2}|(?:Proc-Type|DEK-Info): .{1,80})?\s*\Z")
_REST = re.compile(r"[^\"'\r\n\\]{0,4096}")
_REST_OF_A_KEY = re.compile(r"[A-Za-z0-9+/=\\\s-]*")


class RedactedLines:
    """As `Lines`, for one log."""

    def __init__(self) -> None:
        self._rest = b""
        self._kept_back = ""
        # Whether what was kept back ends with what was taken out; and whether that was a private key.
        self._open = self._open_key = False
        # Lines of a private key that may still come.
        self._lines_of_key = 0

    def take(self, part: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends."""
        *whole, self._rest = (self._rest + part).split(b"\n")
        found = [shown for line in whole for shown in self._line(line)]
        while len(self._rest) > LONGEST_LINE:
            found.append(self._part(self._rest[:LONGEST_LINE]))
            self._rest = self._rest[LONGEST_LINE:]
        return found

    def end(self) -> list[bytes]:
        """What came after the last end of a line."""
        rest, self._rest = self._rest, b""
        return self._line(rest) if rest or self._kept_back else []

    def _line(self, line: bytes) -> list[bytes]:
        found = []
        while len(line) > LONGEST_LINE:
            found.append(self._part(line[:LONGEST_LINE]))
            line = line[LONGEST_LINE:]
        text = self._joined(line)
        # Nothing but a private key goes on in the next line, and that one's lines are counted.
        self._kept_back, self._open = "", False
        found.append(_bytes(self._whole(text)))
        return found

    def _part(self, part: bytes) -> bytes:
        """Of a line that goes on."""
        text = self._joined(part)
        shown = redact_credentials(text)
        self._open = shown.endswith(REDACTED)
        self._open_key = self._open and _is_open(text)
        at = max(len(shown) - _KEPT_BACK, 0)
        self._kept_back = shown[at:]
        return _bytes(shown[:at])

    def _joined(self, part: bytes) -> str:
        # What is no text comes out as it came.
        text = part.decode("utf-8", "surrogateescape")
        if self._open:
            goes_on = _REST_OF_A_KEY if self._open_key else _REST
            if self._open_key and (end := _ENDS.search(text)) is not None:
                text = text[end.end() :]
            else:
                found = goes_on.match(text)
                text = text[found.end() if found else 0 :]
        return self._kept_back + text

    def _whole(self, text: str) -> str:
        stamp = found[0] if (found := _STAMP.match(text)) else ""
        said = text[len(stamp) :]
        if self._lines_of_key:
            self._lines_of_key -= 1
            if (end := _ENDS.search(said)) is not None:
                self._lines_of_key = 0
                return f"{stamp}{REDACTED}{redact_credentials(said[end.end() :])}"
            if _OF_A_KEY.match(said):
                return f"{stamp}{REDACTED}"
        self._lines_of_key = _MOST_LINES if _is_open(said) else 0
        return redact_credentials(text)


def _is_open(text: str) -> bool:
    """Whether a private key begins in it and does not end."""
    begins = [found.end() for found in _BEGINS.finditer(text)]
    return bool(begins) and _ENDS.search(text, begins[-1]) is None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
