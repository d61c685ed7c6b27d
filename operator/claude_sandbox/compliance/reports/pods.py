"""From evidence to what the status says."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Compliance, EvidenceSource, Result
from claude_sandbox.compliance.catalogue import POD_CONTROLS
from claude_sandbox.compliance.control import Control, Evidence, PodCheck, Unmeasured
from claude_sandbox.compliance.controls.network import pod_default_deny, pod_ingress
from claude_sandbox.compliance.controls.ways_out import pod_egress
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.reports.findings import Finding, compliance
from claude_sandbox.compliance.verdict import Verdict, guarded, unknown

Judgement = tuple[ConditionStatus, Reason, str]
"""A condition's status, reason and message."""

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
}


def measure(evidence: KubernetesEvidence) -> tuple[Compliance, Judgement, Judgement]:
    """The results and the conditions `Compliant` and `IsolationVerified`, looking at the evidence only once."""
    view = View(evidence)
    found = _findings(view, POD_CONTROLS)
    reported = compliance(found, evidence.now)
    return reported, compliant(found, reported), _isolation(view)


def findings(evidence: KubernetesEvidence, controls: Sequence[Control] = POD_CONTROLS) -> tuple[Finding, ...]:
    """The outcome of each of `controls`, whole: a status clips texts. Pure, and the same for the same evidence."""
    return _findings(View(evidence), controls)


def compliant(findings: Sequence[Finding], reported: Compliance) -> Judgement:
    """The `Compliant` condition: one required control that fails makes it False, else one Unknown makes it Unknown."""
    required = [finding for finding in findings if finding.required]
    failing = [finding for finding in required if finding.result is Result.FAIL]
    if failing:
        return ConditionStatus.FALSE, Reason.CONTROLS_FAIL, _listed("Failing", failing)
    undecided = [finding for finding in required if finding.result is Result.UNKNOWN]
    if undecided or not required:
        return ConditionStatus.UNKNOWN, Reason.CONTROLS_UNKNOWN, _listed("Not verified", undecided)
    return ConditionStatus.TRUE, Reason.ALL_CONTROLS_PASS, f"{reported.summary.required} required controls pass"


def isolation(evidence: KubernetesEvidence) -> Judgement:
    """The `IsolationVerified` condition, as far as policies alone can tell: never True, that takes a probe."""
    return _isolation(View(evidence))


def _findings(view: View, controls: Sequence[Control]) -> tuple[Finding, ...]:
    evidence = view.evidence
    unusable = {need: why for need in Evidence if (why := _unusable(evidence, need))}
    checks = [(control, control.pod) for control in controls if control.pod is not None]
    bases = {needs: _basis(evidence, needs) or (None, None) for needs in {_needs(check) for _, check in checks}}
    profile = evidence.expected.profile
    found = []
    for control, check in checks:
        verdict = _verdict(check, view, unusable)
        remedy = check.remedy if verdict.result is Result.FAIL else ""
        found.append(Finding(control, verdict, profile in control.required_by(check), remedy, *bases[_needs(check)]))
    return tuple(found)


def _needs(check: PodCheck | Unmeasured) -> tuple[Evidence, ...]:
    return () if isinstance(check, Unmeasured) else check.needs


def _isolation(view: View) -> Judgement:
    for need in (Evidence.POLICIES, Evidence.POD):
        if why := _unusable(view.evidence, need):
            return ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, why
    for judge, reason in (
        (pod_default_deny, Reason.POLICY_MISSING),
        (pod_egress, Reason.POLICY_WIDENED),
        (pod_ingress, Reason.POLICY_WIDENED),
    ):
        verdict = guarded(partial(judge, view))
        if verdict.result is Result.FAIL:
            return ConditionStatus.FALSE, reason, verdict.message
        if verdict.result is Result.UNKNOWN:
            return ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, verdict.message
    return (
        ConditionStatus.UNKNOWN,
        Reason.NOT_PROBED,
        "policies are in place and not widened; that the network enforces them has not been probed",
    )


def _unusable(evidence: KubernetesEvidence, need: Evidence) -> str:
    """Why a reading can't be used; empty if it can. Says nothing that changes while the cause is the same."""
    reading: Reading[Any] | Unread = getattr(evidence, need.value)
    if isinstance(reading, Unread):
        return f"{_NAMES[need]} could not be read: {reading.reason}"
    if need is Evidence.POD and not _has_containers(reading.value):
        # Nothing can be said about containers that were left out.
        return "the pod was read without its containers"
    if evidence.now - reading.observed_at > evidence.max_age:
        return f"what is known of {_NAMES[need]} is older than {evidence.max_age.total_seconds():.0f} s"
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


def _listed(what: str, findings: Sequence[Finding]) -> str:
    return f"{what}: " + "; ".join(f"{one.control.id} {one.control.title}: {one.verdict.message}" for one in findings)
