"""From a host's evidence to what its controls found."""

from claude_sandbox.api.status import Compliance, Result
from claude_sandbox.compliance.control import Verdict, guarded, unknown
from claude_sandbox.compliance.docker_hosts.controls import MEASURES
from claude_sandbox.compliance.docker_hosts.evidence import Host, HostEvidence
from claude_sandbox.compliance.docker_hosts.measure import Judge
from claude_sandbox.compliance.findings import Finding, compliance
from claude_sandbox.compliance.pods.evidence import Unread


def findings(evidence: HostEvidence) -> tuple[Finding, ...]:
    """The outcome of every control, in the catalogue's order. Pure, and the same for the same evidence."""
    host, reading = _host(evidence), evidence.engine
    source, observed_at = (None, None) if isinstance(reading, Unread) else (reading.source, reading.observed_at)
    return tuple(
        Finding(
            control=measure.control,
            verdict=verdict,
            required=measure.required,
            remedy=measure.control.remedy if verdict.result is Result.FAIL else "",
            source=source,
            observed_at=observed_at,
        )
        for measure in MEASURES
        for verdict in (_judged(measure.judge, host),)
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


def _judged(judge: Judge, host: Host | str) -> Verdict:
    return unknown(host) if isinstance(host, str) else guarded(lambda: judge(host))
