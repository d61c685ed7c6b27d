"""How far a helper is, told as lines of its output.

Theory of operation. One thing is done at a time, or counts as that: while the list is made, restic saves beside it. A
line is told at most each EVERY seconds, by who counts: there is no clock of its own, so nothing is told while nothing
goes on. Of a restore restic 0.14 says nothing; what it wrote the kernel says (proc(5), /proc/PID/io).
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from claude_sandbox.backup.tree import Entry

EVERY = 5.0
"""Seconds."""
LIST, SAVE, RESTORE, COMPARE = "List", "Save", "Restore", "Compare"


@dataclass
class Amount:
    """Of files, and what these hold in bytes."""

    files: int = 0
    bytes: int = 0


def _print(told: dict[str, Any]) -> None:
    print(json.dumps({"progress": told}), flush=True)


class Progress:
    """Of one backup or restore. `tell` is given what is told."""

    def __init__(
        self, tell: Callable[[dict[str, Any]], None] = _print, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._told = clock()
        self._phase = LIST
        self._done, self._whole = Amount(), Amount()

    def begin(self, phase: str, whole: Amount) -> None:
        """Do something else. `whole`: how much there is to do, where that is known."""
        self._phase, self._done, self._whole = phase, Amount(), whole

    def counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries, as they are taken."""
        done = self._done
        for entry in entries:
            if entry.kind == "file":
                done.files += 1
                done.bytes += entry.size
            if self._is_due():
                self._now()
            yield entry

    def heard(self, output: str) -> None:
        """What restic has said so far, as it saves."""
        if not self._is_due():
            return
        for line in reversed(output.splitlines()):
            try:
                told = json.loads(line)
            except ValueError:
                continue  # Half a line.
            if isinstance(told, dict) and told.get("message_type") == "status":
                self._done = Amount(int(told.get("files_done") or 0), int(told.get("bytes_done") or 0))
                self._now()
                return

    def written(self, process: int) -> str:
        """What a program has written so far, as it restores: nothing that ends it."""
        if not self._is_due():
            return ""
        try:
            lines = Path(f"/proc/{process}/io").read_text(encoding="ascii").splitlines()
        except OSError:
            return ""
        self._done = Amount(0, next((int(line.split()[1]) for line in lines if line.startswith("wchar:")), 0))
        self._now()
        return ""

    def _is_due(self) -> bool:
        return self._clock() - self._told >= EVERY

    def _now(self) -> None:
        self._told = self._clock()
        done, whole = self._done, self._whole
        # A workspace may have become larger since it was looked at.
        done = Amount(min(done.files, whole.files or done.files), min(done.bytes, whole.bytes or done.bytes))
        self._tell({"phase": self._phase, "done": asdict(done), "whole": asdict(whole)})
