"""How a line follows from the one before it, and how what is there is signed. Pure, but for the signature.

A record holds the hash of the line before it. A checkpoint is such a line too, and holds a signature over its own
place: so who has checked one has checked everything before it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from claude_sandbox.trail.records import NOTHING_BEFORE, VERSION, Kind, Record, clock, hashed, written

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Head:
    """The end of a trail: its identifier, the number of its last segment and its last line, and that line's hash."""

    log: str
    segment: int = 0
    seq: int = 0
    hash: str = NOTHING_BEFORE


@dataclass(frozen=True)
class Signer:
    """What signs: `key` is the public key, 64 hexadecimal digits."""

    key: str
    sign: Sign


def appended(head: Head, record: Record) -> tuple[bytes, Head]:
    """The line of a record, and the end after it."""
    line = written(record, head.seq + 1, head.hash)
    return line, replace(head, seq=head.seq + 1, hash=hashed(line))


def checkpointed(head: Head, time: datetime, signer: Signer) -> tuple[bytes, Head]:
    """The line that vouches for all before it, and the end after it."""
    at = clock(time)
    signature = signer.sign(vouched(head.log, head.segment, head.seq + 1, at, head.hash))
    data = {"log": head.log, "segment": head.segment, "key": signer.key, "signature": signature.hex()}
    return appended(head, Record(Kind.CHECKPOINT, time, data=data))


def begun(head: Head, time: datetime, signer: Signer) -> tuple[list[bytes], Head]:
    """The first two lines of the next segment: its link to the last one's end, signed."""
    # Numbers of lines and their hashes go on through all segments, so that none can be left out between two.
    fresh = replace(head, segment=head.segment + 1)
    data = {"log": fresh.log, "segment": fresh.segment, "key": signer.key}
    first, middle = appended(fresh, Record(Kind.SEGMENT, time, data=data))
    second, end = checkpointed(middle, time, signer)
    return [first, second], end


def vouched(log: str, segment: int, seq: int, time: str, prev: str) -> bytes:
    """What a checkpoint signs."""
    # Its beginning is its own: what the same key may sign elsewhere can't be taken for a checkpoint.
    return f"claude-sandbox-trail\n{VERSION}\n{log}\n{segment}\n{seq}\n{time}\n{prev}\n".encode()
