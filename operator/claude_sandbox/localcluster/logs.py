"""The components' logs: their last lines, and what is appended from now on."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster import status
from claude_sandbox.localcluster.cluster import require, unknown_component
from claude_sandbox.localcluster.components import log_file
from claude_sandbox.localcluster.layout import Layout

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Line:
    """A line of a component's log, without its end."""

    component: str
    text: str


def logs(name: str, component: str | None, *, tail: int | None, follow: bool) -> Iterator[Line]:
    """The last `tail` lines (None: all) of one component's log, or of each; then, with `follow`, new ones for ever.

    Raises LocalClusterError where there is no such cluster or component.
    """
    layout = Layout.of(name)
    known = status.component_names(require(layout))
    if component is not None and component not in known:
        raise unknown_component(layout, component, known)
    chosen = known if component is None else (component,)
    return _lines(layout, chosen, tail, follow)


def _lines(layout: Layout, chosen: Sequence[str], tail: int | None, follow: bool) -> Iterator[Line]:
    readers = {component: Reader(log_file(layout, component)) for component in chosen}
    for component, reader in readers.items():
        lines = reader.new_lines()
        for text in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
            yield Line(component, text)
    while follow and layout.root.exists():
        time.sleep(_POLL_SECONDS)
        for component, reader in readers.items():
            for text in reader.new_lines():
                yield Line(component, text)


class Reader:
    """Reads a growing file by whole lines; a file that isn't there yet is empty, one that shrank is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[str]:
        """The lines that were completed since the last call."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        *lines, rest = data.split(b"\n")
        self._offset += len(data) - len(rest)
        return [line.decode(errors="replace") for line in lines]
