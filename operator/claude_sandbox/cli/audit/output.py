"""How lines of an audit are shown: as rows, as JSON, or as sums at the end."""

import json
from collections.abc import Sequence

import click

from claude_sandbox.cli.audit.lines import Filter, Line
from claude_sandbox.cli.audit.summary import Summary

_HEAD = ("TIME", "SANDBOX", "VERDICT", "STATUS", "WHAT", "SECONDS", "USD", "RULE")
_WIDTHS = (23, 28, 9, 6, 40, 8, 9, 0)


class Output:
    """Takes lines in their order. `top`: rows of each table of the summary."""

    def __init__(self, wanted: Filter, *, as_json: bool, summary: bool, top: int) -> None:
        self._wanted = wanted
        self._json = as_json
        self._sums = Summary() if summary else None
        self._top = top
        self._begun = False

    def take(self, line: Line) -> None:
        """Show a line, or count it, where it is one that is asked for."""
        if not self._wanted.takes(line):
            return
        if self._sums is not None:
            self._sums.add(line)
        elif self._json:
            click.echo(_document(line))
        else:
            self._head()
            click.echo(_row(_cells(line)))

    def end(self) -> None:
        """After the last line."""
        if self._sums is not None:
            sums = self._sums
            click.echo(json.dumps(sums.document(), indent=2) if self._json else "\n".join(sums.text(self._top)))
        elif not self._json:
            self._head()

    def _head(self) -> None:
        if not self._begun:
            click.echo(_row(_HEAD))
        self._begun = True


def _document(line: Line) -> str:
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
