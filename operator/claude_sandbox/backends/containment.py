"""What a backend tells of a sandbox in quarantine, and how evidence is packed. Data, and what is pure, but for `ROOM`.

`ROOM` is how much of the operator's memory evidence that is on its way takes, of all sandboxes: who may declare
incidents may declare many at once, and has written most of what is read then. Nobody waits for another one's, so with
many at a time there is less of each. A crash gives all of it back.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.credentials.evidence import shown_document
from claude_sandbox.api.status_fields.incident import MOST_MISSING, KeptEvidence
from claude_sandbox.backends.base import Failure

SUMS = "SHA256SUMS"
"""The file of an archive that `sha256sum -c` reads."""
NOTES = "NOT-KEPT.txt"
"""The file of an archive that says what is missing in it, and why."""


LEAST = 1 << 20
"""Bytes that there are for each, however many there are."""


@dataclass
class Room:
    """So many bytes are left. To be packed and sent they are copied, some four times."""

    left: int

    @contextmanager
    def share(self, most: int) -> Iterator[int]:
        """How many bytes one sandbox's evidence may have, of `most`, for as long as it is in memory."""
        taken = min(most, max(LEAST, self.left))
        self.left -= taken
        try:
            yield taken
        finally:
            self.left += taken


ROOM = Room(48 << 20)


@dataclass(frozen=True)
class Containment:
    """Whether nothing of the sandbox goes on, and nothing goes in or out: as it was seen after all was done.

    `did`: what was done now, each a clause. `found`: what was there before that, for the evidence, as files.
    `vanished`: nothing of it is there to be contained, or to be kept.
    """

    status: ConditionStatus
    message: str
    did: tuple[str, ...] = ()
    found: Mapping[str, bytes] = field(default_factory=dict)
    vanished: bool = False
    # What came of keeping it, where that had to be done before it could be contained.
    kept: "KeptEvidence | Failure | None" = None


@dataclass
class Evidence:
    """What is gathered: files by their paths, and what could not be had, each a clause with the reason."""

    files: dict[str, bytes] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Packed:
    """An archive of evidence, and its own checksum."""

    content: bytes
    sha256: str
    files: int


def packed(evidence: Evidence, at: datetime) -> Packed:
    """The archive: the files, what is missing, and the checksums of both."""
    files = {**evidence.files, NOTES: "".join(f"{one}\n" for one in evidence.missing).encode()}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in sorted(files.items()))
    files[SUMS] = sums.encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        # In one order and with one time: gathered again from the same files, the archive has the same checksum.
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(content), 0o400, int(at.timestamp())
            tar.addfile(entry, io.BytesIO(content))
    whole = archive.getvalue()
    return Packed(whole, hashlib.sha256(whole).hexdigest(), len(files))


def as_kept(evidence: Evidence, whole: Packed, place: str, now: datetime) -> KeptEvidence:
    """What a status says of an archive that is kept at `place`."""
    return KeptEvidence(
        at=now.replace(microsecond=0),
        place=place,
        sha256=whole.sha256,
        files=whole.files,
        size=len(whole.content),
        missing=evidence.missing[:MOST_MISSING],
    )


def as_file(document: object) -> bytes:
    """A document of the API server's, for people to read, without credentials that programs are started with."""
    return json.dumps(shown_document(document), indent=1, sort_keys=True).encode()


Kept = KeptEvidence | Failure
"""What came of keeping evidence."""
