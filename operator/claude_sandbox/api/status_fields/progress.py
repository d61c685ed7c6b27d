"""How far a backup or a restore is."""

from datetime import datetime

from claude_sandbox.api.model import Choice, Model


class Phase(Choice):
    """What is being done."""

    LIST = "List"
    SAVE = "Save"
    RESTORE = "Restore"
    COMPARE = "Compare"


class Progress(Model):
    """How far it is, by what the helper last said; written at most each ten seconds, and only while it is at work."""

    phase: Phase
    """List: each file is read, for the list of digests. Save: restic stores. Restore: what was stored is restored; of a
    backup, beside the workspace. Compare: the restored copy is compared with the list."""
    percent: int
    """How much of the phase is done, by bytes."""
    files: int
    """How many files that is; 0 while restoring, of which restic tells none."""
    total_files: int
    """How many files there are."""
    size_bytes: int
    """What is done, in bytes."""
    total_bytes: int
    """What there is to do, in bytes."""
    at: datetime
    """When it was so."""
