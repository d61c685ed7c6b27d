"""Backups of a sandbox's workspace: the models of `ClaudeSandboxBackup`, its conditions and their reasons."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.clip import Clip
from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.kinds.targets import BackupTarget, TargetType
from claude_sandbox.api.meta import MAX_NAME_LENGTH
from claude_sandbox.api.model import Model
from claude_sandbox.api.rules import Rule, Transition, UniqueBy, matching
from claude_sandbox.api.status_fields.progress import Progress


class PasswordSecretRef(Strict):
    """A key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253), names.SECRET_NAME]
    """The Secret's name. It opts in by its type `claudesandbox.dev/backup`, or by that label with the value "true"."""
    key: Annotated[str, Field(min_length=1, max_length=253), names.SECRET_KEY] = "password"
    """Which of the Secret's keys holds the password."""


MOST_REMOVED = 100
_COUNT = Field(ge=1, le=1000)


class Retention(Strict):
    """Which snapshots of the sandbox stay. What none of these keeps goes, once this backup is there."""

    keep_last: Annotated[int, _COUNT] | None = None
    """The newest so many."""
    keep_daily: Annotated[int, _COUNT] | None = None
    """The newest of each of so many days."""
    keep_weekly: Annotated[int, _COUNT] | None = None
    """The newest of each of so many weeks."""
    keep_monthly: Annotated[int, _COUNT] | None = None
    """The newest of each of so many months."""

    RULES = (
        Rule(
            "has(self.keepLast) || has(self.keepDaily) || has(self.keepWeekly) || has(self.keepMonthly)",
            lambda kept: bool(kept.kept),
            "keeps nothing: write keepLast, keepDaily, keepWeekly or keepMonthly, or remove it, and all snapshots stay",
        ),
    )

    @property
    def kept(self) -> dict[str, int]:
        """By restic's words."""
        found = {"last": self.keep_last, "daily": self.keep_daily, "weekly": self.keep_weekly,
                 "monthly": self.keep_monthly}  # fmt: skip
        return {name: count for name, count in found.items() if count is not None}


class VolumeSnapshotSource(Strict):
    """A snapshot of the volume that a backup is made of. All of it may be left out: write {}."""

    class_name: Annotated[str, Field(min_length=1, max_length=253), names.SNAPSHOT_CLASS] | None = None
    """The VolumeSnapshotClass; without it the default one of the volume's driver. Its deletionPolicy has to be Delete.
    """
    storage_class_name: Annotated[str, Field(min_length=1, max_length=253), names.STORAGE_CLASS] | None = None
    """The StorageClass of the volume that is made from the snapshot; without it that of the workspace. It has to be of
    the same driver, and its reclaimPolicy Delete."""


class ClaudeSandboxBackupSpec(Strict):
    """One backup of a sandbox's workspace, now. It can't be changed."""

    sandbox_name: Annotated[
        str,
        Field(min_length=1, max_length=MAX_NAME_LENGTH),
        matching("[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", "must be the name of a ClaudeSandbox in the same namespace"),
    ]
    """The ClaudeSandbox, in the same namespace."""
    target: BackupTarget
    """Where the repository is. It is made with the first backup."""
    password_secret_ref: PasswordSecretRef
    """The repository's password. Who loses it has no backups: nothing else opens the repository."""
    retention: Retention | None = None
    """Which snapshots of the sandbox stay in the repository; without it, all."""
    include_home: bool = False
    """Whether what Claude Code keeps of its work is backed up too (spec.workspace.keepHome of the sandbox)."""
    volume_snapshot: VolumeSnapshotSource | None = None
    """Have the backup be of one moment: a VolumeSnapshot is made of the workspace, and that is read instead of the
    workspace. Without it files are read while the agent goes on working. Only on Kubernetes, with a CSI driver that
    makes snapshots, and where the operator may (install --volume-snapshots). Where it can't be had the backup fails."""

    replaces_repository: (
        Annotated[
            str,
            Field(min_length=64, max_length=64),
            matching(
                "[0-9a-f]{64}",
                "must be a repository's identifier, as status.repository of a ClaudeSandboxBackup has it",
            ),
        ]
        | None
    ) = None
    """The repository that was in the target and is lost, as status.repository of the backups in it names it: what is
    there now is taken for what is to be there, or a new one is made. Without it no backup is made where another
    repository was before, or where it is gone."""

    RULES = (
        Rule(
            "!has(self.volumeSnapshot) || self.target.type != 'HostDirectory'",
            lambda spec: spec.volume_snapshot is None or spec.target.type is not TargetType.HOST_DIRECTORY,
            "is for sandboxes on Kubernetes, and the target is a Docker host's: remove one of them. A suspended"
            " sandbox's backup is of one moment too",
            field="volumeSnapshot",
        ),
    )
    TRANSITIONS = (Transition("self == oldSelf", "can't be changed: make another backup"),)


class BackupConditionType(StrEnum):
    """Both are written on the first look."""

    COMPLETE = "Complete"
    VERIFIED = "BackupVerified"


