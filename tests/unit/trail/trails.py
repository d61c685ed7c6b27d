"""Trails for tests: a directory with one, of known records."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from claude_sandbox.trail.keys import signer
from claude_sandbox.trail.records import About, Kind, Record, read
from claude_sandbox.trail.segments import lines, present
from claude_sandbox.trail.store import Keeping, Store
from claude_sandbox.trail.verification import Remembered, Verdict, verify

START = datetime(2026, 1, 1, tzinfo=UTC)
ALICE = About("ClaudeSandbox", "alice", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "agents")
SMALL = Keeping(segment_bytes=2500, keep=None)


class Clock:
    """Goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@dataclass
class Trail:
    """One in a directory. `copied`: all lines that were acknowledged."""

    directory: Path
    store: Store
    clock: Clock
    copied: list[bytes]

    def remembered(self, lines: Sequence[bytes] | None = None) -> Remembered:
        found = Remembered()
        for number, line in enumerate(self.copied if lines is None else lines, 1):
            found.take(line, number, [self.store.public_key])
        return found

    def verdict(self, lines: Sequence[bytes] | None = None) -> Verdict:
        """Against all that was copied, unless it is said otherwise."""
        return verify(self.directory, [self.store.public_key], self.remembered(lines))

    def heal(self, *numbers: int) -> None:
        """Commit records together."""
        self.copied += self.store.commit([healed(number) for number in numbers])

    def reopen(self) -> list[bytes]:
        self.store.close()
        lines = self.store.open()
        self.copied += lines
        return lines


def healed(number: int) -> Record:
    return Record(Kind.HEALED, START, ALICE, {"message": f"heal {number}"})


def begun(directory: Path, keeping: Keeping = SMALL, clock: Clock | None = None) -> Trail:
    """A new one, open."""
    clock = clock or Clock()
    store = Store(directory / "trail", lambda: signer(directory / "key.pem"), keeping, clock)
    return Trail(directory / "trail", store, clock, store.open())


def made(directory: Path, commits: int = 8, keeping: Keeping = SMALL) -> Trail:
    """One of several segments, closed."""
    trail = begun(directory, keeping)
    for number in range(commits):
        trail.heal(2 * number, 2 * number + 1)
    trail.store.close()
    return trail


def kinds(trail: Trail) -> list[str]:
    """Of all lines that are there."""
    return [read(line).kind for _, path in present(trail.directory) for line in lines(path.read_bytes())]
