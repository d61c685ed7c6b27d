"""Whether lines are those that were written: hashes, numbers, links and signatures. Pure.

Theory of operation. A `Checker` is given the lines of one segment after the other, and holds the end of what it has
seen, up to where a checkpoint vouches for it, and what it found wrong. After something wrong it goes on from the line
that is there, so that one change is told once and what comes after it is checked as well.

Always true: `sound` counts only lines before which nothing was wrong in their segment, and which a checkpoint of a
trusted key comes after.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from claude_sandbox.trail.chain import vouched
from claude_sandbox.trail.keys import is_signed
from claude_sandbox.trail.records import NOTHING_BEFORE, Kind, Line, LineError, Record, hashed, read, written

MAX_FINDINGS = 50


@dataclass(frozen=True)
class Finding:
    """Something that is wrong. `line`: from 1; 0 where it is about the segment."""

    segment: str
    line: int
    what: str


@dataclass
class End:
    """How far it got."""

    log: str = ""
    segment: int = 0
    seq: int = 0
    hash: str = NOTHING_BEFORE
    began: str = ""
    """When the segment did."""
    key: str = ""
    """What signs the segment, as it says."""


@dataclass(frozen=True)
class Retired:
    """What retention has removed, as the trail itself states: all segments up to this one, and the last one's end."""

    segment: int
    seq: int
    hash: str


@dataclass
class Checker:
    """`keys`: the public keys that are trusted; None: the one that each segment names."""

    keys: Collection[str] | None = None
    end: End = field(default_factory=End)
    """After the last line that was seen."""
    sound: End = field(default_factory=End)
    """After the last line that a checkpoint vouches for."""
    sound_bytes: int = 0
    """Of the segment, up to there."""
    lines: int = 0
    checkpoints: int = 0
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    retired: Retired | None = None
    """By the last statement that a checkpoint came after."""
    _stated: Retired | None = None
    first: Retired | None = None
    """What the first segment that is there follows, where that is not the beginning."""
    _name: str = ""
    _number: int = 0
    _line: int = 0
    _bytes: int = 0
    _spoilt: bool = False

    def segment(self, name: str, number: int) -> None:
        """What follows is in this file."""
        if self._name and self.unvouched and not self._spoilt:
            self._found(f"its last {self.unvouched} lines are vouched for by no checkpoint", at=0)
        self._name, self._number, self._line, self._bytes, self._spoilt = name, number, 0, 0, False
        self.sound_bytes = 0

    @property
    def unvouched(self) -> int:
        """Lines after the last checkpoint."""
        return self.end.seq - self.sound.seq if self.end.seq > self.sound.seq else 0

    @property
    def unvouched_bytes(self) -> int:
        """Of the segment, after the last checkpoint; 0 where something is wrong with the segment anyway."""
        return 0 if self._spoilt else self._bytes - self.sound_bytes

    @property
    def seen_lines(self) -> int:
        """Lines of the segment."""
        return self._line

    def take(self, raw: bytes) -> Line | None:
        """The next line, without its end."""
        self._line += 1
        self.lines += 1
        self._bytes += len(raw) + 1
        try:
            line = read(raw)
        except LineError as error:
            self._found(f"{error}")
            # Its number can't be read. The hash can be had: whether the next line follows from it is another question.
            self.end.hash = hashed(raw)
            return None
        if self._line == 1:
            self._begins(line)
        else:
            self._follows(line)
        # The line that is there, whatever was wrong with it.
        self.end.seq, self.end.hash = line.seq, hashed(raw)
        if line.kind == Kind.CHECKPOINT:
            self._checkpoint(line, raw)
        elif line.kind == Kind.RETIRED:
            self._stated = _retired(line)
        elif line.kind == Kind.SEGMENT and self._line > 1:
            self._found("a segment begins within another")
        elif self._line == 2:
            self._found("the beginning of the segment is not signed")
        return line

    def _begins(self, line: Line) -> None:
        log, number, key = (line.data.get(name) for name in ("log", "segment", "key"))
        if line.kind != Kind.SEGMENT or not (isinstance(log, str) and isinstance(key, str) and _is_number(number)):
            self._found("it does not begin as a segment does")
            log, number, key = self.end.log, self._number, self.end.key
        assert isinstance(number, int)  # noqa: S101 - it was asked for
        if number != self._number:
            self._found(f"it is segment {number} under the name of segment {self._number}")
        before, self.end.began = self.end, line.time
        # The first that is there may follow what retention removed; `verification` asks whether that was stated.
        if before.segment == 0:
            if (line.seq, line.prev) != (1, NOTHING_BEFORE):
                self.first = Retired(number - 1, line.seq - 1, line.prev)
        else:
            if log != before.log:
                self._found("it is of another trail")
            if number > before.segment + 1:
                self._found(f"{_some(number - before.segment - 1, 'segment')} before it are missing")
            self._follows(line)
        self.end.log, self.end.segment, self.end.key = str(log), number, str(key)

    def _follows(self, line: Line) -> None:
        expected, linked = self.end.seq + 1, line.prev == self.end.hash
        if line.seq > expected:
            self._found(f"{_some(line.seq - expected, 'line')} before seq {line.seq} missing")
        elif line.seq < expected:
            self._found(f"seq {line.seq} comes after seq {self.end.seq}: lines were moved, repeated or inserted")
        elif not linked:
            self._found(f"seq {line.seq} does not follow from seq {self.end.seq}: one of the two was changed")

    def _checkpoint(self, line: Line, raw: bytes) -> None:
        data, end = line.data, self.end
        signature, key = data.get("signature"), data.get("key")
        wanted = {"log": end.log, "segment": end.segment, "key": key, "signature": signature}
        # The signature is of the line's place, not of its bytes: whatever else stood in the line nobody would vouch
        # for.
        if raw != checkpoint_line(line, wanted):
            self._found(f"seq {line.seq} is no checkpoint of this place")
            return
        trusted = {end.key} if self.keys is None else self.keys
        message = vouched(end.log, end.segment, line.seq, line.time, line.prev)
        if key not in trusted:
            self._found(f"seq {line.seq} is signed by a foreign key: {str(key)[:64]}")
        elif not is_signed(str(key), str(signature), message, trusted):
            self._found(f"the signature of seq {line.seq} is wrong")
        # A genuine checkpoint after a line that was changed vouches for what was there before the change.
        elif not self._spoilt:
            self.checkpoints += 1
            self.sound = End(**vars(end))
            self.sound_bytes = self._bytes
            # Only now: who adds a line that excuses a missing segment can't sign it.
            self.retired = self._stated or self.retired

    def _found(self, what: str, at: int | None = None) -> None:
        self._spoilt = True
        if len(self.findings) >= MAX_FINDINGS:
            self.more_findings += 1
            return
        self.findings.append(Finding(self._name, self._line if at is None else at, what))


def checkpoint_line(line: Line, data: dict[str, object]) -> bytes:
    """The only way in which this checkpoint is written."""
    try:
        time = datetime.fromisoformat(line.time)
    except ValueError:
        return b""
    if time.tzinfo is None:
        return b""
    return written(Record(Kind.CHECKPOINT, time, data=data), line.seq, line.prev)


def _retired(line: Line) -> Retired | None:
    segment, seq, last = (line.data.get(name) for name in ("through", "seq", "hash"))
    if _is_number(segment) and _is_number(seq) and isinstance(last, str):
        assert isinstance(segment, int)  # noqa: S101 - it was asked for
        assert isinstance(seq, int)  # noqa: S101
        return Retired(segment, seq, last)
    return None


def _is_number(value: object) -> bool:
    # True is an int for Python, and 1 in every comparison.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
