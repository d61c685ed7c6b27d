"""The thread that writes the trail, so that nobody who has something to record waits for a disk.

Theory of operation. Holds a bounded queue of records (`put`, by anybody), what did not fit into it, and the `Store`,
which only the thread touches. What is in the queue at a moment is committed together: one write, one checkpoint, one
wait for the disk, so the cost of a record falls as their number rises.

Where the trail can't be written (a full disk, a directory of another's, another process that has it), the records wait,
the thread tries again every few seconds, and says so in `problem`; everything else goes on. What did not fit meanwhile
is counted. The first record afterwards (`Gap`) says since when, why, and how many are missing.

A crash loses what is in the queue: nothing of it was acknowledged. `close` writes what is there first.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from claude_sandbox.trail.exports import Export
from claude_sandbox.trail.keys import KeyFileError
from claude_sandbox.trail.limits import Limits
from claude_sandbox.trail.records import Kind, Record, clock
from claude_sandbox.trail.store import HeldError, Store

logger = logging.getLogger(__name__)

CAPACITY = 10_000
"""Records that wait."""
TOGETHER = 256
"""Records that are committed together at most."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LOOK = 15.0
"""Seconds between two looks at what the limits have left out."""


@dataclass
class Written:
    """What there is to tell of the trail, for metrics."""

    records: Counter[str] = field(default_factory=Counter)
    """By kind, since the start."""
    left_out: Counter[str] = field(default_factory=Counter)
    """By why."""
    last: float = 0.0
    """When something was acknowledged last, in seconds since the epoch."""
    not_copied: Counter[str] = field(default_factory=Counter)
    """Lines that did not fit into the queue of an export, by its name."""
    problem: str = ""
    """Why it can't be written at the moment."""
    damaged: bool = False
    """Whether the trail was not as it was left when it was opened."""
    public_key: str = ""
    seq: int = 0


@dataclass
class _Gap:
    since: datetime
    why: str
    kinds: Counter[str] = field(default_factory=Counter)
    quiet: bool = False


