"""From evidence to what the status says."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.spec import Level
from claude_sandbox.api.status import Compliance, EvidenceSource, Result
from claude_sandbox.compliance.catalogue import POD_CONTROLS
from claude_sandbox.compliance.containers.witness import weighed
from claude_sandbox.compliance.control import PROBES, Control, Evidence, PodCheck, Unmeasured
from claude_sandbox.compliance.controls.judges.ways_out import pod_egress
from claude_sandbox.compliance.controls.network import pod_default_deny, pod_ingress
from claude_sandbox.compliance.conventions import PLAIN_HANDLERS
from claude_sandbox.compliance.evidence.pod_processes import PodProcesses
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.pods.witness import PodKernelJudge, tells_all
from claude_sandbox.compliance.reports.findings import Finding, compliance, excepted
from claude_sandbox.compliance.reports.isolation import Judgement, proven
from claude_sandbox.compliance.verdict import Verdict, guarded, unknown

Basis = tuple[EvidenceSource, datetime]
"""Where a reading came from, and when."""

_NAMES = {
    Evidence.POD: "the pod",
    Evidence.NAMESPACE: "the namespace",
    Evidence.POLICIES: "the namespace's NetworkPolicies",
    Evidence.SERVICES: "the namespace's Services",
    Evidence.SLICES: "the EndpointSlices that name the pod",
    Evidence.SERVICE_ACCOUNT: "the ServiceAccount",
    Evidence.ACCESS: "the ServiceAccount's rights",
    Evidence.GRANTS: "the roles that reach the ServiceAccount",
    Evidence.RUNTIME_CLASS: "the RuntimeClass",
    Evidence.QUOTAS: "the namespace's quotas",
    Evidence.GATEWAY: "the namespace's gateway",
    Evidence.DRIFT: "the difference from what is declared",
    Evidence.PROBE: "what can be reached from it",
    Evidence.KERNEL_PROBE: "what the kernel lets it do",
}


def measure(evidence: KubernetesEvidence) -> tuple[Compliance, Judgement, Judgement]:
    """The results and the conditions `Compliant` and `IsolationVerified`, looking at the evidence only once."""
    view = View(evidence)
    found = _findings(view, POD_CONTROLS)
    reported = compliance(found, evidence.now)
    return reported, compliant(found, reported, evidence.expected.level), _isolation(view, found)


def findings(evidence: KubernetesEvidence, controls: Sequence[Control] = POD_CONTROLS) -> tuple[Finding, ...]:
    """The outcome of each of `controls`, whole: a status clips texts. Pure, and the same for the same evidence."""
    return _findings(View(evidence), controls)


def compliant(findings: Sequence[Finding], reported: Compliance, level: Level = Level.SANDBOX) -> Judgement:
    """The `Compliant` condition: one required control that fails makes it False, else one Unknown makes it Unknown.

    `level`: at which they are required; named unless it is the default, so that nobody takes less for more.
    """
    exceptions = [one for one in findings if one.exemption is not None]
    at = "" if level is Level.SANDBOX else f" (level {level.value})"
    required = [finding for finding in findings if finding.required]
    failing = [finding for finding in required if finding.result is Result.FAIL]
    if failing:
        return ConditionStatus.FALSE, Reason.CONTROLS_FAIL, _listed("Failing", failing)
    undecided = [finding for finding in required if finding.result is Result.UNKNOWN]
    if undecided or not required:
        return ConditionStatus.UNKNOWN, Reason.CONTROLS_UNKNOWN, _listed("Not verified", undecided)
    if exceptions:
        passing = f"{reported.summary.required} required controls pass{at}"
        return ConditionStatus.TRUE, Reason.CONTROLS_EXCEPTED, f"{passing}; excepted: {_by_whom(exceptions)}"
    return ConditionStatus.TRUE, Reason.ALL_CONTROLS_PASS, f"{reported.summary.required} required controls pass{at}"


def isolation(evidence: KubernetesEvidence) -> Judgement:
    """The `IsolationVerified` condition: True takes a probe beside policies that are right."""
    view = View(evidence)
    return _isolation(view, _findings(view, POD_CONTROLS))


def _findings(view: View, controls: Sequence[Control]) -> tuple[Finding, ...]:
    evidence = view.evidence
    unusable = {need: why for need in Evidence if (why := _unusable(evidence, need))}
    checks = [(control, control.pod) for control in controls if control.pod is not None]
    bases = {needs: _basis(evidence, needs) or (None, None) for needs in {_needs(check) for _, check in checks}}
    profile, level = evidence.expected.profile, evidence.expected.level
    kernel = _kernel(evidence)
    found = []
    for control, check in checks:
        verdict, basis = _verdict(check, view, unusable), bases[_needs(check)]
        if kernel is not None and check.kernel is not None:
            verdict, basis = _with_the_kernel(check, check.kernel, kernel, verdict, basis, view)
        remedy = check.remedy if verdict.result is Result.FAIL else ""
        tells = not any(need in PROBES and need in unusable for need in _needs(check))
        required = tells and not verdict.untried and profile in control.required_by(check, level)
        finding = Finding(control, verdict, required, remedy, *basis)
        found.append(excepted(finding, evidence.expected.exemptions, evidence.now.date()))
    return tuple(found)


def _kernel(evidence: KubernetesEvidence) -> Reading[PodProcesses] | Unread | None:
    """The second witness, unless what it said is too old, or a runtime other than runc and its kin may stand between it
    and the pod: there the processes on the node are the runtime's own."""
    kernel, runtime = evidence.kernel, evidence.runtime_class
    if isinstance(kernel, Reading) and evidence.now - kernel.observed_at > evidence.max_age:
        return None
    if kernel is None or isinstance(runtime, Unread):
        return None
    handler = runtime.value.get("handler") if isinstance(runtime.value, Mapping) else runtime.value
    return kernel if handler is None or handler in PLAIN_HANDLERS else None


