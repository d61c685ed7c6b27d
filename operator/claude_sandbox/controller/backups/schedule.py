"""When a sandbox is to be backed up by its schedule, which of these backups have gone, and what is verified. Pure.

There is no state: the last time for which a backup was made is what the ClaudeSandboxBackups say, or where these were
removed, the sandbox's status. So a time that was missed is made up for by the next pass, and of many of them the last.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cronsim import CronSim, CronSimError

from claude_sandbox.api import meta
from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.api.fields.work.backup import Backup
from claude_sandbox.api.kinds.backups import LOST, BackupConditionType
from claude_sandbox.api.status_fields.backup import BackupStatus
from claude_sandbox.controller.backups.choice import is_of
from claude_sandbox.controller.backups.status import is_over, written
from claude_sandbox.controller.sandboxes.store import Raw

MOST_KEPT = 100
"""ClaudeSandboxBackups of one sandbox that were stored, and are over; older ones are removed, their snapshots stay."""
MOST_FAILED = 3
"""The same of those that were not stored."""
LONGEST = timedelta(days=1)
"""For so long one that has begun is waited for."""


@dataclass(frozen=True)
class Plan:
    """`due`: the time of the schedule for which a backup is to be made now. `next`: when it is worth another look.

    `superfluous`: objects that are to go. `said`: what came of the last one that is over, where it was not verified.
    """

    due: datetime | None
    next: datetime | None
    superfluous: tuple[Raw, ...]
    status: BackupStatus
    said: str = ""
    gone: bool = False
    """Whether that one says that the backups before it are not there any more."""


def plan(sandbox: Raw, asked: Backup, previous: BackupStatus, backups: Iterable[Raw], now: datetime) -> Plan:
    """What is to be done. `previous`: what the sandbox's status says; `backups`: those of this sandbox's name."""
    made = datetime.fromisoformat(sandbox["metadata"]["creationTimestamp"])
    own = [one for one in backups if datetime.fromisoformat(one["metadata"]["creationTimestamp"]) >= made]
    scheduled = sorted(_scheduled(sandbox, own), key=lambda one: one[0], reverse=True)
    # A clock that was ahead for a moment, or whoever may write annotations, would else put off all that is to come.
    past = [at for at in (*(at for at, _ in scheduled), *_known(previous.last_scheduled)) if at <= now]
    last = max(past, default=None)
    status = _verified(previous.model_copy(update={"last_scheduled": last}), own)
    if scheduled and scheduled[0][0] == last:
        status = status.model_copy(update={"last_backup": scheduled[0][1]["metadata"]["name"]})
    before, after = _around(asked.schedule, now)
    waits = any(not is_over(one.get("status") or {}) for one in own)
    # Not while one is under way: two would read the workspace at the same time, and the later one makes up for it.
    due = before if before is not None and before > (last or made) and not waits else None
    superfluous = _superfluous([one for _, one in scheduled], own, status.verified_backup)
    said, gone = _said(own, status)
    return Plan(due, after, superfluous, status, said, gone)


def at_work(sandbox: Raw, backups: Iterable[Raw], now: datetime) -> bool:
    """Whether one of this very sandbox has begun, not too long ago, and is not over."""
    for one in backups:
        status = one.get("status") or {}
        began = utc(status.get("startedAt"))
        if is_of(sandbox, one) and began is not None and now - began < LONGEST and not is_over(status):
            return True
    return False


def name_for(sandbox: str, at: datetime) -> str:
    """The same for the same time, so that of two operators only one makes it."""
    return f"{sandbox}-{at:%Y%m%d-%H%M}"


def manifest(sandbox: Raw, asked: Backup, at: datetime) -> dict[str, Any]:
    """The ClaudeSandboxBackup for this time. It has no owner: it outlives its sandbox, which it can bring back."""
    metadata = sandbox["metadata"]
    retention = asked.retention
    spec: dict[str, Any] = {
        "sandboxName": metadata["name"],
        "target": asked.target.model_dump(mode="json", by_alias=True, exclude_none=True),
        "passwordSecretRef": asked.password_secret_ref.model_dump(mode="json", by_alias=True),
    }
    if retention is not None:
        spec["retention"] = retention.model_dump(mode="json", by_alias=True, exclude_none=True)
    if asked.include_home:
        spec["includeHome"] = True
    if asked.volume_snapshot is not None:
        spec["volumeSnapshot"] = asked.volume_snapshot.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.BACKUP_KIND,
        "metadata": {
            "name": name_for(metadata["name"], at),
            "labels": {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_SANDBOX_UID: metadata["uid"]},
            "annotations": {meta.ANNOTATION_SCHEDULED_AT: written(at)},
        },
        "spec": spec,
    }


def is_scheduled(backup: Raw, sandbox: Raw) -> bool:
    """Whether it was made by this very sandbox's schedule."""
    labels: Mapping[str, str] = backup["metadata"].get("labels") or {}
    uid: str = sandbox["metadata"]["uid"]
    return labels.get(meta.LABEL_SANDBOX_UID) == uid


