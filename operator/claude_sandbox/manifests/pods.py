"""A workload's pod, judged before it runs: by its template, and by what of its namespace is in the same files.

What is in the files may not be all that there will be. So a control that looks at policies or Services passes only if
nothing could undo that, and fails only if nothing could mend it: a NetworkPolicy that isolates a pod isolates it
whatever else there is, and one that allows too much allows it whatever else there is. All else is Unknown, unless the
files are said to be whole. What admission would add to a pod is not known: it is judged as it is written.
"""

from collections.abc import Sequence
from dataclasses import replace

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.catalogue import undeclared_pod_controls
from claude_sandbox.compliance.control import Control, Evidence, PodCheck, Unmeasured
from claude_sandbox.compliance.evidence.pods import Expected, KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Object, Unread
from claude_sandbox.compliance.pods import undeclared
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.compliance.verdict import Verdict, not_applicable, unknown
from claude_sandbox.kubernetes_api.resources import (
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from claude_sandbox.manifests.judged import AGELESS, Judged, Standard, unsourced
from claude_sandbox.manifests.kubernetes import Objects, Workload

_AMONG_OTHERS = {
    Evidence.POLICIES: "NetworkPolicies of the namespace that are not in these files",
    Evidence.SERVICES: "Services of the namespace that are not in these files",
}
_ABSENT = "it is not in these files"
_HOLDS_ANYWAY = ("NET-01",)
"""What passes whatever other policies there are: they only ever add to what is allowed."""
_DENY_ALL = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "another"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


def judge_workload(workload: Workload, objects: Objects, standard: Standard) -> Judged:
    """The outcome of each control of a pod that no ClaudeSandbox declares."""
    found, space = workload.found, workload.found.namespace
    services = objects.of(SERVICES, space)
    expected = undeclared.expected(
        workload.pod,
        (str(one["metadata"].get("name")) for one in services),
        standard.declared.profile,
        standard.declared.allowed_registries,
        standard.plain_images,
    )
    expected = replace(expected, level=standard.declared.level)
    evidence = evidence_of(workload.pod, expected, objects, standard)
    controls = undeclared_pod_controls(standard.declarations)
    at = (*found.document.at, *found.at, *workload.path)
    result = outcome(evidence, controls, standard)
    return Judged(found.target, found.document.file, found.document.line, result, at=at)


def evidence_of(
    pod: Object, expected: Expected, objects: Objects, standard: Standard, made: Sequence[Object] = ()
) -> KubernetesEvidence:
    """What the files tell of a pod. `made`: what the operator would make beside it."""
    spec, space = pod["spec"], str(pod["metadata"].get("namespace") or "")
    account = str(spec.get("serviceAccountName") or "default")
    ours = [one for one in made if one["kind"] == "ServiceAccount"]
    live_account = ours[0] if ours else objects.named(SERVICE_ACCOUNTS, account, space)
    runtime, namespace = spec.get("runtimeClassName"), objects.named(NAMESPACES, space)
    runtime_class = objects.named(RUNTIME_CLASSES, str(runtime)) if runtime else None
    quotas = (*objects.of(RESOURCE_QUOTAS, space), *objects.of(LIMIT_RANGES, space))

    def all_of(resource: Resource) -> tuple[Object, ...]:
        return (*objects.of(resource, space), *(one for one in made if one["kind"] == resource.kind))

    read = standard.read
    return KubernetesEvidence(
        expected=expected,
        pod=read(pod),
        namespace=Unread(_ABSENT) if namespace is None else read(namespace),
        policies=read(all_of(NETWORK_POLICIES)),
        services=read(all_of(SERVICES)),
        slices=read(()),
        service_account=Unread(_ABSENT) if live_account is None else read(live_account),
        access=Unread("only the API server tells what it may do"),
        grants=Unread("only the API server tells all of them"),
        runtime_class=Unread(_ABSENT) if runtime and runtime_class is None else read(runtime_class),
        quotas=read(quotas) if quotas or standard.whole else Unread("they are not in these files"),
        gateway=Unread("none runs yet") if expected.gateway is not None else read(None),
        drift=Unread("nothing of it runs yet"),
        plugin_policies=read(objects.plugin_policies),
        now=standard.now,
        max_age=AGELESS,
    )


def outcome(evidence: KubernetesEvidence, controls: Sequence[Control], standard: Standard) -> tuple[Finding, ...]:
    """The outcome of each of `controls`, and Unknown where something beyond the files could change it."""
    controls = tuple(map(_before_it_runs, controls))
    found = findings(evidence, controls)
    if standard.whole:
        return unsourced(found)
    policies = () if isinstance(evidence.policies, Unread) else evidence.policies.value
    mended = replace(evidence, policies=standard.read((*policies, _DENY_ALL)))
    doubtful = tuple(one for one in controls if _beyond(one))
    at_best = {one.control.id: one.result for one in findings(mended, doubtful)}
    return unsourced([_bounded(one, at_best.get(one.control.id)) for one in found])


def _bounded(finding: Finding, at_best: Result | None) -> Finding:
    control = finding.control
    if at_best is None or finding.result not in (Result.PASS, Result.FAIL):
        return finding
    certain = control.id in _HOLDS_ANYWAY if finding.result is Result.PASS else at_best is Result.FAIL
    if certain:
        return finding
    effect = "could allow more" if finding.result is Result.PASS else f"could mend that {finding.verdict.message}"
    verdict = unknown(f"{_beyond(control)} {effect} (--whole)", finding.verdict.value)
    return replace(finding, verdict=verdict, remedy="")


def _beyond(control: Control) -> str:
    """What beyond the files could change its outcome; empty where nothing."""
    if not isinstance(control.pod, PodCheck):
        return ""
    return next((what for need, what in _AMONG_OTHERS.items() if need in control.pod.needs), "")


def _before_it_runs(control: Control) -> Control:
    """Whether evidence is fresh, and what lives as it is declared, are questions about what runs."""
    if control.pod is None or isinstance(control.pod, Unmeasured):
        return control
    if Evidence.DRIFT in control.pod.needs or control.id == "OPS-04":
        return replace(control, pod=replace(control.pod, judge=_not_yet, needs=()))
    return control


def _not_yet(_view: View) -> Verdict:
    return not_applicable("nothing of it runs yet")
