"""One page for each control, for people: what it means, why, how it is measured, is seen to fail, and is mended."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.compliance.catalogue import CONTROLS, FAMILIES, Family
from claude_sandbox.compliance.control import (
    PROBES,
    ContainerCheck,
    Control,
    Evidence,
    HostCheck,
    Level,
    PodCheck,
    Unmeasured,
)
from claude_sandbox.compliance.docker_hosts import controls as docker_hosts

ALL = (*CONTROLS, *docker_hosts.CONTROLS)
"""What has a page."""
_HOSTS = Family("Docker hosts")

LEVELS = {
    Level.BASELINE: "the baseline Pod Security Standard asks for it, or what it protects is as basic",
    Level.RESTRICTED: "the restricted Pod Security Standard asks for it",
    Level.SANDBOX: "a place for an agent needs it beyond that; the operator's default",
    Level.HARDENED: "hardening that has to be opted in to; reported at each level, required at this one",
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
    Evidence.PROBE: "connections that a twin of the pod tries, and at the same time others",
    Evidence.KERNEL_PROBE: "system calls that a twin of the pod tries",
}
_PROBED = {
    None: "`docker inspect`",
    EvidenceSource.NETWORK_PROBE: "connections that a container in its network tries",
    EvidenceSource.KERNEL_PROBE: "system calls that a container tries which is confined as it is",
}


_MARK = "<!-- Written by `python -m tests.conformance.mutations`. Change the catalogue or the tests, not this file. -->"


def file_of(control: Control) -> str:
    """The page's place, from the page of all controls."""
    return f"controls/{control.id}.md"


def family_of(control: Control) -> Family:
    """The family that its identifier names."""
    return FAMILIES.get(control.id.partition("-")[0], _HOSTS)


def to_markdown(control: Control, seen: Iterable[str]) -> str:
    """The page of a control. `seen`: lines of a list that say by which changes it is seen to fail."""
    return "\n".join(_lines(control, list(seen))) + "\n"


def _lines(control: Control, seen: list[str]) -> Iterator[str]:
    yield f"# {control.id} {control.title}\n\n{_MARK}\n"
    yield f"{control.severity.value} · {control.level.value} · {' · '.join(dict.fromkeys(_asked(control)))}\n"
    yield f"{control.meaning}\n"
    yield f"**Why:** {control.why}\n"
    yield f"**Level {control.level.value}:** {LEVELS[control.level]}."
    yield "\n## How it is measured\n"
    yield from _measured(control)
    yield "\nWhat could not be read, or is too old, makes it `Unknown`, and never `Pass`.\n"
    yield from _commands(control)
    yield "\n## How it is seen to fail\n"
    yield "Each of these changes is made in a test, one at a time ([what the words mean](../mutations.md)).\n"
    yield from seen or ["- Nothing shows it in this version."]
    yield "\n## How to mend it\n"
    yield from _mended(control)
    yield "\n## Who else asks for it\n"
    yield from _elsewhere(control)
    yield "\n[All controls](../controls.md)"


def _asked(control: Control) -> Iterator[str]:
    sides = {"on Kubernetes": control.pod, "on Docker": control.container, "": control.host}
    words = {name: required(control, check) for name, check in sides.items() if check is not None}
    for name, word in words.items():
        yield word if len(set(words.values())) == 1 else f"{word} {name}"


def _measured(control: Control) -> Iterator[str]:
    if control.host is not None:
        read = "`docker info`, `docker version` and `docker network inspect bridge`"
        yield f"- **Docker hosts:** from {read}.{_rule(control.host.judge)}"
        return
    yield from _of_pods(control.pod)
    yield from _of_containers(control.container)


