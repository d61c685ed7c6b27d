"""Lines of an audit from a file or standard input."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import click

from claude_sandbox.cli.audit.lines import MAX_LINE, Line, parse
from claude_sandbox.cli.exits import Exit

_LOOK = 0.5
"""Seconds between two looks at a file that is followed."""


class Reader:
    """Reads lines, and counts what is none."""

    def __init__(self) -> None:
        self._audit = 0
        self._others = 0

    def lines(self, source: str, *, follow: bool) -> Iterator[Line]:
        """The lines of the file. Ends the program where it can't be read."""
        try:
            if source == "-":
                yield from self._of(sys.stdin.buffer.readline)
                return
            with Path(source).open("rb") as file:
                yield from self._of(FollowedFile(Path(source), file).readline if follow else file.readline)
        except BrokenPipeError:
            raise
        except OSError as error:
            click.echo(
                f"Error: {source} can't be read: {error.strerror}. Name a file, or - for standard input.", err=True
            )
            sys.exit(Exit.UNREADABLE)

    def tell(self, source: str) -> None:
        """Say what was no line of an audit. Ends the program where nothing was one."""
        if not self._others:
            return
        where = "standard input" if source == "-" else source
        click.echo(f"{self._others} lines of {where} are no lines of an audit.", err=True)
        if not self._audit:
            click.echo("Error: none is one. Give what a gateway wrote to its standard output.", err=True)
            sys.exit(Exit.UNREADABLE)

    def _of(self, readline: Callable[[int], bytes]) -> Iterator[Line]:
        inside = False
        while data := readline(MAX_LINE):
            # What is left of a line that is too long is no line of its own.
            begins, inside = not inside, not data.endswith(b"\n")
            line = parse(data) if begins and not (inside and len(data) == MAX_LINE) else None
            if line is not None:
                self._audit += 1
                yield line
            elif begins and data.strip():
                self._others += 1


class FollowedFile:
    """A file that is read as it grows: whole lines, and anew where it was cut off or another is in its place.

    What replaced it is opened when it is seen, so that it is not missed should it be replaced in turn. The one before
    is read to its end first, and for one more look: who writes to it may do so until it has opened the other.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._files = deque([file])
        self._part = b""
        self._waited = False

    def readline(self, limit: int) -> bytes:
        """The next whole line, or `limit` bytes of one; waits for it."""
        while True:
            more = self._files[0].readline(limit - len(self._part))
            self._part += more
            if self._part.endswith(b"\n") or len(self._part) >= limit:
                return self._taken()
            if more:
                continue
            if len(self._files) > 1 and self._waited:
                self._files.popleft().close()
                self._waited = False
                if self._part:
                    # Nothing will end it any more: it is shown as what it is, rather than passed over.
                    return self._taken() + b"\n"
                continue
            self._waited = len(self._files) > 1
            time.sleep(_LOOK)
            self._look()

    def _taken(self) -> bytes:
        found, self._part = self._part, b""
        return found

    def _look(self) -> None:
        if os.fstat(self._files[0].fileno()).st_size < self._files[0].tell():
            self._files[0].seek(0)
            self._part = b""
        with suppress(FileNotFoundError):
            now, last = self._path.stat(), os.fstat(self._files[-1].fileno())
            if (now.st_dev, now.st_ino) != (last.st_dev, last.st_ino):
                self._files.append(self._path.open("rb"))
