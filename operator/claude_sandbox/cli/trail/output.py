"""How records of the trail are shown: as rows or as JSON. What is in one was made plain, and is made so again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from claude_sandbox.api.clip import plain
from claude_sandbox.trail.records import Kind, Line, LineError, read

_HEAD = ("TIME", "SEQ", "KIND", "OBJECT", "WHAT")
_WIDTHS = (23, 7, 18, 28, 0)
_QUIET = frozenset({Kind.CHECKPOINT, Kind.SEGMENT})


@dataclass(frozen=True)
class Filter:
    """Which records are asked for; what is empty asks for all. `everything`: also those that say nothing to people."""

    sandboxes: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    since: datetime | None = None
    everything: bool = False

    def takes(self, line: Line) -> bool:
        """Whether it is one of them."""
        if line.kind in _QUIET and not (self.everything or line.kind in self.kinds):
            return False
        about = line.about
        names = {about.name, about.uid, f"{about.namespace}/{about.name}"} if about is not None else set()
        return (
            (not self.kinds or line.kind in self.kinds)
            and (not self.sandboxes or not names.isdisjoint(self.sandboxes))
            and (self.since is None or _at(line) >= self.since)
        )


class Output:
    """Takes lines in their order; lines of another log are left out."""

    def __init__(self, wanted: Filter, *, as_json: bool) -> None:
        self._wanted = wanted
        self._json = as_json
        self._begun = False
        self.lines = 0

    def take(self, raw: bytes) -> None:
        """Show a line that is asked for."""
        start = raw.find(b'{"trail":')
        try:
            if start < 0:
                return
            line = read(raw[start:].rstrip(b"\r\n"))
            _at(line)
        except (LineError, ValueError):
            return
        self.lines += 1
        if not self._wanted.takes(line):
            return
        if self._json:
            click.echo(json.dumps(_plain(json.loads(raw[start:])), separators=(",", ":")))
            return
        self._head()
        click.echo(_row(line))

    def end(self) -> None:
        """After the last line."""
        if not self._json:
            self._head()

    def _head(self) -> None:
        if not self._begun:
            click.echo(_cells(_HEAD))
        self._begun = True


def _at(line: Line) -> datetime:
    found = datetime.fromisoformat(line.time)
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found


def _row(line: Line) -> str:
    about = line.about
    name = "-"
    if about is not None:
        name = f"{about.namespace}/{about.name}" if about.namespace else about.name
    time = _at(line).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return _cells((time, str(line.seq), plain(line.kind), plain(name), what(line)))


def _cells(cells: tuple[str, ...]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def what(line: Line) -> str:
    """The data of a record in one line, for people."""
    data = line.data
    if line.kind == Kind.RESULTS_CHANGED and isinstance(changes := data.get("changes"), list):
        parts = [f"{one.get('control')} {one.get('before')} -> {one.get('after')}" for one in changes if _is(one)]
        return plain(", ".join(parts))
    if line.kind == Kind.CONDITION_CHANGED and isinstance(found := data.get("conditions"), list):
        parts = [f"{one.get('type')} {one.get('after')} ({one.get('reason')})" for one in found if _is(one)]
        return plain(", ".join(parts))
    if isinstance(message := data.get("message"), str):
        return plain(message)
    return plain(json.dumps(data, separators=(", ", ": "), ensure_ascii=False)) if data else ""


def _is(value: object) -> bool:
    return isinstance(value, dict)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
