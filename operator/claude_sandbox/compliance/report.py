"""From evidence to what the status says."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Compliance, ControlStatus, EvidenceSource, EvidenceStatus, Result
from claude_sandbox.compliance.catalogue import CONTROLS
from claude_sandbox.compliance.control import Control, Evidence, Verdict, unknown
from claude_sandbox.compliance.evidence import KubernetesEvidence, Reading, Unread
from claude_sandbox.compliance.findings import Finding, summary
from claude_sandbox.compliance.network import default_deny, egress, ingress
from claude_sandbox.compliance.view import View

Judgement = tuple[ConditionStatus, Reason, str]
"""A condition's status, reason and message."""

Basis = tuple[EvidenceSource, datetime]
"""Where a reading came from, and when."""

_NEEDS = frozenset(control.needs for control in CONTROLS)
_NAMES = {
    Evidence.POD: "the pod",
    Evidence.NAMESPACE: "the namespace",
    Evidence.POLICIES: "the namespace's NetworkPolicies",
    Evidence.SERVICES: "the namespace's Services",
    Evidence.SERVICE_ACCOUNT: "the ServiceAccount",
    Evidence.ACCESS: "the ServiceAccount's rights",
    Evidence.RUNTIME_CLASS: "the RuntimeClass",
    Evidence.QUOTAS: "the namespace's quotas",
    Evidence.DRIFT: "the difference from what is declared",
}


def measure(evidence: KubernetesEvidence) -> tuple[Compliance, Judgement, Judgement]:
    """The results and the conditions `Compliant` and `IsolationVerified`, looking at the evidence only once."""
    view = View(evidence)
    compliance = _evaluate(view)
    return compliance, compliant(compliance), _isolation(view)


def evaluate(evidence: KubernetesEvidence) -> Compliance:
    """The result of every control, in the catalogue's order. Pure, and the same for the same evidence."""
    return _evaluate(View(evidence))


def findings(evidence: KubernetesEvidence, controls: Sequence[Control] = CONTROLS) -> tuple[Finding, ...]:
    """The outcome of each of `controls`, whole: a status clips texts."""
    view = View(evidence)
    unusable = {need: why for need in Evidence if (why := _unusable(evidence, need))}
    return tuple(_finding(control, _verdict(control, view, unusable), evidence) for control in controls)


def compliant(compliance: Compliance) -> Judgement:
    """The `Compliant` condition: one required control that fails makes it False, else one Unknown makes it Unknown."""
    required = [control for control in compliance.controls if control.required]
    failing = [control for control in required if control.result is Result.FAIL]
    if failing:
        return ConditionStatus.FALSE, Reason.CONTROLS_FAIL, _listed("Failing", failing)
    undecided = [control for control in required if control.result is Result.UNKNOWN]
    if undecided or not required:
        return ConditionStatus.UNKNOWN, Reason.CONTROLS_UNKNOWN, _listed("Not verified", undecided)
    return ConditionStatus.TRUE, Reason.ALL_CONTROLS_PASS, f"{compliance.summary.required} required controls pass"


def isolation(evidence: KubernetesEvidence) -> Judgement:
    """The `IsolationVerified` condition, as far as policies alone can tell: never True, that takes a probe."""
    return _isolation(View(evidence))


def _evaluate(view: View) -> Compliance:
    evidence = view.evidence
    unusable = {need: why for need in Evidence if (why := _unusable(evidence, need))}
    bases = {needs: _basis(evidence, needs) for needs in _NEEDS}
    seen: dict[tuple[Basis, str], EvidenceStatus] = {}
    controls = []
    for control in CONTROLS:
        verdict = _verdict(control, view, unusable)
        basis = bases[control.needs]
        if basis and (basis, verdict.value) not in seen:
            source, observed_at = basis
            seen[basis, verdict.value] = EvidenceStatus(source=source, observed_at=observed_at, value=verdict.value)
        shown = seen[basis, verdict.value] if basis else None
        controls.append(_status(control, verdict, shown, evidence.expected.profile in control.required))
    return Compliance(summary=summary(controls), evaluated_at=evidence.now, controls=controls)


def _isolation(view: View) -> Judgement:
    for need in (Evidence.POLICIES, Evidence.POD):
        if why := _unusable(view.evidence, need):
            return ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, why
    for judge, reason in (
        (default_deny, Reason.POLICY_MISSING),
        (egress, Reason.POLICY_WIDENED),
        (ingress, Reason.POLICY_WIDENED),
    ):
        verdict = judge(view)
        if verdict.result is Result.FAIL:
            return ConditionStatus.FALSE, reason, verdict.message
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
    if need is Evidence.POD and not (reading.value.get("spec") or {}).get("containers"):
        # Nothing can be said about containers that were left out.
        return "the pod was read without its containers"
    if evidence.now - reading.observed_at > evidence.max_age:
        return f"what is known of {_NAMES[need]} is older than {evidence.max_age.total_seconds():.0f} s"
    return ""


def _basis(evidence: KubernetesEvidence, needs: tuple[Evidence, ...]) -> Basis | None:
    """What a result rests on: named by the first reading that a control needs, as old as the oldest of them."""
    readings = [getattr(evidence, need.value) for need in needs]
    if not readings or any(isinstance(reading, Unread) for reading in readings):
        return None
    return readings[0].source, min(reading.observed_at for reading in readings)


def _finding(control: Control, verdict: Verdict, evidence: KubernetesEvidence) -> Finding:
    source, observed_at = _basis(evidence, control.needs) or (None, None)
    return Finding(
        control=control,
        verdict=verdict,
        required=evidence.expected.profile in control.required,
        remedy=control.remedy if verdict.result is Result.FAIL else "",
        source=source,
        observed_at=observed_at,
    )


def _status(control: Control, verdict: Verdict, evidence: EvidenceStatus | None, required: bool) -> ControlStatus:
    # Most say nothing, fifty times for each look at each sandbox: what can't be too long needs no validation.
    make = ControlStatus if verdict.message else ControlStatus.model_construct
    return make(
        id=control.id,
        title=control.title,
        result=verdict.result,
        severity=control.severity,
        required=required,
        evidence=evidence,
        message=verdict.message,
        remedy=control.remedy if verdict.result is Result.FAIL else "",
    )


def _verdict(control: Control, view: View, unusable: dict[Evidence, str]) -> Verdict:
    if control.judge is None:
        return unknown(f"not measured; it would take {control.unproven}")
    for need in control.needs:
        if need in unusable:
            return unknown(unusable[need])
    return control.judge(view)


def _listed(what: str, controls: list[ControlStatus]) -> str:
    details = "; ".join(f"{control.id} {control.title}: {control.message}" for control in controls)
    return f"{what}: {details}"