class BackupReason(StrEnum):
    """Why a condition has its status. Documented for users; none is ever built from data."""

    # Complete
    STORED = "Stored"
    RUNNING = "Running"
    # Complete, while it waits
    SANDBOX_NOT_FOUND = "SandboxNotFound"
    WORKSPACE_NOT_THERE = "WorkspaceNotThere"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_NOT_OPTED_IN = "SecretNotOptedIn"
    SECRET_KEY_MISSING = "SecretKeyMissing"
    TARGET_NOT_FOUND = "TargetNotFound"
    TARGET_NOT_ALLOWED = "TargetNotAllowed"
    HOST_UNREACHABLE = "HostUnreachable"
    HELPER_NOT_STARTED = "HelperNotStarted"
    PERMISSION_DENIED = "PermissionDenied"
    # Complete, and it is over
    INVALID_SPEC = "InvalidSpec"
    NOTHING_TO_KEEP = "NothingToKeep"
    HELPER_LOST = "HelperLost"
    WRONG_PASSWORD = "WrongPassword"
    TARGET_FULL = "TargetFull"
    TARGET_NOT_WRITABLE = "TargetNotWritable"
    TARGET_UNREACHABLE = "TargetUnreachable"
    CREDENTIALS_REFUSED = "CredentialsRefused"
    REPOSITORY_BUSY = "RepositoryBusy"
    REPOSITORY_DAMAGED = "RepositoryDamaged"
    REPOSITORY_GONE = "RepositoryGone"
    ANOTHER_REPOSITORY = "AnotherRepository"
    BACKUP_FAILED = "BackupFailed"
    VOLUME_SNAPSHOT_NOT_POSSIBLE = "VolumeSnapshotNotPossible"
    VOLUME_SNAPSHOT_FAILED = "VolumeSnapshotFailed"
    # BackupVerified
    RESTORED_AND_COMPARED = "RestoredAndCompared"
    DIFFERENT = "Different"
    REPOSITORY_TORN = "RepositoryTorn"
    NOT_VERIFIED = "NotVerified"


OVER = frozenset(
    {
        BackupReason.STORED,
        BackupReason.INVALID_SPEC,
        BackupReason.NOTHING_TO_KEEP,
        BackupReason.HELPER_LOST,
        BackupReason.WRONG_PASSWORD,
        BackupReason.TARGET_FULL,
        BackupReason.TARGET_NOT_WRITABLE,
        BackupReason.TARGET_UNREACHABLE,
        BackupReason.CREDENTIALS_REFUSED,
        BackupReason.REPOSITORY_BUSY,
        BackupReason.REPOSITORY_DAMAGED,
        BackupReason.REPOSITORY_GONE,
        BackupReason.ANOTHER_REPOSITORY,
        BackupReason.BACKUP_FAILED,
        BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE,
        BackupReason.VOLUME_SNAPSHOT_FAILED,
    }
)
"""Reasons of Complete with which nothing more is done."""

LOST = frozenset({BackupReason.REPOSITORY_GONE, BackupReason.ANOTHER_REPOSITORY})
"""Those that say that the backups which were in the target are not there."""

BACKUP_CONDITIONS: Mapping[BackupConditionType, str] = {
    BackupConditionType.COMPLETE: "The snapshot is in the repository. False while it is being made or waits, and where"
    " it failed: the reason tells which.",
    BackupConditionType.VERIFIED: "The snapshot was restored into a directory of its own, and every file that did not"
    " change meanwhile is what it was.",
}
"""What it means that a condition is True."""

