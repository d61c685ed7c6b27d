"""What a backup's status says. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.kinds.backups import (
    MOST_REMOVED,
    OVER,
    BackupCondition,
    BackupConditionType,
    BackupReason,
    ClaudeSandboxBackupStatus,
)
from claude_sandbox.controller.machinery.conditions import stamped
from claude_sandbox.controller.machinery.redaction import redact

MOST_ATTEMPTS = 5
_NUMBERS = {
    "files": "files",
    "bytes": "size_bytes",
    "added": "added_bytes",
    "changed": "changed",
    "unread": "unread",
    "different": "different",
    "removed": "removed_snapshots",
    "repositories": "repositories",
    "torn": "torn_repositories",
    "damaged": "damaged_repositories",
    "untold": "unchecked_repositories",
    "sessions": "sessions",
}
"""What a helper says, and where it is in the status."""


@dataclass(frozen=True)
class State:
    """A condition without its times."""

    status: ConditionStatus
    reason: BackupReason
    message: str


def is_over(status: Mapping[str, Any]) -> bool:
    """Whether nothing more is done."""
    return any(
        one.get("type") == BackupConditionType.COMPLETE and one.get("reason") in OVER
        for one in status.get("conditions") or ()
    )


def may_have_helper(status: Mapping[str, Any]) -> bool:
    """Whether something may have been made for one that is over."""
    # A snapshot of the volume may be there before that is written.
    failed = {BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE, BackupReason.VOLUME_SNAPSHOT_FAILED}
    reasons = {
        one.get("reason") for one in status.get("conditions") or () if one.get("type") == BackupConditionType.COMPLETE
    }
    return bool(status.get("startedAt") or reasons & failed)


def ended_at(status: Mapping[str, Any]) -> str | None:
    """When one that is over ended, by its condition; None where that is not told."""
    found = (one for one in status.get("conditions") or () if one.get("type") == BackupConditionType.COMPLETE)
    return next((str(one["lastTransitionTime"]) for one in found if one.get("lastTransitionTime")), None)


def under_way(backups: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """UIDs of those that are not over."""
    return frozenset(one["metadata"]["uid"] for one in backups if not is_over(one.get("status") or {}))


def written(moment: datetime) -> str:
    """As a status has it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def waits(reason: BackupReason, message: str) -> State:
    """Complete, of a backup that isn't there yet, or that failed."""
    return State(ConditionStatus.FALSE, reason, redact(message))


def composed(
    previous: Mapping[str, Any], generation: int, complete: State, now: datetime, **more: Any
) -> dict[str, Any]:
    """The status with these; what is told once stays, but for how far it was."""
    anew = ("conditions", "observedGeneration", "progress")
    kept = {name: value for name, value in previous.items() if name not in anew}
    unverified = State(ConditionStatus.UNKNOWN, BackupReason.NOT_VERIFIED, "Nothing was restored yet.")
    verified = more.pop("verified", unverified)
    states: dict[BackupConditionType, State] = {
        BackupConditionType.COMPLETE: complete,
        BackupConditionType.VERIFIED: verified,
    }
    status = ClaudeSandboxBackupStatus.model_validate(kept | {"observedGeneration": generation}).model_copy(update=more)
    conditions = stamped(BackupCondition, previous.get("conditions") or (), states, generation, now)
    whole = status.model_copy(update={"conditions": conditions})
    return whole.model_dump(mode="json", by_alias=True, exclude_none=True)


def of_result(result: Mapping[str, Any]) -> tuple[State, dict[str, Any]]:
    """Complete, and the rest of the status, of what a helper said at its end."""
    if result.get("outcome") != "Done":
        reason = _reason(result.get("reason"))
        message = str(result.get("message") or "restic failed, and said nothing")
        return waits(reason, message + _REMEDIES.get(reason, "")), {}
    numbers = {field: int(result[name]) for name, field in _NUMBERS.items() if isinstance(result.get(name), int)}
    snapshot = str(result.get("snapshot") or "")
    stored = State(ConditionStatus.TRUE, BackupReason.STORED, f"Snapshot {snapshot[:8]}: {_told(result)}.")
    gone = [one for one in result.get("gone") or () if isinstance(one, str)][:MOST_REMOVED]
    known = {name: str(result[name]) for name in ("repository", "location") if result.get(name)}
    return stored, known | {"snapshot": snapshot, "verified": _verified(result), "removed": gone or None} | numbers


