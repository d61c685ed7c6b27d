"""From which backup a sandbox begins."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.kinds.backups import PasswordSecretRef
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.api.rules import Rule, matching


class RestoreFrom(Strict):
    """The backup with which the workspace is filled before the agent first starts: by the name of a
    ClaudeSandboxBackup, or by the snapshot and where it is.
    """

    backup_name: (
        Annotated[
            str,
            Field(min_length=1, max_length=253),
            matching("[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?", "must be the name of a ClaudeSandboxBackup"),
        ]
        | None
    ) = None
    """A ClaudeSandboxBackup in the same namespace, of a sandbox on the same backend."""
    snapshot: (
        Annotated[
            str,
            Field(min_length=8, max_length=64),
            matching(
                "[0-9a-f]+", "must be a snapshot's identifier, as status.snapshot of a ClaudeSandboxBackup has it"
            ),
        ]
        | None
    ) = None
    """A snapshot in the repository; eight digits of its identifier are enough."""
    target: BackupTarget | None = None
    """Where the repository is."""
    password_secret_ref: PasswordSecretRef | None = None
    """The repository's password."""

    RULES = (
        Rule(
            "has(self.backupName) != (has(self.snapshot) || has(self.target) || has(self.passwordSecretRef))",
            lambda one: (
                (one.backup_name is not None)
                != (one.snapshot is not None or one.target is not None or one.password_secret_ref is not None)
            ),
            "is either the name of a ClaudeSandboxBackup, or snapshot, target and passwordSecretRef: write one of both",
            field="backupName",
        ),
        Rule(
            "has(self.backupName) || (has(self.snapshot) && has(self.target) && has(self.passwordSecretRef))",
            lambda one: (
                one.backup_name is not None
                or (one.snapshot is not None and one.target is not None and one.password_secret_ref is not None)
            ),
            "needs target and passwordSecretRef, and they need it: write all three",
            field="snapshot",
        ),
    )
