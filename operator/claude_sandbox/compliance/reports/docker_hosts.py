"""From a host's evidence to what its controls found."""

from claude_sandbox.api.status import Compliance, Result
from claude_sandbox.compliance.control import HostJudge
from claude_sandbox.compliance.docker_hosts.controls import CONTROLS
from claude_sandbox.compliance.docker_hosts.host import Host
from claude_sandbox.compliance.evidence.docker_hosts import HostEvidence
from claude_sandbox.compliance.evidence.readings import Unread
from claude_sandbox.compliance.reports.findings import Finding, compliance
from claude_sandbox.compliance.verdict import Verdict, guarded, unknown


def findings(evidence: HostEvidence) -> tuple[Finding, ...]:
    """The outcome of every control, in the catalogue's order. Pure, and the same for the same evidence."""
    host, reading = _host(evidence), evidence.engine
    source, observed_at = (None, None) if isinstance(reading, Unread) else (reading.source, reading.observed_at)
    return tuple(
        Finding(
            control=control,
            verdict=verdict,
            required=bool(control.required),
            remedy=check.remedy if verdict.result is Result.FAIL else "",
            source=source,
            observed_at=observed_at,
        )
        for control in CONTROLS
        if (check := control.host) is not None
        for verdict in (_judged(check.judge, host),)
    )


def evaluate(evidence: HostEvidence) -> Compliance:
    """The same as a status says it."""
    return compliance(findings(evidence), evidence.now)


def _host(evidence: HostEvidence) -> Host | str:
    """The host, or why nothing can be said about it."""
    reading = evidence.engine
    if isinstance(reading, Unread):
        return f"the engine could not be read: {reading.reason}"
    if evidence.now - reading.observed_at > evidence.max_age:
        return f"what is known of the engine is older than {evidence.max_age.total_seconds():.0f} s"
    return Host(evidence, reading.value)


def _judged(judge: HostJudge, host: Host | str) -> Verdict:
    return unknown(host) if isinstance(host, str) else guarded(lambda: judge(host))