def _verified(result: Mapping[str, Any]) -> State:
    different, problem = int(result.get("different") or 0), str(result.get("problem") or "")
    if different or problem:
        named = "; ".join(map(str, result.get("examples") or ()))
        message = f"{different} files differ in the restored copy: {named}. {problem}".strip()
        return State(ConditionStatus.FALSE, BackupReason.DIFFERENT, redact(message))
    if torn := int(result.get("torn") or 0):
        named = "; ".join(map(str, result.get("tornExamples") or ()))
        message = (
            f"{torn} git repositories were written to meanwhile, and are damaged in the restored copy: {named}. Make"
            " another backup; of a suspended sandbox it is of one moment."
        )
        return State(ConditionStatus.FALSE, BackupReason.REPOSITORY_TORN, redact(message))
    told = f"{result.get('files', 0)} files were restored and are the same"
    changed = int(result.get("changed") or 0)
    more = f"; {changed} files and directories changed while they were read, which is no fault" if changed else ""
    return State(ConditionStatus.TRUE, BackupReason.RESTORED_AND_COMPARED, f"{told}{more}{_of_use(result)}.")


def _of_use(result: Mapping[str, Any]) -> str:
    """What of it was looked into."""
    words = {
        "repositories": "git repositories are whole",
        "damaged": "git repositories are damaged, as they are in the workspace",
        "untold": "git repositories could not be looked into",
        "sessions": "sessions of Claude Code were found",
    }
    told = [f"{int(result.get(name) or 0)} {what}" for name, what in words.items() if result.get(name)]
    if result.get("sessions") == 0:
        told.append("no session of Claude Code was found in the home")
    return "".join(f"; {one}" for one in told)


def _told(result: Mapping[str, Any]) -> str:
    parts = [f"{result.get('files', 0)} files, {result.get('bytes', 0)} bytes"]
    unread = int(result.get("unread") or 0)
    if unread:
        named = "; ".join(map(str, result.get("unreadExamples") or ()))
        parts.append(f"{unread} could not be read and are not in it ({named})")
    if left := str(result.get("left") or ""):
        parts.append(f"older snapshots stay for now, since restic refused to let them go ({left})")
    return "; ".join(parts)


def _reason(word: object) -> BackupReason:
    try:
        found = BackupReason(str(word))
    except ValueError:
        return BackupReason.BACKUP_FAILED
    # The word comes from a helper: none of its own choosing makes a failure look like a success, or like not the end.
    return found if found in OVER and found is not BackupReason.STORED else BackupReason.BACKUP_FAILED


_REMEDIES = {
    BackupReason.WRONG_PASSWORD: ". Put the password into the Secret with which the repository was made, or choose"
    " another target: without it nobody can open the repository. Then make another backup.",
    BackupReason.TARGET_FULL: ". Make room, or have older snapshots go (spec.retention), and make another backup.",
    BackupReason.TARGET_NOT_WRITABLE: ". The agent's user (1000), or who logs in to the server, has to be able to write"
    " there; a bucket has to be there.",
    BackupReason.TARGET_UNREACHABLE: ". See whether the server runs, and the Secret has the authority that signed"
    " its certificate (ca.crt), or its own key (known_hosts). Then make another backup.",
    BackupReason.CREDENTIALS_REFUSED: ". Put into the Secret what the server lets in, and make another backup.",
    BackupReason.REPOSITORY_BUSY: ". Make another backup later.",
    BackupReason.REPOSITORY_GONE: ". See that what it was on is there and mounted. If it is lost, begin anew: make a"
    " backup with that identifier as spec.replacesRepository (claude-sandbox backup --replaces).",
    BackupReason.ANOTHER_REPOSITORY: ". Bring the one back that was there, or choose another target. To go on with what"
    " is there now, make a backup with the former's identifier as spec.replacesRepository (claude-sandbox backup"
    " --replaces).",
    BackupReason.VOLUME_SNAPSHOT_FAILED: ". See `kubectl describe` of it, and make another backup, or one without"
    " spec.volumeSnapshot.",
    BackupReason.REPOSITORY_DAMAGED: ". Look at it with `restic check`, or choose another target.",
}
