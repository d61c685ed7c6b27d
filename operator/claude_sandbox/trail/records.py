"""What one line says, and how it is written. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

VERSION = 1
NOTHING_BEFORE = "0" * 64
"""What the first line of a trail has in place of the hash of the line before it."""
MAX_LINE = 16 * 1024
"""Bytes of a line."""


class Kind(StrEnum):
    """What a line is about. The first seven are about the trail itself."""

    SEGMENT = "Segment"
    CHECKPOINT = "Checkpoint"
    RECOVERED = "Recovered"
    DAMAGED = "Damaged"
    GAP = "Gap"
    LEFT_OUT = "LeftOut"
    RETIRED = "Retired"

    STARTED = "OperatorStarted"
    STOPPED = "OperatorStopped"
    SANDBOX_CREATED = "SandboxCreated"
    SPEC_CHANGED = "SpecChanged"
    EXCEPTIONS_CHANGED = "ExceptionsChanged"
    SANDBOX_DELETED = "SandboxDeleted"
    WORKLOAD_CHANGED = "WorkloadChanged"
    CONDITION_CHANGED = "ConditionChanged"
    RESULTS_CHANGED = "ResultsChanged"
    CREDENTIAL_CHANGED = "CredentialChanged"
    HEALED = "Healed"
    REFUSED = "Refused"
    DENIED = "Denied"
    SESSION_OPENED = "SessionOpened"
    ENDED = "Ended"
    INCIDENT = "Incident"
    MOVED = "Moved"
    RESTORED = "Restored"
    ABANDONED = "Abandoned"
    HOST_ADDED = "HostAdded"
    HOST_CHANGED = "HostChanged"
    HOST_REMOVED = "HostRemoved"
    HOST_TOLD = "HostTold"


OF_THE_TRAIL = frozenset(
    {Kind.SEGMENT, Kind.CHECKPOINT, Kind.RECOVERED, Kind.DAMAGED, Kind.GAP, Kind.LEFT_OUT, Kind.RETIRED}
)


@dataclass(frozen=True)
class About:
    """The object that a record is about. A DockerHost has no namespace."""

    object: str
    name: str
    uid: str
    namespace: str = ""


@dataclass(frozen=True)
class Record:
    """Something that happened. `data` is made of JSON's types, and has no secret in it."""

    kind: str
    time: datetime
    about: About | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A line that was read."""

    seq: int
    time: str
    kind: str
    prev: str
    data: Mapping[str, Any]
    about: About | None = None


class LineError(ValueError):
    """It is no line of a trail: why."""


def clock(time: datetime) -> str:
    """A time as lines have it: UTC, with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def hashed(line: bytes) -> str:
    """Of a line without its end."""
    return hashlib.sha256(line).hexdigest()


def written(record: Record, seq: int, prev: str) -> bytes:
    """The line, without its end. What is too long for one, or no JSON, leaves out its data, and says so."""
    try:
        line = _encoded(record, record.data, seq, prev)
    except (ValueError, TypeError, RecursionError):
        return _encoded(record, {"unwritable": True}, seq, prev)
    return line if len(line) <= MAX_LINE else _encoded(record, {"tooLong": len(line)}, seq, prev)


def _encoded(record: Record, data: Mapping[str, Any], seq: int, prev: str) -> bytes:
    about = record.about
    document: dict[str, Any] = {"trail": VERSION, "seq": seq, "time": clock(record.time), "kind": str(record.kind)}
    if about is not None:
        document["object"] = about.object
        document |= {"namespace": about.namespace} if about.namespace else {}
        document |= {"name": about.name, "uid": about.uid}
    document |= {"data": data, "prev": prev}
    # The hash is of these bytes. ASCII: half of a surrogate pair, which JSON may bring, could not be written otherwise.
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def read(line: bytes) -> Line:
    """Raises LineError."""
    # Before it is parsed: who verifies a trail reads what somebody else may have written.
    if len(line) > MAX_LINE:
        raise LineError("it is too long")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise LineError("it is no JSON") from None
    if not isinstance(found, dict) or found.get("trail") != VERSION or isinstance(found.get("trail"), bool):
        raise LineError(f"it is no line of a trail of version {VERSION}")
    seq, data = found.get("seq"), found.get("data")
    texts = [found.get(name) for name in ("time", "kind", "prev")]
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1 or not isinstance(data, dict):
        raise LineError("it has no seq or no data")
    if not all(isinstance(one, str) for one in texts):
        raise LineError("it has no time, kind or prev")
    about = None
    if "object" in found:
        names = [str(found.get(name, "")) for name in ("object", "name", "uid", "namespace")]
        about = About(*names)
    return Line(seq, str(texts[0]), str(texts[1]), str(texts[2]), data, about)
