"""The catalogue as a page for people."""

from collections.abc import Iterator
from itertools import groupby

from claude_sandbox.api.spec import Profile
from claude_sandbox.compliance.catalogue import CONTROLS, FAMILIES, Family
from claude_sandbox.compliance.control import ContainerCheck, Control, Evidence, HostCheck, Level, PodCheck, Unmeasured
from claude_sandbox.compliance.docker_hosts import controls as docker_hosts
from claude_sandbox.compliance.pods.pod_security import NEWEST_MINOR

FILE = "controls.md"

_LEVELS = {
    Level.BASELINE: "the baseline Pod Security Standard asks for it, or what it protects is as basic",
    Level.RESTRICTED: "the restricted Pod Security Standard asks for it",
    Level.SANDBOX: "a place for an agent needs it beyond that; the operator's default",
    Level.HARDENED: "hardening that has to be opted in to; reported, never required",
}

_EVIDENCE = {
    Evidence.POD: "Pod",
    Evidence.NAMESPACE: "Namespace",
    Evidence.POLICIES: "all NetworkPolicies of the namespace",
    Evidence.SERVICES: "all Services of the namespace",
    Evidence.SLICES: "all EndpointSlices that name the pod or its address",
    Evidence.SERVICE_ACCOUNT: "ServiceAccount",
    Evidence.ACCESS: "SubjectAccessReviews of the ServiceAccount",
    Evidence.GRANTS: "all Roles and ClusterRoles that are bound to the ServiceAccount or to one of its groups",
    Evidence.RUNTIME_CLASS: "RuntimeClass",
    Evidence.QUOTAS: "ResourceQuotas and LimitRanges of the namespace",
    Evidence.GATEWAY: (
        "of the namespace's gateway Deployment, Pods, Service, EndpointSlices, NetworkPolicies, PodDisruptionBudget,"
        " ServiceAccount, Role, RoleBinding, and what else is granted to it"
    ),
    Evidence.DRIFT: "comparison of the live objects with what is declared",
}

_INTRODUCTION = f"""\
# Controls

<!-- Written by `python -m claude_sandbox.compliance.generate`. Change the catalogue, not this file. -->

What is measured of each sandbox, from what runs now and not from what was asked for. The results are in
`status.compliance`, and the condition `Compliant` follows from them. `claude-sandbox check` measures any other pod or
Docker container by the same controls ([how](../check.md)).

| result | meaning |
|---|---|
| `Pass` | it was read, it is fresh, and it is as it should be |
| `Fail` | it was read, and it is not; the message says what, the remedy what to do |
| `Unknown` | it could not be read, or is too old, or can't be told from what is read: never taken for a pass |
| `NotApplicable` | there is nothing to judge |

`Compliant` is `True` only when every required control passes or does not apply, `False` when one fails, and `Unknown`
when none fails and one is `Unknown`. A control that is required only in Production is measured and reported in
Development too. Init, main and ephemeral containers are judged alike.

Controls that the Pod Security Standards define are decided as the API server's own admission decides them, in the
version of the API server (known up to 1.{NEWEST_MINOR}). Where a user namespace excuses a pod from a check (since
1.35), the control does not: the user namespace is a control of its own.

Levels:
"""


def to_markdown() -> str:
    """docs/reference/controls.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    for level, meaning in _LEVELS.items():
        yield f"- **{level.value}**: {meaning}."
    for family, controls in groupby(CONTROLS, key=_family):
        yield from _heading(FAMILIES[family])
        for control in controls:
            yield from _control(control)
    yield "\n## Docker hosts"
    yield (
        "\nOf each DockerHost, from what its engine says of itself; the results are in the DockerHost's own"
        " `status.compliance`."
    )
    for control in docker_hosts.CONTROLS:
        yield from _host_control(control)


def _family(control: Control) -> str:
    return control.id.partition("-")[0]


def _heading(family: Family) -> Iterator[str]:
    yield f"\n## {family.title}"
    risks = []
    if family.owasp_agentic:
        risks.append(f"OWASP Agentic 2026 `{family.owasp_agentic}`")
    if family.owasp_kubernetes:
        risks.append(f"OWASP Kubernetes 2025 `{family.owasp_kubernetes}`")
    if risks:
        yield f"\nAnswers to: {', '.join(risks)}."


def _control(control: Control) -> Iterator[str]:
    first = control.pod or control.container
    yield f"\n### {control.id} {control.title}"
    yield f"\n{control.severity.value} · {control.level.value} · {_required(control, first)}\n"
    if control.pod is not None:
        yield from _on_kubernetes(control.pod)
    if isinstance(control.container, ContainerCheck):
        yield from _on_docker(control, control.container)
    yield from _mappings(control)


def _host_control(control: Control) -> Iterator[str]:
    yield f"\n### {control.id} {control.title}"
    yield f"\n{control.severity.value} · {control.level.value} · {_required(control, control.host)}\n"
    yield "- Read from: `docker info`, `docker version` and `docker network inspect bridge`."
    if control.host is not None:
        yield f"- Remedy: {control.host.remedy}"
    yield from _mappings(control)


def _mappings(control: Control) -> Iterator[str]:
    for (framework, version), mappings in groupby(control.mappings, key=lambda one: (one.framework, one.version)):
        edition = f" {version}" if version else ""
        yield f"- {framework}{edition}: {', '.join(f'`{mapping.id}`' for mapping in mappings)}"


def _on_kubernetes(check: PodCheck | Unmeasured) -> Iterator[str]:
    if isinstance(check, Unmeasured):
        yield f"- Not measured in this version; it would take {check.how} (`{check.by.value}`)."
    else:
        yield f"- Read from: {', '.join(_EVIDENCE[need] for need in (*check.needs, *check.weighs))}."
        if check.unseen:
            yield f"- Can't be seen: {check.unseen}"
    yield f"- Remedy: {check.remedy}"


def _on_docker(control: Control, check: ContainerCheck) -> Iterator[str]:
    where, required = "Only on Docker", _required(control, check)
    differs = ""
    if control.pod is not None:
        where = "On Docker"
        differs = f" and {required}" if required != _required(control, control.pod) else ""
    kernel = " and, where the engine is on the same machine, from its `/proc`" if check.kernel else ""
    yield f"- {where}, read from `docker inspect`{kernel}{differs}. Remedy: {check.remedy}"


def _required(control: Control, check: PodCheck | ContainerCheck | HostCheck | Unmeasured | None) -> str:
    required = control.required if check is None else control.required_by(check)
    if not required:
        return "not required"
    if len(required) == len(Profile):
        return "required"
    return f"required in {', '.join(sorted(profile.value for profile in required))}"
