"""What became of the restore that a sandbox began with."""

from datetime import datetime
from typing import Annotated

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.model import Choice, Model


class RestoreState(Choice):
    """How it ended."""

    RESTORED = "Restored"
    FAILED = "Failed"


class RestoreStatus(Model):
    """The end of the restore. Once it says Restored, the workspace is the agent's, and nothing is restored again."""

    state: RestoreState
    """Restored, or Failed."""
    snapshot: Annotated[str, Clip(64)] | None = None
    """The snapshot that was restored."""
    files: int | None = None
    """How many files were restored."""
    different: int | None = None
    """How many of them differ from what was backed up, though nobody changed them meanwhile."""
    message: Annotated[str, Clip(512)] = ""
    """The same for people, with the remedy."""
    finished_at: datetime | None = None
    """When it was over."""
