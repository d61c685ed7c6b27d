"""When a sandbox is backed up by itself, and where to."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.kinds.backups import PasswordSecretRef, Retention, VolumeSnapshotSource
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import matching, never_matching

_MINUTE = "[1-5]?[0-9]"
_MINUTES = f"{_MINUTE}(?:,{_MINUTE}){{0,3}}|[*]/(?:1[5-9]|[2-5][0-9])"
"""Four times an hour at most: each backup is restored too."""


def _field(value: str) -> str:
    """What a field of a schedule may be, of values like this."""
    step = "(?:/[1-9][0-9]?)?"
    item = f"(?:{value})(?:-(?:{value}){step})?"
    return f"(?:[*]{step}|{item}(?:,{item})*)"


SCHEDULE = " ".join(
    (f"(?:{_MINUTES})", _field("1?[0-9]|2[0-3]"), _field("[1-9]|[12][0-9]|3[01]"), _field("[1-9]|1[0-2]"),
     _field("[0-7]"))
)  # fmt: skip
_NEVER = "^[^ ]+ [^ ]+ (?:31 (?:2|4|6|9|11)|(?:30|31|30,31|30-31) 2) [*]$"


def _backwards() -> str:
    """What ranges look like that end before they begin, of numbers up to 39: a cheaper rule than to read them."""
    below = {digit: f"[0-{digit - 1}]" for digit in range(1, 10)}
    first = [f"(?:^|[^0-9]){digit}-{less}" for digit, less in below.items()]
    first += ["[1-9][0-9]-[0-9]"]
    second = [f"{ten}{digit}-{ten}{less}" for ten in (1, 2, 3) for digit, less in below.items()]
    second += ["2[0-9]-1[0-9]", "3[0-9]-[12][0-9]"]
    return f"(?:{'|'.join(first)})(?:[^0-9]|$)|{'|'.join(second)}"


Schedule = Annotated[
    str,
    Field(min_length=9, max_length=64),
    matching(
        SCHEDULE,
        "must be minute, hour, day of the month, month and day of the week, as numbers with one space between, for"
        " example 30 2 * * * for each day at 02:30 UTC; the minute is up to four numbers, or */15 or more",
    ),
    never_matching(_NEVER, "names a day that no month has: write another day of the month"),
    never_matching(_backwards(), "has a range that ends before it begins: write the smaller number first"),
]


class WhenHostCompromised(Choice):
    """What becomes of a sandbox whose Docker host is declared to be compromised."""

    STAY = "Stay"
    RESTORE_ELSEWHERE = "RestoreElsewhere"


class Backup(Strict):
    """Backups of the workspace by a schedule, each verified by restoring it. The operator makes a ClaudeSandboxBackup
    each time; one that is under way is waited for, and of times that were missed the last one is made up for.
    """

    schedule: Schedule
    """When, in UTC, as cron has it: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday). For
    example `30 2 * * *` for each day at 02:30, and `0 */6 * * *` for four times a day."""
    target: BackupTarget
    """Where the repository is. It is made with the first backup."""
    password_secret_ref: PasswordSecretRef
    """The repository's password. Who loses it has no backups: nothing else opens the repository."""
    retention: Retention | None = None
    """Which snapshots of the sandbox stay in the repository, and the ClaudeSandboxBackups that were made of them;
    without it, all snapshots and the hundred newest ClaudeSandboxBackups."""
    include_home: bool = False
    """Whether what Claude Code keeps of its work is backed up too. Only with spec.workspace.keepHome."""
    volume_snapshot: VolumeSnapshotSource | None = None
    """Have each backup be of one moment: a VolumeSnapshot is made of the workspace, and that is read instead of the
    workspace. Without it files are read while the agent goes on working. Only on Kubernetes, with a CSI driver that
    makes snapshots, and where the operator may (install --volume-snapshots). Where it can't be had the backup fails."""
    when_host_compromised: WhenHostCompromised | None = None
    """Stay, the default: it stays where it is, and a person makes it anew. RestoreElsewhere: on another DockerHost that
    it may use it begins with the last backup that was verified before; what it did since is left on the old host. Only
    on Docker, with a target elsewhere (S3 or SFTP), and where spec.backend names no host."""

    @property
    def leaves(self) -> bool:
        """Whether the sandbox leaves a compromised host."""
        return self.when_host_compromised is WhenHostCompromised.RESTORE_ELSEWHERE
