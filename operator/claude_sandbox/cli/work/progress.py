"""How far something is that takes long, on one line of a terminal."""

import sys
import time
from types import TracebackType
from typing import Self

_BEGINS, _EVERY = 2.0, 0.5
"""Seconds after which it is shown, and between two changes."""


class Progress:
    """A context. Nothing is shown of what is over at once, nor where standard error is no terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shows = sys.stderr.isatty()
        self._started = self._last = time.monotonic()
        self._bytes = 0
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the line away, before something else is written."""
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def add(self, size: int) -> None:
        """So many bytes more."""
        self._bytes += size
        if self._is_due():
            rate = self._bytes / (time.monotonic() - self._started)
            self._show(f"{amount(self._bytes)}, {amount(round(rate))}/s")

    def say(self, text: str) -> None:
        """How far it is, in words that no terminal obeys."""
        if self._is_due():
            self._show(text)

    def _is_due(self) -> bool:
        now = time.monotonic()
        return self._shows and now - self._started > _BEGINS and now - self._last > _EVERY

    def _show(self, text: str) -> None:
        self._last, self._shown = time.monotonic(), True
        sys.stderr.write(f"\r{self._what}: {text}\x1b[K")
        sys.stderr.flush()


def amount(size: int) -> str:
    """Bytes for people."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
