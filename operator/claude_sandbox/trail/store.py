"""A trail on a disk: opened after whatever happened to it, appended to, and kept for as long as was said.

Theory of operation. One `Store` at a time has the directory (a lock on a file in it, which the kernel takes back from
who dies). It holds the trail's end and the last segment, open to append.

What is on the disk after each call:
- `commit` writes records and a checkpoint after them, and returns when the disk has them (fdatasync): only then are
  they acknowledged, and only then may they be copied elsewhere.
- A segment is begun under another name and gets its own when its signed beginning is on the disk.
- Retention states what it removes, waits for the disk, and then removes.

A crash leaves a part of what was not acknowledged. `open` cuts it off, down to the last checkpoint, and says so in the
trail: nobody was told that it is kept, and nobody can have lines vouched for that they added while nothing ran. What
was acknowledged and is not as it was is no crash's doing: it stays as it is, for `verification` to find, and the trail
goes on in a new segment.

An OSError leaves the store closed, and nothing acknowledged; `open` has it go on. Not for several threads.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from claude_sandbox.trail.chain import Head, Signer, appended, begun, checkpointed
from claude_sandbox.trail.checker import Checker
from claude_sandbox.trail.keys import PUBLIC, public_pem
from claude_sandbox.trail.records import NOTHING_BEFORE, Kind, LineError, Record, hashed, read
from claude_sandbox.trail.segments import DRAFT, create, lines, path_of, present, sync_directory, write_all

LOCK = "lock"
SEGMENT_BYTES = 16 * 1024 * 1024
"""The last segment is read whole when a trail is opened."""
# Retention removes whole segments: of what is too old a week is kept at most.
SEGMENT_AGE = timedelta(days=7)


class HeldError(OSError):
    """Another process has the trail."""


@dataclass(frozen=True)
class Keeping:
    """How large and how old a segment gets, and for how long what is in it is kept; None: for ever."""

    segment_bytes: int = SEGMENT_BYTES
    segment_age: timedelta = SEGMENT_AGE
    keep: timedelta | None = timedelta(days=400)


class Store:
    """The trail of one directory. `signer` gives the key, which is asked for when the trail is opened."""

    def __init__(
        self,
        directory: Path,
        signer: Callable[[], Signer],
        keeping: Keeping = Keeping(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._directory = directory
        self._make_signer = signer
        self._keeping = keeping
        self._clock = clock
        self._signer: Signer | None = None
        self._lock: int | None = None
        self._file: int | None = None
        self._size = 0
        self._began: datetime | None = None
        self._retired = 0
        self.head = Head("")
        """The end of what is acknowledged."""

    @property
    def is_open(self) -> bool:
        """Whether it can be appended to."""
        return self._file is not None

    @property
    def public_key(self) -> str:
        """As 64 hexadecimal digits; empty before it was opened once."""
        return self._signer.key if self._signer is not None else ""

    def open(self) -> list[bytes]:
        """Take the directory and find its end; the lines that were written with that. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._take_lock()
            self._signer = signer = self._make_signer()
            self._publish(signer)
            # Of a beginning that a crash cut short: nothing of it was acknowledged.
            (self._directory / DRAFT).unlink(missing_ok=True)
            found = present(self._directory)
            if not found:
                return self._begin(Head(secrets.token_hex(16)))
            return self._go_on(*found[-1])
        except BaseException:
            self.close()
            raise

    def commit(self, records: Sequence[Record]) -> list[bytes]:
        """Append records, and a checkpoint: their lines, when the disk has them. Raises OSError."""
        assert self._file is not None  # noqa: S101 - who calls has opened it
        assert self._signer is not None  # noqa: S101
        written, head = [], self.head
        for record in records:
            line, head = appended(head, record)
            written.append(line)
        line, head = checkpointed(head, self._clock(), self._signer)
        written.append(line)
        data = b"".join(each + b"\n" for each in written)
        try:
            write_all(self._file, data)
            os.fdatasync(self._file)
        except BaseException:
            self.close()
            raise
        self.head = head
        self._size += len(data)
        # After the records are acknowledged: what fails now is not theirs.
        if self._is_full():
            written += self._turned()
        return written

    def _turned(self) -> list[bytes]:
        """The lines of a new segment. What came before is acknowledged: that this fails is found by the next write."""
        try:
            return self._begin(self.head) + self._retire()
        except OSError:
            self.close()
            return []

    def close(self) -> None:
        """Let others have the directory. What was not acknowledged is cut off by who opens it next."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._file = self._lock = None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lock = os.open(self._directory / LOCK, flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(f"another process writes the trail in {self._directory}") from None

    def _publish(self, signer: Signer) -> None:
        text, file = public_pem(signer.key), self._directory / PUBLIC
        if not file.exists() or file.read_bytes() != text:
            # By a rename, so that whoever copies the key never reads half of it.
            draft = file.with_name(f".{file.name}")
            draft.write_bytes(text)
            draft.replace(file)

    def _begin(self, head: Head) -> list[bytes]:
        """Begin the next segment, and append to it from now on."""
        assert self._signer is not None  # noqa: S101 - it is open
        now = self._clock()
        first, end = begun(head, now, self._signer)
        data = b"".join(each + b"\n" for each in first)
        create(self._directory, end.segment, data)
        self._append_to(path_of(self._directory, end.segment), len(data), now)
        self.head = end
        return first

    def _append_to(self, path: Path, size: int, began: datetime) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._size, self._began = size, began

    def _go_on(self, number: int, path: Path) -> list[bytes]:
        """Append to the last segment, or begin another where it is not as it was left."""
        assert self._signer is not None  # noqa: S101 - it is open
        data = path.read_bytes()
        # By the key that the segment itself names: ours may be another since.
        checker = Checker()
        checker.segment(path.name, number)
        whole = list(lines(data))
        for line in whole:
            checker.take(line)
        sound = checker.sound
        after = data[checker.sound_bytes :]
        if sound.seq == 0 or _has_checkpoint(after):
            # On from the last line that can be read: what is there stays, and its end can't be changed any further.
            head = Head(sound.log or secrets.token_hex(16), number, *_last(whole))
            what = {"segment": path.name, "found": [one.what for one in checker.findings[:5]]}
            written = self._begin(head)
            return written + self.commit([Record(Kind.DAMAGED, self._clock(), data=what)])
        self.head = Head(sound.log, number, sound.seq, sound.hash)
        self._append_to(path, checker.sound_bytes, datetime.fromisoformat(sound.began))
        self._retired = checker.retired.segment if checker.retired is not None else 0
        written = []
        if after:
            assert self._file is not None  # noqa: S101 - it was just opened
            # A crash before the next line leaves the cut unsaid; nothing is lost by it.
            os.ftruncate(self._file, checker.sound_bytes)
            cut = {"bytes": len(after), "lines": after.count(b"\n"), "sha256": hashed(after)}
            written = self.commit([Record(Kind.RECOVERED, self._clock(), data=cut)])
        # A segment is signed by one key, which it names. A new key begins a new one.
        if sound.key != self._signer.key:
            written += self._begin(self.head)
        return written + self._retire()

    def _is_full(self) -> bool:
        old = self._began is not None and self._clock() - self._began >= self._keeping.segment_age
        return old or self._size >= self._keeping.segment_bytes

    def _retire(self) -> list[bytes]:
        """State which old segments go, and remove them."""
        keep = self._keeping.keep
        if keep is None:
            return []
        segments = present(self._directory)
        limit, last = self._clock() - keep, None
        for index, (number, _) in enumerate(segments[:-1]):
            # A segment ends when the next begins.
            following = segments[index + 1][1]
            began = _first(following)
            if began is None or datetime.fromisoformat(began[1]) > limit:
                # What can't be read is not removed, nor what comes after it: what is missing has to be a beginning.
                break
            last = (number, *began[0])
        if last is None:
            return []
        number, seq, end = last
        written = []
        # Else a crash came between the statement and the removal: it is stated already.
        if number > self._retired:
            data = {"through": number, "seq": seq, "hash": end, "keptDays": keep.days}
            written = self.commit([Record(Kind.RETIRED, self._clock(), data=data)])
            self._retired = number
        for old, path in segments:
            if old <= number:
                path.unlink()
        sync_directory(self._directory)
        return written


def _has_checkpoint(data: bytes) -> bool:
    """Whether there is a checkpoint, of whatever worth: then more was acknowledged than can be read."""
    for line in lines(data):
        with contextlib.suppress(LineError):
            if read(line).kind == Kind.CHECKPOINT:
                return True
    return False


def _last(whole: Sequence[bytes]) -> tuple[int, str]:
    """Number and hash of the last line that is one."""
    for line in reversed(whole):
        with contextlib.suppress(LineError):
            return read(line).seq, hashed(line)
    return 0, NOTHING_BEFORE


def _first(path: Path) -> tuple[tuple[int, str], str] | None:
    """What a segment follows, and when it begins; None where it does not say so."""
    with path.open("rb") as file:
        line = file.readline(64 * 1024).rstrip(b"\n")
    try:
        found = read(line)
        datetime.fromisoformat(found.time)
    except (LineError, ValueError):
        return None
    return (found.seq - 1, found.prev), found.time
