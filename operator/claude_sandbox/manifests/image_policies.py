"""What ClaudeImagePolicies among the files say of a ClaudeSandbox's image, as far as no registry has to be asked.

The policies are judged by the operator's own functions. What only a registry tells (what a tag stands for, who has
signed what) is Unknown, as is whether a policy is about a namespace whose labels are not in the files.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.references import joined, parse
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import Result
from claude_sandbox.blueprint.model import Image
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.compliance.verdict import Verdict, failed, passed, unknown
from claude_sandbox.controller.images.policies import NOT_ASKED, Demand, ImageRefusedError, Policy, judged, understood
from claude_sandbox.kubernetes_api.resources import NAMESPACES
from claude_sandbox.manifests.documents import Problem
from claude_sandbox.manifests.kubernetes import Found, Objects

CONTROL = "IMG-02"
_NAME_OF_NAMESPACE = "kubernetes.io/metadata.name"


def is_policy(found: Found) -> bool:
    """Whether it is one."""
    return found.kind == meta.IMAGE_POLICY_KIND and str(found.value.get("apiVersion", "")).startswith(f"{meta.GROUP}/")


def policies_of(objects: Objects) -> tuple[tuple[Policy, ...], tuple[Problem, ...]]:
    """The policies, and why some can't be understood. Such a one permits nothing, as it does in a cluster."""
    policies: list[Policy] = []
    problems: list[Problem] = []
    for found in filter(is_policy, objects.all):
        metadata = found.value.get("metadata")
        named = isinstance(metadata, Mapping) and isinstance(metadata.get("name"), str)
        policy = understood({**found.value, "metadata": {"name": found.name, "uid": ""}})
        policies.append(policy)
        if policy.wrong or not named:
            why = policy.wrong or "it has no metadata.name"
            problems.append(Problem(found.document.file, found.document.line, f"{found.kind} {found.name}: {why}"))
    return tuple(policies), tuple(problems)


def with_policies(
    findings: Iterable[Finding],
    policies: Iterable[Policy],
    sandbox: tuple[Found, ClaudeSandboxSpec],
    objects: Objects,
    operators: Image | None,
) -> tuple[Finding, ...]:
    """The findings with what the policies say. `operators`: the operator's image, where it is known."""
    found, spec = sandbox
    labels = _labels(found.namespace, objects)
    about = [one for one in policies if one.about(labels)]
    if not about:
        return tuple(findings)
    said = _of_image(about, spec, operators)
    if labels is None and said.result is Result.FAIL and _may_be_elsewhere(about):
        namespace = f"namespace {found.namespace}" if found.namespace else "its namespace"
        said = unknown(f"the labels of {namespace} are not in the files. Should the policy be about it: {said.message}")
    return tuple(_with(one, said) if one.control.id == CONTROL else one for one in findings)


def _of_image(policies: list[Policy], spec: ClaudeSandboxSpec, operators: Image | None) -> Verdict:
    try:
        if (own := _of_operators([one for one in policies if one.judges_operator], operators)) is not None:
            return own
        if spec.image is None:
            return passed("the operator's")
        named = parse(joined(spec.image.repository, spec.image.tag, spec.image.digest))
        if named is None:
            return unknown("its image has no repository")
        demand = judged(policies, named)
    except ImageRefusedError as error:
        return failed(str(error))
    if spec.follows_tag and demand.image.digest == named.digest and demand.registry is None:
        return failed(NOT_ASKED.format(registry=named.registry))
    return _left(demand) or passed(str(demand.image))


def _of_operators(judging: list[Policy], operators: Image | None) -> Verdict | None:
    """What keeps the operator's own image from being permitted; None where nothing does. Raises ImageRefusedError."""
    if not judging:
        return None
    named = None if operators is None else parse(operators.reference)
    if named is None:
        policy = f"ClaudeImagePolicy {judging[0].name}"
        return unknown(f"{policy} judges the operator's image, which is not known (--sandbox-image)")
    return _left(judged(judging, named))


def _left(demand: Demand) -> Verdict | None:
    """What only the registry tells."""
    if not demand.signers:
        return None
    first = demand.signers[0]
    wanted = f"an attestation {first.predicate}" if first.predicate else "a signature"
    policy = f"ClaudeImagePolicy {first.policy}"
    return unknown(f"{policy} asks for {wanted} of {demand.image}, of which only its registry tells")


def _with(finding: Finding, said: Verdict) -> Finding:
    """The worse of both counts; where the other has nothing to judge, what the policies say."""
    order = (Result.FAIL, Result.UNKNOWN, Result.PASS, Result.NOT_APPLICABLE)
    if order.index(finding.result) <= order.index(said.result):
        return finding
    remedy = finding.control.pod.remedy if said.result is Result.FAIL and finding.control.pod is not None else ""
    return replace(finding, verdict=said, remedy=remedy)


def _labels(namespace: str, objects: Objects) -> dict[str, str] | None:
    """Of a namespace; None where they are not known."""
    if not namespace or (found := objects.named(NAMESPACES, namespace)) is None:
        return None
    said: Any = found.get("metadata")
    labels = said.get("labels") if isinstance(said, Mapping) else None
    known = {str(name): str(value) for name, value in labels.items()} if isinstance(labels, Mapping) else {}
    return known | {_NAME_OF_NAMESPACE: namespace}


def _may_be_elsewhere(policies: Iterable[Policy]) -> bool:
    return any(one.spec is not None and one.spec.namespace_selector is not None for one in policies)