def _with_the_kernel(
    check: PodCheck | Unmeasured,
    judge: PodKernelJudge,
    kernel: Reading[PodProcesses] | Unread,
    verdict: Verdict,
    basis: Basis | tuple[None, None],
    view: View,
) -> tuple[Verdict, Basis | tuple[None, None]]:
    """The verdict of both witnesses, and what it rests on."""
    if isinstance(kernel, Unread):
        return _doubted(verdict, kernel.reason), basis
    told = kernel.value
    try:
        said = judge(told, view)
    except Exception as error:  # noqa: BLE001 - what is raised depends on what was read
        return _doubted(verdict, mishap(error)), basis
    if said.result is not Result.FAIL and not tells_all(told):
        return _doubted(verdict, "there is too much in the pod to be looked at"), basis
    if said.result is Result.UNKNOWN:
        # Of what nothing else tells, why the kernel does not either.
        return said if isinstance(check, Unmeasured) else verdict, basis
    # It rests on both, and is as old as the older.
    at = kernel.observed_at if basis[1] is None else min(basis[1], kernel.observed_at)
    if isinstance(check, Unmeasured):
        return said, (kernel.source, at)
    return weighed(verdict, said, decides=check.kernel_decides, of="the pod's object"), (kernel.source, at)


def _doubted(verdict: Verdict, why: str) -> Verdict:
    """What is left of a verdict while the kernel's word can't be taken: what fails, fails."""
    if verdict.result is not Result.PASS:
        return verdict
    return unknown(f"the kernel's word on its processes can't be taken: {why}", verdict.value)


def _needs(check: PodCheck | Unmeasured) -> tuple[Evidence, ...]:
    return () if isinstance(check, Unmeasured) else check.needs


def _isolation(view: View, found: Sequence[Finding]) -> Judgement:
    for need in (Evidence.POLICIES, Evidence.POD):
        if why := _unusable(view.evidence, need):
            return ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, why
    verdicts = [
        (guarded(partial(judge, view)), reason)
        for judge, reason in (
            (pod_default_deny, Reason.POLICY_MISSING),
            (pod_egress, Reason.POLICY_WIDENED),
            (pod_ingress, Reason.POLICY_WIDENED),
        )
    ]
    for verdict, reason in verdicts:
        if verdict.result is Result.FAIL:
            return ConditionStatus.FALSE, reason, verdict.message
    for verdict, _ in verdicts:
        if verdict.result is Result.UNKNOWN:
            return ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, verdict.message
    documents = "The policies are in place and not widened"
    return proven(found, documents, under_way=view.evidence.probe_under_way)


def _unusable(evidence: KubernetesEvidence, need: Evidence) -> str:
    """Why a reading can't be used; empty if it can. Says nothing that changes while the cause is the same."""
    reading: Reading[Any] | Unread = getattr(evidence, need.value)
    if need in PROBES:
        return _unprobed(evidence, _NAMES[need])
    if isinstance(reading, Unread):
        return f"{_NAMES[need]} could not be read: {reading.reason}"
    if need is Evidence.POD and not _has_containers(reading.value):
        # Nothing can be said about containers that were left out.
        return "the pod was read without its containers"
    if evidence.now - reading.observed_at > evidence.max_age:
        return f"what is known of {_NAMES[need]} is older than {evidence.max_age.total_seconds():.0f} s"
    return ""


def _unprobed(evidence: KubernetesEvidence, what: str) -> str:
    read = evidence.probe
    if isinstance(read, Unread):
        return f"{what} was not tried: {read.reason}"
    if evidence.now - read.observed_at > evidence.probe_max_age:
        return f"{what} was tried more than {evidence.probe_max_age.total_seconds():.0f} s ago"
    return ""


def _has_containers(pod: Any) -> bool:
    spec = pod.get("spec") if isinstance(pod, Mapping) else None
    return isinstance(spec, Mapping) and bool(spec.get("containers"))


def _basis(evidence: KubernetesEvidence, needs: tuple[Evidence, ...]) -> Basis | None:
    """What a result rests on: named by the first reading that a control needs, as old as the oldest of them."""
    readings = [getattr(evidence, need.value) for need in needs]
    if not readings or any(isinstance(reading, Unread) for reading in readings):
        return None
    return readings[0].source, min(reading.observed_at for reading in readings)


def _verdict(check: PodCheck | Unmeasured, view: View, unusable: dict[Evidence, str]) -> Verdict:
    if isinstance(check, Unmeasured):
        return unknown(f"not measured; it would take {check.how}")
    for need in check.needs:
        if need in unusable:
            return unknown(unusable[need])
    judge = check.judge
    return guarded(lambda: judge(view))


def _by_whom(findings: Sequence[Finding]) -> str:
    told = ((one.control.id, one.exemption) for one in findings if one.exemption is not None)
    return ", ".join(f"{control} (until {by.expires}, {by.owner})" for control, by in told)


def _listed(what: str, findings: Sequence[Finding]) -> str:
    return f"{what}: " + "; ".join(f"{one.control.id} {one.control.title}: {one.verdict.message}" for one in findings)