BACKUP_MEANINGS: Mapping[BackupReason, str] = {
    BackupReason.STORED: "The snapshot is in the repository.",
    BackupReason.RUNNING: "The backup is being made.",
    BackupReason.SANDBOX_NOT_FOUND: "There is no such ClaudeSandbox in the namespace.",
    BackupReason.WORKSPACE_NOT_THERE: "The sandbox has no workspace yet.",
    BackupReason.SECRET_NOT_FOUND: "There is no Secret of that name in the namespace.",
    BackupReason.SECRET_NOT_OPTED_IN: "The Secret is there, but nobody said that it is for backups.",
    BackupReason.SECRET_KEY_MISSING: "The Secret has nothing under the key.",
    BackupReason.TARGET_NOT_FOUND: "There is no such PersistentVolumeClaim in the namespace.",
    BackupReason.TARGET_NOT_ALLOWED: "Nobody has said that backups may be written there, it is for the other backend,"
    " or its server has no address that backups may be sent to.",
    BackupReason.HOST_UNREACHABLE: "The Docker host does not answer, or refused what it was asked.",
    BackupReason.HELPER_NOT_STARTED: "What makes the backup does not run yet.",
    BackupReason.PERMISSION_DENIED: "The operator's role does not let it do that.",
    BackupReason.INVALID_SPEC: "The spec has fields that are refused.",
    BackupReason.NOTHING_TO_KEEP: "The workspace is an EmptyDir, which is in memory or in the pod, and in no volume; or"
    " the home is to be backed up of a sandbox that keeps none.",
    BackupReason.HELPER_LOST: "What makes the backup ended several times before it was done: killed, or out of memory"
    " or room for the restored copy.",
    BackupReason.WRONG_PASSWORD: "The password does not open the repository. Nothing was written.",
    BackupReason.TARGET_FULL: "There is no room left. The snapshots that there are are whole.",
    BackupReason.TARGET_NOT_WRITABLE: "The target can't be written to.",
    BackupReason.TARGET_UNREACHABLE: "The server of the target does not answer, or is not the one that the Secret knows"
    " by its certificate or key.",
    BackupReason.CREDENTIALS_REFUSED: "The server of the target lets nobody in with what the Secret has.",
    BackupReason.REPOSITORY_BUSY: "Somebody else had the repository for too long.",
    BackupReason.REPOSITORY_DAMAGED: "The repository lacks what it needs. Nothing was written.",
    BackupReason.REPOSITORY_GONE: "The repository that was in the target is not there any more. Nothing was written.",
    BackupReason.ANOTHER_REPOSITORY: "In the target is another repository than before. Nothing was written.",
    BackupReason.BACKUP_FAILED: "restic failed; the message is its own.",
    BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE: "A snapshot of the volume was asked for, and none can be had: the"
    " message says what is in the way. Nothing was read or written.",
    BackupReason.VOLUME_SNAPSHOT_FAILED: "The snapshot of the volume, or the volume that is made from it, did not come."
    " What was made of it is removed. Nothing was written.",
    BackupReason.RESTORED_AND_COMPARED: "The restored copy is the same as what was backed up.",
    BackupReason.DIFFERENT: "The restored copy differs in files that did not change; the message names some.",
    BackupReason.REPOSITORY_TORN: "A git repository was written to while it was backed up, and what was kept of it is"
    " damaged: git fsck finds it so in the restored copy, and not in the workspace.",
    BackupReason.NOT_VERIFIED: "Nothing was restored yet.",
}
"""What each reason says to a user."""


class BackupCondition(Model):
    """As metav1.Condition."""

    type: BackupConditionType
    """What the condition is about."""
    status: ConditionStatus
    """Whether it holds; Unknown where that can't be said."""
    observed_generation: int
    """The metadata.generation that the condition was judged by."""
    last_transition_time: datetime
    """When the status last changed."""
    reason: BackupReason
    """Why it has this status, as one word of a closed set."""
    message: Annotated[str, Clip(1024)] = ""
    """The same for people, with the remedy."""


class ClaudeSandboxBackupStatus(Model):
    """How far the backup is, and what is in it."""

    observed_generation: int = -1
    """The metadata.generation that this status is about; -1 before the first look."""
    conditions: Annotated[list[BackupCondition], Field(max_length=8), UniqueBy("type")] = []
    """How far it is."""
    attempts: int | None = None
    """How often it was begun. One that was ended in the middle is begun anew."""
    started_at: datetime | None = None
    """When it was first begun."""
    progress: Progress | None = None
    """How far it is; only while it is at work. On Kubernetes only where the operator may read pods' logs."""
    completed_at: datetime | None = None
    """When it was over."""
    volume_snapshot_at: datetime | None = None
    """The moment that the backup is of: when the VolumeSnapshot was taken; of two, the later one. Without it files were
    read while the agent went on working."""
    snapshot: Annotated[str, Clip(64)] | None = None
    """The snapshot in the repository, as restic names it."""
    location: Annotated[str, Clip(512)] | None = None
    """Where the repository is, for who looks for it by hand."""
    repository: Annotated[str, Clip(64)] | None = None
    """Which repository that is, as restic names it (`restic cat config`)."""
    files: int | None = None
    """How many files were backed up."""
    size_bytes: int | None = None
    """What these hold, in bytes."""
    added_bytes: int | None = None
    """How much of that was not in the repository yet, in bytes."""
    changed: int | None = None
    """How many files and directories changed while they were read. These are in the snapshot as of some moment."""
    unread: int | None = None
    """How many could not be read, and are not in the snapshot."""
    different: int | None = None
    """How many differ in the restored copy though nobody changed them."""
    repositories: int | None = None
    """How many git repositories are whole in the restored copy, by git fsck."""
    torn_repositories: int | None = None
    """How many are damaged in it, and whole in the workspace."""
    damaged_repositories: int | None = None
    """How many are damaged in both."""
    unchecked_repositories: int | None = None
    """How many could not be looked into: partial clones, what borrows objects from elsewhere, too large, too many."""
    sessions: int | None = None
    """How many sessions of Claude Code were found in the restored home; only with spec.includeHome."""
    removed_snapshots: int | None = None
    """How many older snapshots of the sandbox went by spec.retention."""
    removed: Annotated[list[Annotated[str, Clip(64)]], Field(max_length=MOST_REMOVED)] | None = None
    """Which these were; the first hundred."""
