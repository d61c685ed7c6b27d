"""What the controls say of a workload of a newer image, beside what they said of the one before. Pure.

Only a result of that very workload counts: a status tells of the one that it names. What was as bad before the update
is no reason against it, since the image before would not mend it; it stays what it is in the status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from claude_sandbox.api.status import Compliance, Result
from claude_sandbox.api.status_fields.image import ImageRolling


@dataclass(frozen=True)
class Measured:
    """Required controls of a workload that don't pass: those that fail, and those of which nothing is known."""

    failed: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()

    @classmethod
    def before(cls, rolling: ImageRolling) -> Self:
        """Of the workload of the image before."""
        return cls(frozenset(rolling.failed_before or ()), frozenset(rolling.unknown_before or ()))

    def newly_failed(self, before: "Measured") -> list[str]:
        """Those that fail, and did not before."""
        return sorted(self.failed - before.failed)

    def newly_unknown(self, before: "Measured") -> list[str]:
        """Those that are Unknown, and did not fail and were known before."""
        return sorted(self.unknown - before.unknown - before.failed)


def measured_of(status: Mapping[str, Any], uid: str | None) -> Measured | None:
    """What a sandbox's status says of the workload with this UID; None where that is nothing."""
    workload, told = status.get("workload"), status.get("compliance")
    if uid is None or not isinstance(workload, Mapping) or workload.get("uid") != uid or not told:
        return None
    try:
        controls = [one for one in Compliance.model_validate(told).controls if one.required]
    except ValidationError:
        return None
    failed, unknown = (
        frozenset(one.id for one in controls if one.result is result) for result in (Result.FAIL, Result.UNKNOWN)
    )
    return Measured(failed, unknown)
