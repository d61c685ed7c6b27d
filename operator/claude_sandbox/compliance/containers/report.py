"""From a container's evidence to what its controls found."""

from dataclasses import replace
from typing import Any

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import Compliance, Result
from claude_sandbox.compliance.containers import witness
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.evidence import DockerEvidence, SettingsRead
from claude_sandbox.compliance.containers.process import Process
from claude_sandbox.compliance.control import Verdict, guarded, unknown
from claude_sandbox.compliance.docker.catalogue import MEASURES
from claude_sandbox.compliance.docker.measure import Measure
from claude_sandbox.compliance.findings import Finding, compliance
from claude_sandbox.compliance.pods.evidence import Reading, Unread


def findings(evidence: DockerEvidence) -> tuple[Finding, ...]:
    """The outcome of every control, in the catalogue's order. Pure, and the same for the same evidence."""
    container = _container(evidence)
    return tuple(_finding(measure, container, evidence) for measure in MEASURES)


def evaluate(evidence: DockerEvidence) -> Compliance:
    """The same as a status says it."""
    return compliance(findings(evidence), evidence.now)


def _finding(measure: Measure, container: Container | str, evidence: DockerEvidence) -> Finding:
    verdict = _verdict(measure, container)
    read: Reading[Any] | None = None
    if measure.judge is not None and isinstance(evidence.container, Reading):
        read = evidence.container
    second = witness.JUDGES.get(measure.control.id)
    if second is not None and read is not None and isinstance(container, Container):
        verdict, read = _with_the_kernel(second, measure.control.id, verdict, read, container, evidence)
    return Finding(
        control=measure.control,
        verdict=verdict,
        required=evidence.declared.profile in measure.control.required,
        remedy=measure.remedy if verdict.result is Result.FAIL else "",
        source=read.source if read else None,
        observed_at=read.observed_at if read else None,
    )


def _with_the_kernel(
    second: witness.Judge,
    id: str,
    verdict: Verdict,
    read: Reading[Any],
    container: Container,
    evidence: DockerEvidence,
) -> tuple[Verdict, Reading[Any]]:
    """The verdict of both witnesses, and what it rests on."""
    process = _process(evidence)
    if process is None:
        return verdict, read
    try:
        if isinstance(process, Unread):
            return _doubted(verdict, process.reason), read
        told = second(process.value, container)
    except Exception as error:  # noqa: BLE001 - what is raised depends on what was read
        return _doubted(verdict, mishap(error)), read
    if told.result is Result.UNKNOWN:
        return verdict, read
    # It rests on both, and is as old as the older.
    both = replace(process, observed_at=min(read.observed_at, process.observed_at))
    return witness.weighed(id, verdict, told), both


def _doubted(verdict: Verdict, why: str) -> Verdict:
    """What is left of a verdict while the kernel's word can't be understood: what fails, fails."""
    if verdict.result is not Result.PASS:
        return verdict
    return unknown(f"the kernel's word on its first process can't be taken: {why}", verdict.value)


def _container(evidence: DockerEvidence) -> Container | str:
    """The container, or why nothing can be said about it."""
    reading = evidence.container
    if isinstance(reading, Unread):
        return f"the container could not be read: {reading.reason}"
    if evidence.now - reading.observed_at > evidence.max_age:
        return f"what is known of the container is older than {evidence.max_age.total_seconds():.0f} s"
    return Container(
        reading.value,
        evidence.declared,
        evidence.networks,
        evidence.volumes,
        drift=_drift(evidence),
        outdated=evidence.outdated,
        engine=evidence.engine,
        relay=evidence.relay,
        visits=evidence.visits,
        settings=_settings(evidence),
    )


def _process(evidence: DockerEvidence) -> Reading[Process] | Unread | None:
    """The second witness, unless what it said is too old."""
    process = evidence.process
    if isinstance(process, Reading) and evidence.now - process.observed_at > evidence.max_age:
        return None
    return process


def _drift(evidence: DockerEvidence) -> tuple[str, ...] | str | None:
    """In what it differs, or why that can't be said."""
    drift = evidence.drift
    if isinstance(drift, Unread):
        return drift.reason
    if drift is not None and evidence.now - drift.observed_at > evidence.max_age:
        return f"it was looked at more than {evidence.max_age.total_seconds():.0f} s ago"
    return None if drift is None else drift.value


def _settings(evidence: DockerEvidence) -> SettingsRead | str:
    """The managed settings, or why they are not known."""
    read = evidence.settings
    if isinstance(read, Unread):
        return f"its managed settings could not be read: {read.reason}"
    if evidence.now - read.observed_at > evidence.max_age:
        return f"its managed settings were read more than {evidence.max_age.total_seconds():.0f} s ago"
    return read.value


def _verdict(measure: Measure, container: Container | str) -> Verdict:
    if measure.judge is None:
        return unknown(f"not measured; it would take {measure.control.unproven}")
    judge = measure.judge
    return unknown(container) if isinstance(container, str) else guarded(lambda: judge(container))
