"""That a sandbox left a Docker host that was compromised, and with which backup it began anew."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.model import Model


class RecoveryStatus(Model):
    """Where the sandbox was, and what it began with on the host where it is now. What came of that is in
    `status.restore`."""

    host: Annotated[str, Clip(63)]
    """The DockerHost that was compromised."""
    engine_id: Annotated[str, Clip(64)]
    """The identifier of its engine."""
    at: datetime
    """When the sandbox left it."""
    backup: Annotated[str, Clip(253)]
    """The ClaudeSandboxBackup: the last that was verified before the host counted as compromised."""
    snapshot: Annotated[str, Clip(64)]
    """Its snapshot, by its whole identifier, which is a digest: another can't take its place."""
    backed_up_at: datetime
    """When that backup was complete. What was done since is not in the workspace."""
    left: Annotated[list[Annotated[str, Clip(128)]], Field(max_length=2)] = []
    """The volumes with its workspace and its home that are left on the old host. Nothing mounts them, and nothing is
    asked of them."""
