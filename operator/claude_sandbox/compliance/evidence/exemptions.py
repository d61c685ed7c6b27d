"""Exceptions: controls that may fail for a while, as a sandbox or a policy declares them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase

from claude_sandbox.api.spec import ComplianceSpec


@dataclass(frozen=True)
class Exemption:
    """A control that may fail or be Unknown. `targets`: of what, as reports call it, with * and ?; none: of all.

    `expires`: the last day on which it holds (UTC).
    """

    control: str
    reason: str
    owner: str
    expires: date
    targets: tuple[str, ...] = ()

    def is_of(self, target: str) -> bool:
        return not self.targets or any(fnmatchcase(target, one) for one in self.targets)


def exemptions_of(asked: ComplianceSpec) -> tuple[Exemption, ...]:
    """Those that a sandbox declares."""
    return tuple(
        Exemption(one.control, one.reason, one.owner, date.fromisoformat(one.expires)) for one in asked.exceptions
    )


def ends_in(asked: ComplianceSpec, now: datetime) -> float | None:
    """Seconds until the next of a sandbox's exceptions no longer holds; None where none is to end.

    `now` is in UTC.
    """
    ends = (
        datetime.combine(one.expires + timedelta(days=1), time(), UTC)
        for one in exemptions_of(asked)
        if one.expires >= now.date()
    )
    return min(((end - now).total_seconds() for end in ends), default=None)
