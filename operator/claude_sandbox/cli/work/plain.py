"""What a hostile program wrote, for a terminal: nothing in it is obeyed. Pure.

A terminal obeys sequences that move its cursor, answer as if they had been typed, write to the clipboard, or change
what was shown before. So every character that is not seen as itself is written as Python writes it (`\\x1b`).
"""

from claude_sandbox.api.clip import plain

LONGEST_LINE = 64 * 1024
"""Bytes; what is longer is shown as several lines."""


def plain_line(line: bytes) -> str:
    """A line without its end; tabs stay, what is no UTF-8 is shown as `\\xff`."""
    text = line.removesuffix(b"\r").decode("utf-8", errors="backslashreplace")
    return "\t".join(map(plain, text.split("\t")))


def plain_text(data: bytes, most: int = 4096) -> str:
    """Some lines for an error's message, of `most` bytes."""
    cut = data[:most] + (b"..." if len(data) > most else b"")
    return "; ".join(plain_line(line).strip() for line in cut.splitlines() if line.strip())


class Lines:
    """Cuts what comes in pieces into lines, of LONGEST_LINE bytes at most."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, part: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends."""
        *whole, self._rest = (self._rest + part).split(b"\n")
        found = [line[at : at + LONGEST_LINE] for line in whole for at in range(0, len(line) or 1, LONGEST_LINE)]
        # A line without an end must not fill the memory.
        while len(self._rest) > LONGEST_LINE:
            found.append(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]
        return found

    def end(self) -> list[bytes]:
        """What came after the last end of a line."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []
