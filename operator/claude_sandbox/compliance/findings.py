"""What controls found, whole; a status has room for a part of each text only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from claude_sandbox.api.status import Compliance, ControlStatus, EvidenceSource, EvidenceStatus, Result, Summary
from claude_sandbox.compliance.control import Control, Verdict


@dataclass(frozen=True)
class Finding:
    """One control's outcome for one workload, and what it rests on."""

    control: Control
    verdict: Verdict
    required: bool
    """Whether the workload counts as compliant only if this control passes or does not apply."""
    remedy: str
    """What to do about it, empty unless it fails."""
    source: EvidenceSource | None = None
    observed_at: datetime | None = None

    @property
    def result(self) -> Result:
        return self.verdict.result

    def status(self) -> ControlStatus:
        """As a status says it, its texts clipped."""
        evidence = None
        if self.source is not None and self.observed_at is not None:
            evidence = EvidenceStatus(source=self.source, observed_at=self.observed_at, value=self.verdict.value)
        return ControlStatus(
            id=self.control.id,
            title=self.control.title,
            result=self.result,
            severity=self.control.severity,
            required=self.required,
            evidence=evidence,
            message=self.verdict.message,
            remedy=self.remedy,
        )


def compliance(findings: Sequence[Finding], now: datetime) -> Compliance:
    """As a status says it."""
    return Compliance(summary=summary(findings), evaluated_at=now, controls=[finding.status() for finding in findings])


class Outcome(Protocol):
    """What a summary needs to know of a control's outcome."""

    @property
    def result(self) -> Result: ...

    @property
    def required(self) -> bool: ...


def summary(outcomes: Sequence[Outcome]) -> Summary:
    """How many have each result, and how many of those that count pass."""
    count = Counter(outcome.result for outcome in outcomes)
    # What does not apply asks for nothing.
    required = [one.result for one in outcomes if one.required and one.result is not Result.NOT_APPLICABLE]
    return Summary(
        pass_=count[Result.PASS],
        fail=count[Result.FAIL],
        unknown=count[Result.UNKNOWN],
        not_applicable=count[Result.NOT_APPLICABLE],
        required=f"{required.count(Result.PASS)}/{len(required)}",
    )
