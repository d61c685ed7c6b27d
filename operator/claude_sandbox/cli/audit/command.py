"""`claude-sandbox audit`: reads files or standard input, and writes what was asked for."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from claude_sandbox.cli.audit.lines import MAX_LINE, VERDICTS, Filter, Line, parse, since
from claude_sandbox.cli.audit.summary import Summary

_LOOK = 0.5
"""Seconds between two looks at a file that is followed."""
_HEAD = ("TIME", "SANDBOX", "VERDICT", "STATUS", "WHAT", "SECONDS", "USD", "RULE")
_WIDTHS = (23, 28, 9, 6, 40, 8, 9, 0)


def _since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else since(value, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter("write an age such as 10m, 2h or 7d, or a time such as 2026-01-31T12:00:00Z") from None


@click.command(epilog="\b\nExit codes: 0 it was read, 1 it could not be read or held no line of an audit, "
                      "2 the command line is wrong.")  # fmt: skip
@click.argument("source", metavar="FILE")
@click.option("--verdict", "verdicts", multiple=True, type=click.Choice(VERDICTS), help="May be repeated.")
@click.option("--sandbox", "sandboxes", multiple=True, metavar="NAME", help="NAME, NAMESPACE/NAME or UID; repeatable.")
@click.option("--since", "after", metavar="AGE", callback=_since, help="From then on: 10m, 2h, 7d, or a time.")
@click.option("--domain", "domains", multiple=True, metavar="PATTERN", help="Where it went: github.com, *.example.org.")
@click.option("--model", "models", multiple=True, metavar="PATTERN", help="Requests for these: claude-opus-*.")
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--summary", is_flag=True, help="Sums instead of lines: verdicts, tokens, cost, and what was refused.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Rows of each table of the summary.")
@click.option("--follow", "-f", is_flag=True, help="Go on as the file grows, until Ctrl-C.")
def audit(
    source: str,
    verdicts: tuple[str, ...],
    sandboxes: tuple[str, ...],
    after: datetime | None,
    domains: tuple[str, ...],
    models: tuple[str, ...],
    output: str,
    summary: bool,
    top: int,
    follow: bool,
) -> None:
    """What sandboxes asked their gateway for: each request to the model, each tunnel, and what became of it.

    FILE is what a gateway wrote to its standard output, or - for standard input.

    \b
      kubectl logs deployment/… --all-pods | claude-sandbox audit -
      kubectl logs -f deployment/… | claude-sandbox audit - --verdict Refused
      claude-sandbox audit gateway.log --since 1h --summary

    --summary says of each refused destination which line of the ClaudeSandbox would allow it.
    """
    if follow and source == "-":
        raise click.UsageError("Standard input is read to its end anyway: leave --follow out.")
    if follow and summary:
        raise click.UsageError("A summary needs an end: leave --follow or --summary out.")
    wanted = Filter(
        frozenset(verdicts), frozenset(sandboxes), after, tuple(one.lower().rstrip(".") for one in domains), models
    )
    reader, sums = Reader(), Summary()
    with suppress(KeyboardInterrupt):
        if not summary and output == "table":
            click.echo(_row(_HEAD))
        for line in reader.lines(source, follow=follow):
            if not wanted.takes(line):
                continue
            if summary:
                sums.add(line)
            else:
                click.echo(_json(line) if output == "json" else _row(_cells(line)))
    if summary:
        click.echo(json.dumps(sums.document(), indent=2) if output == "json" else "\n".join(sums.text(top)))
    reader.tell(source)


class Reader:
    """Reads lines, and counts what is none."""

    def __init__(self) -> None:
        self._audit = 0
        self._others = 0

    def lines(self, source: str, *, follow: bool) -> Iterator[Line]:
        """The lines of the file. Ends the program with 1 where it can't be read."""
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
            sys.exit(1)

    def tell(self, source: str) -> None:
        """Say what was no line of an audit. Ends the program with 1 where nothing was one."""
        if not self._others:
            return
        where = "standard input" if source == "-" else source
        click.echo(f"{self._others} lines of {where} are no lines of an audit.", err=True)
        if not self._audit:
            click.echo("Error: none is one. Give what a gateway wrote to its standard output.", err=True)
            sys.exit(1)

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
    """A file that is read as it grows: whole lines, and anew where it was cut off or another is in its place."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._part = b""

    def readline(self, limit: int) -> bytes:
        """The next whole line, or `limit` bytes of one; waits for it."""
        while True:
            more = self._file.readline(limit - len(self._part))
            self._part += more
            if self._part.endswith(b"\n") or len(self._part) >= limit:
                found, self._part = self._part, b""
                return found
            if not more:
                time.sleep(_LOOK)
                self._look()

    def _look(self) -> None:
        try:
            now, here = self._path.stat(), os.fstat(self._file.fileno())
        except FileNotFoundError:
            return
        if (now.st_dev, now.st_ino) != (here.st_dev, here.st_ino):
            self._file.close()
            self._file, self._part = self._path.open("rb"), b""
        elif now.st_size < self._file.tell():
            self._file.seek(0)
            self._part = b""


def _json(line: Line) -> str:
    return json.dumps({"time": line.time.isoformat(), "kind": line.kind, **line.fields}, separators=(",", ":"))


def _row(cells: Sequence[str]) -> str:
    # Lines are shown as they come, so how wide a column has to be is not known; what is longer is shown whole.
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _cells(line: Line) -> tuple[str, ...]:
    cost = line.fields.get("costUSD")
    return (
        line.time.isoformat(timespec="milliseconds").removesuffix("+00:00"),
        line.sandbox or "-",
        line.text("verdict"),
        line.text("status") or "-",
        line.destination or line.text("model") or line.text("api") or "-",
        f"{line.number('durationMs') / 1000:.3f}",
        f"{cost:.4f}" if isinstance(cost, int | float) else "-",
        line.text("rule"),
    )