def _scheduled(sandbox: Raw, backups: Iterable[Raw]) -> Iterable[tuple[datetime, Raw]]:
    for one in backups:
        at = utc((one["metadata"].get("annotations") or {}).get(meta.ANNOTATION_SCHEDULED_AT))
        if at is not None and is_scheduled(one, sandbox):
            yield at, one


def _around(schedule: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The schedule's last time, which may be now, and its next one; None where it never comes."""
    try:
        before = next(CronSim(schedule, now + timedelta(minutes=1), reverse=True))
        after = next(CronSim(schedule, now))
    except (CronSimError, StopIteration):
        return None, None
    # The minute that is asked for has to count, and the reverse of CronSim leaves its start out.
    return before if before <= now else next(CronSim(schedule, now, reverse=True)), after


def _verified(status: BackupStatus, backups: Iterable[Raw]) -> BackupStatus:
    """With the backup that was verified last, were it made by a schedule or by hand."""
    found = status
    for one in backups:
        told = one.get("status") or {}
        at = utc(told.get("completedAt"))
        good = _condition(one, BackupConditionType.VERIFIED).get("status") == "True"
        if good and at is not None and (found.last_verified is None or at > found.last_verified):
            found = found.model_copy(
                update={
                    "last_verified": at,
                    "verified_backup": one["metadata"]["name"],
                    "snapshot": told.get("snapshot"),
                    "repository": told.get("repository"),
                    "location": told.get("location"),
                }
            )
    return found


def _superfluous(scheduled: Sequence[Raw], backups: Iterable[Raw], kept: str | None) -> tuple[Raw, ...]:
    """Of those of the schedule, the newest first: whose snapshots went, and what is too many."""
    removed = {name for one in backups for name in (one.get("status") or {}).get("removed") or ()}
    over = [one for one in scheduled if is_over(one.get("status") or {}) and one["metadata"]["name"] != kept]
    stored = [one for one in over if (one.get("status") or {}).get("snapshot")]
    failed = [one for one in over if not (one.get("status") or {}).get("snapshot")]
    # The helper tells what it removed by the first eight digits.
    gone = [one for one in stored if any(str(one["status"]["snapshot"]).startswith(name) for name in removed)]
    staying = [one for one in stored if one not in gone]
    return (*gone, *staying[MOST_KEPT:], *failed[MOST_FAILED:])


def _said(backups: Iterable[Raw], status: BackupStatus) -> tuple[str, bool]:
    """What the newest that is over says, where it is not the one that was verified last; whether all are lost."""
    over = [one for one in backups if is_over(one.get("status") or {})]
    last = max(over, key=lambda one: str((one["status"] or {}).get("completedAt") or ""), default=None)
    if last is None or last["metadata"]["name"] == status.verified_backup:
        return "", False
    complete, verified = _condition(last, BackupConditionType.COMPLETE), _condition(last, BackupConditionType.VERIFIED)
    reason = verified.get("reason") if complete.get("status") == "True" else complete.get("reason")
    return f"ClaudeSandboxBackup {last['metadata']['name']} ended with {reason}.", reason in LOST


def _condition(backup: Raw, kind: BackupConditionType) -> Mapping[str, Any]:
    found = (backup.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), {})


def _known(at: datetime | None) -> tuple[datetime, ...]:
    return () if at is None else (at,)
