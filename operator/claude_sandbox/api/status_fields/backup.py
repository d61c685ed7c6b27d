"""What became of the backups of a sandbox that are made by a schedule."""

from datetime import datetime
from typing import Annotated

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.model import Model


class BackupStatus(Model):
    """The newest backups of the sandbox. Those that somebody made by hand count for what is verified."""

    last_scheduled: datetime | None = None
    """The time of spec.backup.schedule for which a backup was made last."""
    last_backup: Annotated[str, Clip(64)] | None = None
    """The ClaudeSandboxBackup that was made then."""
    last_verified: datetime | None = None
    """When a backup was verified last."""
    verified_backup: Annotated[str, Clip(253)] | None = None
    """The ClaudeSandboxBackup that was verified then."""
    snapshot: Annotated[str, Clip(64)] | None = None
    """Its snapshot."""
    repository: Annotated[str, Clip(64)] | None = None
    """The repository that this is in, as restic names it."""
    location: Annotated[str, Clip(512)] | None = None
    """Where that is."""
