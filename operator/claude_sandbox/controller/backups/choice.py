"""With which backup a sandbox begins anew that leaves a compromised host, and whose list the next one reads. Pure.

For the first only what the API server keeps counts, and no word of the host's: the ClaudeSandboxBackup says, by the
operator's clock, when it was complete and what was verified, and names the snapshot by a digest of it. Who has the host
has the repository's password too, and may write other snapshots there, but none with this name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.api.kinds.backups import BackupConditionType
from claude_sandbox.api.kinds.targets import TargetType
from claude_sandbox.controller.backups.status import ended_at, written
from claude_sandbox.controller.sandboxes.store import Raw

_WHOLE = re.compile("[0-9a-f]{64}")
_ELSEWHERE = (TargetType.S3, TargetType.SFTP)
LARGE = 512 << 20
"""Bytes from which to hash the files takes longer than to have the last list: one more derivation of restic's key."""


@dataclass(frozen=True)
class Chosen:
    """A backup that was verified in time."""

    name: str
    snapshot: str
    at: datetime


def chosen(sandbox: Raw, backups: Iterable[Raw], moment: datetime) -> Chosen | str:
    """The last backup of this very sandbox that was verified by `moment` and is kept elsewhere, or why there is none.

    `backups`: those of its name. One of an earlier sandbox of the name is another's.
    """
    own = [one for one in backups if is_of(sandbox, one)]
    if not own:
        return "it has no backup"
    verified = [(at, one) for one in own if _is_verified(one) and (at := _completed(one)) is not None]
    if not verified:
        return "none of its backups was verified"
    told = written(moment)
    if not (early := [one for one in verified if one[0] <= moment]):
        return f"none of its backups was verified before {told}, since when the host counts as compromised"
    if not (elsewhere := [one for one in early if _is_elsewhere(one[1])]):
        return f"its backups from before {told} were kept on the host itself"
    found = [(at, one, str(one["status"].get("snapshot") or "")) for at, one in elsewhere]
    if not (whole := [one for one in found if _WHOLE.fullmatch(one[2])]):
        return f"its backups from before {told} name their snapshots by eight digits, with which others may be made"
    at, backup, snapshot = max(whole, key=lambda one: one[0])
    return Chosen(backup["metadata"]["name"], snapshot, at)


def with_lists(sandbox: Raw, backups: Iterable[Raw]) -> dict[str, str]:
    """By location the sandbox's last snapshot there, where that was verified, and large.

    The last alone: after one that differs everything is read, be it the list before that is wrong.
    """
    stored = [one for one in backups if (one.get("status") or {}).get("snapshot") and is_of(sandbox, one)]
    in_order = sorted(stored, key=lambda one: one["status"].get("completedAt") or ended_at(one["status"]) or "")
    last = {str(one["status"].get("location")): one for one in in_order}
    return {place: str(one["status"]["snapshot"]) for place, one in last.items() if _has_list(one)}


def is_of(sandbox: Raw, backup: Raw) -> bool:
    """Whether it is a backup of this very sandbox, and of no earlier one by its name."""
    if (backup.get("spec") or {}).get("sandboxName") != sandbox["metadata"]["name"]:
        return False
    # By the API server's clock: a backup that is older than the sandbox was made of another one.
    made = (datetime.fromisoformat(one["metadata"]["creationTimestamp"]) for one in (backup, sandbox))
    return next(made) >= next(made)


def _is_verified(backup: Raw) -> bool:
    conditions = (backup.get("status") or {}).get("conditions") or ()
    true = {one.get("type") for one in conditions if one.get("status") == ConditionStatus.TRUE}
    return {BackupConditionType.COMPLETE, BackupConditionType.VERIFIED} <= true


def _has_list(backup: Raw) -> bool:
    status = backup["status"]
    worth = int(status.get("sizeBytes") or 0) >= LARGE
    return worth and _is_verified(backup) and bool(_WHOLE.fullmatch(str(status["snapshot"])))


def _completed(backup: Raw) -> datetime | None:
    return utc((backup.get("status") or {}).get("completedAt"))


def _is_elsewhere(backup: Raw) -> bool:
    return ((backup.get("spec") or {}).get("target") or {}).get("type") in _ELSEWHERE
