"""What makes a backup, whatever the backend: what it is told, and what it says at its end."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from claude_sandbox.api.kinds.backups import BackupReason, VolumeSnapshotSource
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.backup.restic import HOST
from claude_sandbox.backup.servers import CREDENTIALS
from claude_sandbox.blueprint.model import Identity


class NotNowError(Exception):
    """The backup can't be made now. `reason` says why, the message what to do; it may be possible later."""

    def __init__(self, reason: BackupReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Wanted:
    """A backup that is to be made, or restored."""

    namespace: str
    name: str
    uid: str
    """Of the ClaudeSandboxBackup, or of the sandbox."""
    sandbox: Identity
    target: BackupTarget
    secret: str
    """The Secret with the password."""
    key: str
    order: Mapping[str, Any]
    """What the helper is told, without the password."""
    others: frozenset[str] = frozenset()
    """UIDs of the namespace's other backups that are not over."""
    restores: bool = False
    """Whether a workspace is to be filled, and not backed up. Then `name` and `uid` are the sandbox's."""
    home: bool = False
    """Whether what is kept of the home is part of it."""
    repositories: Mapping[str, str] = field(default_factory=dict)
    """Which repository was last seen where, by its location in words."""
    lists: Mapping[str, str] = field(default_factory=dict)
    """By the same, the sandbox's snapshot there whose list says what need not be read again."""
    volume_snapshot: VolumeSnapshotSource | None = None
    """Which snapshot of the volumes is read instead of these; None: the volumes themselves."""


@dataclass(frozen=True)
class Handed:
    """What a helper is handed beside its order: the repository's password, and what a server elsewhere lets in, by the
    keys of its Secret (CREDENTIALS)."""

    password: bytes = field(repr=False)
    credentials: Mapping[str, bytes] = field(default_factory=dict, repr=False)


TAKEN = CREDENTIALS
"""Keys of a Secret with which a server elsewhere lets in, that are taken."""


@dataclass(frozen=True)
class Helper:
    """What makes the backup, as it is now. `ended`: it does nothing more; `result` is what it said then, if anything.

    `message`: why it does not run yet, or how it ended. `is_prepared`: what was begun for it is there, and it is to be
    started. `moment`: of when what it reads is, where that is one moment.
    """

    ended: bool = False
    result: Mapping[str, Any] | None = None
    message: str = ""
    is_prepared: bool = False
    moment: datetime | None = None


class Helpers(Protocol):
    """Makes backups of sandboxes of one backend, each by a helper of its own that goes on without the operator.

    All raise NotNowError.
    """

    async def look(self, wanted: Wanted) -> Helper | None:
        """The helper of this backup; None where there is none."""

    async def start(self, wanted: Wanted) -> str:
        """Have a helper begin, or what comes before it: where the repository is, in words."""

    async def remove(self, wanted: Wanted) -> None:
        """Take the helper away, whatever it does."""

    async def progress(self, wanted: Wanted) -> Mapping[str, Any] | None:
        """How far the helper says that it is; None where that is not known. Raises nothing."""


def ordered(wanted: Wanted, location: str) -> dict[str, Any]:
    """What the helper is told, with where the repository is, which it says again, and which is to be there."""
    repository, verified = wanted.repositories.get(location, ""), wanted.lists.get(location, "")
    return {**wanted.order, "location": location, "repository": repository, "verified": verified}


def hostname_of(wanted: Wanted) -> str:
    """The helper's: locks in the repository tell by it whose they are. 63 characters at most.

    A repository elsewhere is for several helpers at a time, of which each sandbox has one.
    """
    if not wanted.target.is_elsewhere:
        return HOST
    return f"{HOST}-{hashlib.sha256(wanted.sandbox.uid.encode()).hexdigest()[:16]}"


def result_in(output: str) -> Mapping[str, Any] | None:
    """What a helper said in its last line; None where it ended before."""
    return _last(output, "outcome")


def progress_in(output: str) -> Mapping[str, Any] | None:
    """How far a helper said last that it is; None where it did not."""
    found = (_last(output, "progress") or {}).get("progress")
    return found if isinstance(found, dict) else None


def _last(output: str, word: str) -> Mapping[str, Any] | None:
    # From the end: what else is in the log (restic's own words, a traceback) comes before what the helper says last.
    for line in reversed(output.splitlines()):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and word in found:
            return found
    return None