def _of_pods(check: PodCheck | Unmeasured | None) -> Iterator[str]:
    match check:
        case PodCheck():
            read = ", ".join(_EVIDENCE[need] for need in (*check.needs, *check.weighs))
            yield f"- **Kubernetes:** from the {read}.{_rule(check.judge)}"
            if check.kernel is not None:
                yield (
                    "- **Kubernetes, second witness:** where an agent is on the node, what the node's kernel says"
                    f" of the pod's processes. {_WITNESS}"
                )
            if check.unseen:
                yield f"- **Can't be seen:** {check.unseen}"
        case Unmeasured(kernel=None):
            yield f"- **Kubernetes:** not in this version; it would take {check.how} (`{check.by.value}`)."
        case Unmeasured():
            yield (
                "- **Kubernetes:** only where an agent is on the node, by what the node's kernel says of the pod's"
                f" processes; elsewhere it would take {check.how}."
            )
        case None:
            yield "- **Kubernetes:** not asked of pods."


def _of_containers(check: ContainerCheck | Unmeasured | None) -> Iterator[str]:
    match check:
        case ContainerCheck():
            yield f"- **Docker:** from {_PROBED[check.probed]}.{_rule(check.judge)}"
            if check.kernel is not None:
                yield (
                    "- **Docker, second witness:** where the engine is on the operator's machine, what its `/proc` says"
                    f" of the container's first process. {_WITNESS}"
                )
        case Unmeasured():
            yield f"- **Docker:** not in this version; it would take {check.how} (`{check.by.value}`)."
        case None:
            yield "- **Docker:** not asked of containers."


_WITNESS = "Neither the sandbox nor the API can forge it, and the failure of either is one."


def _rule(judge: object) -> str:
    """What a judge demands, in its own words; one that is made of another has none."""
    told = (getattr(judge, "__doc__", None) or "").strip()
    return f" {' '.join(told.split())}" if told and "PodJudge" not in told else ""


def _commands(control: Control) -> Iterator[str]:
    """How somebody asks now."""
    yield "```console"
    if control.pod is not None:
        yield "$ claude-sandbox check pod NAMESPACE/NAME"
    if control.container is not None:
        yield "$ claude-sandbox check container NAME"
    if control.host is not None:
        yield "$ claude-sandbox check host"
    else:
        yield "$ claude-sandbox check sandbox NAMESPACE/NAME"
    yield "```"


def _mended(control: Control) -> Iterator[str]:
    for name, check in (("Kubernetes", control.pod), ("Docker", control.container), ("Docker hosts", control.host)):
        if check is not None and check.remedy:
            yield f"- **{name}:** {check.remedy}"


def _elsewhere(control: Control) -> Iterator[str]:
    found = False
    for (framework, version), mappings in groupby(control.mappings, key=lambda one: (one.framework, one.version)):
        edition = f" {version}" if version else ""
        yield f"- {framework}{edition}: {', '.join(f'`{mapping.id}`' for mapping in mappings)}"
        found = True
    family = family_of(control)
    risks = {"OWASP Agentic 2026": family.owasp_agentic, "OWASP Kubernetes 2025": family.owasp_kubernetes}
    for name, risk in risks.items():
        if risk:
            yield f"- {name}: `{risk}`"
            found = True
    if not found:
        yield "- Nobody that is known here."


def required(control: Control, check: PodCheck | ContainerCheck | HostCheck | Unmeasured | None) -> str:
    """Whether, and where, it has to pass, as a phrase."""
    profiles = control.required if check is None else control.required_by(check)
    if control.level is Level.HARDENED and not isinstance(check, Unmeasured):
        return "required at level Hardened"
    if not profiles:
        return "not required"
    if len(profiles) == len(Profile):
        return "required where a probe tells it" if _is_probed(check) else "required"
    return f"required in {', '.join(sorted(profile.value for profile in profiles))}"


def _is_probed(check: PodCheck | ContainerCheck | HostCheck | Unmeasured | None) -> bool:
    if isinstance(check, ContainerCheck):
        return check.probed is not None
    return isinstance(check, PodCheck) and not PROBES.isdisjoint(check.needs)
