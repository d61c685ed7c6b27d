"""From a container's evidence to what its controls found."""

from dataclasses import replace
from typing import Any

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import Compliance, Result
from claude_sandbox.compliance.catalogue import CONTAINER_CONTROLS
from claude_sandbox.compliance.containers import witness
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.control import ContainerCheck, Control, Unmeasured
from claude_sandbox.compliance.evidence.containers import DockerEvidence, Journal, SettingsContent
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.findings import Finding, compliance, excepted
from claude_sandbox.compliance.verdict import Verdict, guarded, unknown


def findings(evidence: DockerEvidence) -> tuple[Finding, ...]:
    """The outcome of every control, in the catalogue's order. Pure, and the same for the same evidence."""
    container = _container(evidence)
    checks = ((control, control.container) for control in CONTAINER_CONTROLS)
    return tuple(_finding(control, check, container, evidence) for control, check in checks if check is not None)


def evaluate(evidence: DockerEvidence) -> Compliance:
    """The same as a status says it."""
    return compliance(findings(evidence), evidence.now)


def _finding(
    control: Control, check: ContainerCheck | Unmeasured, container: Container | str, evidence: DockerEvidence
) -> Finding:
    verdict = _verdict(check, container)
    read: Reading[Any] | None = None
    if isinstance(check, ContainerCheck) and isinstance(evidence.container, Reading):
        read = evidence.container
        if check.probed is not None:
            known = evidence.probe if isinstance(evidence.probe, Reading) else None
            read = replace(known, source=check.probed) if known is not None else None
        elif check.kernel is not None and isinstance(container, Container):
            verdict, read = _with_the_kernel(check, check.kernel, verdict, evidence.container, container, evidence)
    tells = not (isinstance(check, ContainerCheck) and check.probed) or not isinstance(_probe(evidence), str)
    finding = Finding(
        control=control,
        verdict=verdict,
        required=tells and evidence.declared.profile in control.required_by(check, evidence.declared.level),
        remedy=check.remedy if verdict.result is Result.FAIL else "",
        source=read.source if read else None,
        observed_at=read.observed_at if read else None,
    )
    return excepted(finding, evidence.declared.exemptions, evidence.now.date())


def _with_the_kernel(
    check: ContainerCheck,
    second: witness.Judge,
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
    # A witness that knows nothing changes nothing; one that can't be understood does, since a sandbox could bring that
    # about.
    if told.result is Result.UNKNOWN:
        return verdict, read
    # It rests on both, and is as old as the older.
    both = replace(process, observed_at=min(read.observed_at, process.observed_at))
    return witness.weighed(verdict, told, decides=check.kernel_decides), both


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
        gateway=evidence.gateway,
        visits=evidence.visits,
        settings=_settings(evidence),
        key_place=evidence.key_place,
        **({"journal": found} if (found := _journal(evidence)) is not None else {}),
        probe=_probe(evidence),
    )


def _journal(evidence: DockerEvidence) -> Journal | str | None:
    """What the host's journal keeps, or why that is not known; None where nobody asked for it."""
    read = evidence.journal
    if isinstance(read, Reading) and evidence.now - read.observed_at > evidence.max_age:
        return f"the journal was looked at more than {evidence.max_age.total_seconds():.0f} s ago"
    if isinstance(read, Unread):
        return read.reason
    return read.value if read is not None else None


def _probe(evidence: DockerEvidence) -> ProbeReport | str:
    """What a probe found, or why nothing is known of that, as the end of a sentence."""
    read = evidence.probe
    if isinstance(read, Unread):
        return f"was not tried: {read.reason}"
    if evidence.now - read.observed_at > evidence.probe_max_age:
        return f"was tried more than {evidence.probe_max_age.total_seconds():.0f} s ago"
    return read.value


def _process(evidence: DockerEvidence) -> Reading[Process] | Unread | None:
    """The second witness, unless what it said is too old."""
    process = evidence.process
    # Too old to refute or to settle anything: then the document alone is judged.
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


def _settings(evidence: DockerEvidence) -> SettingsContent | str:
    """The managed settings, or why they are not known."""
    read = evidence.settings
    if isinstance(read, Unread):
        return f"its managed settings could not be read: {read.reason}"
    if evidence.now - read.observed_at > evidence.max_age:
        return f"its managed settings were read more than {evidence.max_age.total_seconds():.0f} s ago"
    return read.value


def _verdict(check: ContainerCheck | Unmeasured, container: Container | str) -> Verdict:
    if isinstance(check, Unmeasured):
        return unknown(f"not measured; it would take {check.how}")
    judge = check.judge
    return unknown(container) if isinstance(container, str) else guarded(lambda: judge(container))
