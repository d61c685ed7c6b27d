"""What controls found, whole; a status has room for a part of each text only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from claude_sandbox.api.status import Compliance, ControlStatus, EvidenceSource, EvidenceStatus, Passed, Result, Summary
from claude_sandbox.compliance.control import Control
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.verdict import Verdict

# Evidence that is hardly older than the evaluation needs no time of its own: watches hear once a minute at least.
FRESH = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
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
    exemption: Exemption | None = None
    """By which it may be what it is. It is not required while that holds."""

    @property
    def result(self) -> Result:
        return self.verdict.result


def excepted(finding: Finding, exemptions: Sequence[Exemption], today: date) -> Finding:
    """The same, where one of `exemptions` holds for it; one that has expired is told, and counts for nothing."""
    if not exemptions or finding.result not in (Result.FAIL, Result.UNKNOWN):
        return finding
    those = [one for one in exemptions if one.control == finding.control.id]
    if not those:
        return finding
    # Of several the one that holds longest; each to the end of its last day.
    last = max(those, key=lambda one: one.expires)
    if today <= last.expires:
        return replace(finding, required=False, exemption=last)
    told = f"its exception by {last.owner} expired on {last.expires}: {finding.verdict.message}"
    return replace(finding, verdict=Verdict(finding.result, told, finding.verdict.value))


def compliance(findings: Sequence[Finding], now: datetime) -> Compliance:
    """As a status says it: whole, its texts clipped, what does not pass; by name what does."""
    passing: dict[EvidenceSource, list[Finding]] = {}
    others = []
    for finding in findings:
        if finding.result is Result.PASS and finding.source is not None:
            passing.setdefault(finding.source, []).append(finding)
        else:
            others.append(_status(finding, now))
    passed = [_passed(source, those, now) for source, those in passing.items()]
    return Compliance(summary=summary(findings), evaluated_at=now, passed=passed, controls=others)


def _passed(source: EvidenceSource, findings: Sequence[Finding], now: datetime) -> Passed:
    # Not a group for each time: what is watched ages at different speeds, and the status would change with that.
    oldest = min((one.observed_at for one in findings if one.observed_at is not None), default=None)
    return Passed(source=source, observed_at=_aged(oldest, now), controls=[one.control.id for one in findings])


def _status(finding: Finding, now: datetime) -> ControlStatus:
    evidence = None
    if finding.source is not None:
        observed_at = _aged(finding.observed_at, now)
        evidence = EvidenceStatus(source=finding.source, observed_at=observed_at, value=finding.verdict.value)
    return ControlStatus(
        id=finding.control.id,
        title=finding.control.title,
        result=finding.result,
        severity=finding.control.severity,
        required=finding.required,
        excepted_until=finding.exemption.expires.isoformat() if finding.exemption is not None else None,
        evidence=evidence,
        message=finding.verdict.message,
        remedy=finding.remedy,
    )


def _aged(observed_at: datetime | None, now: datetime) -> datetime | None:
    return None if observed_at is None or now - observed_at <= FRESH else observed_at


def summary(outcomes: Sequence[Finding]) -> Summary:
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