class Writer:
    """Writes by a thread of its own, from `start` to `close`."""

    def __init__(
        self,
        store: Store,
        exports: Sequence[Export] = (),
        *,
        capacity: int = CAPACITY,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._exports = exports
        self._capacity = capacity
        self._clock = now
        self._limits = Limits()
        self._records: deque[Record] = deque()
        self._ready = threading.Condition()
        self._ends = False
        self._gap: _Gap | None = None
        self._put = self._done = 0
        self.told = Written()
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="trail", daemon=True)

    def start(self) -> None:
        """From now on what was put is written."""
        for export in self._exports:
            export.start()
        self._thread.start()

    def put(self, record: Record, *, limited: bool = True) -> bool:
        """Have a record written; False where it is left out. Never blocks for long, and never fails.

        `limited`: it counts towards what there may be of its object.
        """
        with self._ready:
            about = record.about if limited else None
            if about is not None and not self._limits.takes(record.kind, about, time.monotonic(), record.time):
                self.told.left_out["rate"] += 1
                return False
            if len(self._records) >= self._capacity:
                self._lost(record)
                return False
            self._records.append(record)
            self._put += 1
            self._ready.notify_all()
        return True

    def settled(self, timeout: float) -> bool:
        """Wait until what was put is on the disk; False where that can't be had now, or takes longer."""
        with self._ready:
            # What was put until now: whatever comes meanwhile is not waited for.
            wanted = self._put
            self._ready.wait_for(lambda: self._done >= wanted or bool(self.told.problem), timeout)
            return self._done >= wanted

    def close(self, timeout: float = 5.0) -> bool:
        """Write what there is and end; False where that takes longer."""
        with self._ready:
            self._ends = True
            self._ready.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
            for export in self._exports:
                export.close(timeout / 2)
        return not self._thread.is_alive()

    def _lost(self, record: Record) -> None:
        if self._gap is None:
            self._gap = _Gap(record.time, "more came than could be written")
        self._gap.kinds[record.kind] += 1
        self.told.left_out["full"] += 1

    def _run(self) -> None:
        batch: list[Record] = []
        pause = _FIRST_PAUSE
        while True:
            with self._ready:
                self._ready.wait_for(self._has_work, _LOOK)
                self._tell_left_out()
                # Added to what could not be written the last time, which comes first.
                while self._records and len(batch) < TOGETHER:
                    batch.append(self._records.popleft())
                if self._ends and not batch and self._gap is None and self._store.is_open:
                    break
            if self._wrote(batch):
                batch, pause = [], _FIRST_PAUSE
                continue
            with self._ready:
                if self._ends:
                    break
                self._ready.wait_for(lambda: self._ends, pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
        self._store.close()

    def _tell_left_out(self) -> None:
        for left in self._limits.due(time.monotonic(), all_of_them=self._ends):
            data = {"since": clock(left.since), "why": "too many of one object", "leftOut": dict(left.kinds)}
            # Whatever the queue holds: these are bounded by what the limits remember.
            self._records.append(Record(Kind.LEFT_OUT, self._clock(), left.about if left.about.name else None, data))
            self._put += 1

    def _has_work(self) -> bool:
        return bool(self._records) or self._ends or not self._store.is_open

    def _wrote(self, batch: list[Record]) -> bool:
        """Whether the disk has the records. Where not, they are tried again."""
        gap: _Gap | None = None
        try:
            if not self._store.is_open:
                self._opened()
            # First in the batch, before the records that came after it.
            gap = self._take_gap()
            missing = [self._gap_record(gap)] if gap is not None else []
            if batch or missing:
                self._copied(self._store.commit([*missing, *batch]))
        except Exception as error:  # noqa: BLE001 - the thread goes on, whatever it is that can't be done now
            self._failed(error, gap)
            return False
        with self._ready:
            if self.told.problem:
                logger.info("the trail can be written again")
            self.told.problem = ""
            for record in (*missing, *batch):
                self.told.records[record.kind] += 1
            if missing or batch:
                self.told.last = time.time()
            self.told.seq = self._store.head.seq
            self._done += len(batch)
            self._ready.notify_all()
        return True

    def _opened(self) -> None:
        lines = self._store.open()
        self.told.public_key = self._store.public_key
        logger.info(
            "the trail goes on after seq %d; its public key is %s", self._store.head.seq, self._store.public_key
        )
        if any(b'"kind":"Damaged"' in line for line in lines):
            self.told.damaged = True
            logger.error("the trail is not as it was left: claude-sandbox trail verify says what is wrong with it")
        self._copied(lines)

    def _copied(self, lines: Sequence[bytes]) -> None:
        for export in self._exports:
            export.put(lines)

    def _failed(self, error: Exception, taken: _Gap | None) -> None:
        held = isinstance(error, HeldError)
        if held or isinstance(error, KeyFileError):
            why = str(error)
        else:
            # Without the file's name, and without what an error of another kind may quote: the trail tells it.
            why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        with self._ready:
            if taken is not None:
                # Of two gaps the older one's beginning and reason count.
                taken.kinds += self._gap.kinds if self._gap is not None else Counter()
                self._gap = taken
            elif self._gap is None:
                self._gap = _Gap(self._clock(), why, quiet=held)
            if self.told.problem != why:
                logger.log(logging.INFO if held else logging.WARNING,
                           "the trail can't be written: %s. It is tried again", error)  # fmt: skip
            self.told.problem = why
            self._ready.notify_all()

    def _take_gap(self) -> _Gap | None:
        with self._ready:
            found, self._gap = self._gap, None
            # That another one let go of the directory a moment late is no gap where nothing is missing.
            return None if found is not None and found.quiet and not found.kinds else found

    def _gap_record(self, gap: _Gap) -> Record:
        data = {"since": clock(gap.since), "why": gap.why, "leftOut": dict(gap.kinds)}
        return Record(Kind.GAP, self._clock(), data=data)
