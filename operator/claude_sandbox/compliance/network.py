"""NET: whom the sandbox can speak with."""

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat

from claude_sandbox.api.networks import WIDEST
from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.control import (
    Control,
    Evidence,
    Level,
    Verdict,
    failed,
    judged,
    listed,
    maps,
)
from claude_sandbox.compliance.pods.coverage import beyond, too_wide
from claude_sandbox.compliance.pods.evidence import Expected, Object
from claude_sandbox.compliance.pods.policies import Allow, Block, Granted, Pods, Ports, own_namespace
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.compliance.pods.selectors import Selector, matches
from claude_sandbox.compliance.pods.view import View

_RESOLVER = Pods(own_namespace("kube-system"), Selector.parse({"matchLabels": {"k8s-app": "kube-dns"}}))
"""The cluster's resolver, as kubeadm, kind, k3s and the managed offerings label it."""
SLICE_OF = "kubernetes.io/service-name"
"""The label of an EndpointSlice that names its Service."""
_NAMED = 10
"""Problems of a kind that a message names."""
_DNS = (Ports("UDP", 53, 53), Ports("TCP", 53, 53))


def default_deny(view: View) -> Verdict:
    """Some policy isolates the pod in each direction, so that all else is denied."""
    if view.spec.get("hostNetwork"):
        return failed("NetworkPolicies do not hold for a pod in its node's network")
    effective = view.network
    if effective.unjudged:
        return failed(effective.unjudged)
    return judged(
        f"no NetworkPolicy of the namespace restricts the sandbox's {direction}"
        for direction, granted in (("ingress", effective.ingress), ("egress", effective.egress))
        if granted is None
    )


def egress(view: View) -> Verdict:
    """All policies together allow the declared networks and the resolver, and those networks are narrow."""
    granted = view.network.egress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed("no NetworkPolicy restricts egress: everything can be connected to")
    problems = widened(beyond(granted, declared_egress(view.expected)), "egress to")
    if wide := too_wide(granted, WIDEST):
        problems.append(wide)
    return judged(problems, f"{len(granted)} allowed")


def ingress(view: View) -> Verdict:
    """All policies together allow the declared ports, to pods of the same namespace."""
    granted = view.network.ingress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed("no NetworkPolicy restricts ingress: everyone can connect")
    return judged(widened(beyond(granted, declared_ingress(view)), "ingress from"), f"{len(granted)} allowed")


def exposed(view: View) -> Verdict:
    """No Service of others leads to the pod, by selector or by endpoints; its own does not lead out of the cluster."""
    problems, seen = [], set()
    for service in view.services:
        spec = service.get("spec") or {}
        selector, name = spec.get("selector"), _name(service)
        if OUTSIZE in service:
            problems.append(f"the Service {name} is not judged: {service[OUTSIZE]}; delete it")
        if not selector or not matches({"matchLabels": selector}, view.labels):
            continue
        seen.add(name)
        if name not in view.expected.service_names:
            problems.append(f"the Service {name}, which is not the sandbox's own, leads to it")
        elif reason := _leads_out(spec):
            problems.append(f"the Service {name} {reason}")
    problems += _by_endpoints(view, seen)
    return judged(_first(sorted(problems)), ", ".join(sorted(seen)))


def _by_endpoints(view: View, seen: Collection[str]) -> Iterator[str]:
    """A Service without a selector leads to whatever its EndpointSlices name."""
    home = (view.pod.get("metadata") or {}).get("namespace")
    known = view.expected.service_names | set(seen)
    for one in view.slices:
        metadata = one.get("metadata") or {}
        service, namespace = (metadata.get("labels") or {}).get(SLICE_OF), metadata.get("namespace")
        if OUTSIZE in one:
            yield f"the EndpointSlice {_name(one)} is not judged: {one[OUTSIZE]}; delete it"
        elif service and not (namespace == home and service in known):
            where = service if namespace == home else f"{namespace}/{service}"
            yield f"the Service {where}, which is not the sandbox's own, leads to it by EndpointSlice {_name(one)}"


def declared_egress(expected: Expected) -> tuple[Allow, ...]:
    """What the sandbox may connect to."""
    return _declared_egress(expected.egress_cidrs, expected.egress_excepted, expected.egress_ports, expected.dns)


def declared_ingress(view: View) -> tuple[Allow, ...]:
    """Who may connect to the sandbox."""
    namespace = str((view.pod.get("metadata") or {}).get("namespace", ""))
    return _declared_ingress(namespace, view.expected.ports)


@lru_cache(maxsize=256)
def _declared_egress(
    cidrs: tuple[str, ...], excepted: tuple[tuple[str, ...], ...], ports: tuple[int, ...], dns: bool
) -> tuple[Allow, ...]:
    allowed = tuple(Ports("TCP", port, port) for port in ports)
    blocks = tuple(
        Allow(Block(cidr, parts), allowed) for cidr, parts in zip(cidrs, chain(excepted, repeat(())), strict=False)
    )
    return (*blocks, Allow(_RESOLVER, _DNS)) if dns else blocks


@lru_cache(maxsize=1024)
def _declared_ingress(namespace: str, ports: tuple[int, ...]) -> tuple[Allow, ...]:
    if not ports:
        return ()
    return (Allow(Pods(own_namespace(namespace), Selector()), tuple(Ports("TCP", port, port) for port in ports)),)


def widened(extra: Sequence[Granted], what: str) -> list[str]:
    """A text for each of them, or for the first ones and how many there are."""
    return _first([f"NetworkPolicy {one.policy} allows {what} {one.allow}" for one in extra[: _NAMED + 1]], len(extra))


def _first(texts: Sequence[str], count: int | None = None) -> list[str]:
    count = len(texts) if count is None else count
    return [*texts[:_NAMED], f"and {count - _NAMED} more"] if count > _NAMED else list(texts)


def _name(live: Object) -> str:
    return str((live.get("metadata") or {}).get("name"))


def _leads_out(spec: Object) -> str:
    if spec.get("type", "ClusterIP") not in ("ClusterIP", "ExternalName"):
        return f"is of type {spec['type']}"
    if spec.get("externalIPs"):
        return "has external addresses"
    return ""


_NETWORK_EVIDENCE = (Evidence.POLICIES, Evidence.POD)

CONTROLS = (
    Control(
        "NET-01",
        "Default deny in both directions",
        Severity.CRITICAL,
        Level.SANDBOX,
        "Let the operator's NetworkPolicy be: it selects the sandbox, with policyTypes Ingress and Egress.",
        default_deny,
        needs=_NETWORK_EVIDENCE,
        mappings=maps(
            kubescape=("C-0030", "C-0206", "C-0260"),
            trivy=("KSV-0038",),
        ),
    ),
    Control(
        "NET-02",
        "Egress only where declared, and narrow",
        Severity.HIGH,
        Level.SANDBOX,
        "Narrow spec.network.egress, and change the policies named so that they do not select sandboxes.",
        egress,
        needs=_NETWORK_EVIDENCE,
        mappings=maps(kubescape=("C-0301",)),
    ),
    listed(
        "NET-03",
        "Egress denial proven",
        Severity.HIGH,
        by=EvidenceSource.NETWORK_PROBE,
        how="connections from here and from a pod without a policy to one target",
        remedy="Use a network plug-in that enforces NetworkPolicy.",
        mappings=maps(kubescape=("C-0205",)),
    ),
    Control(
        "NET-10",
        "Not exposed by a Service",
        Severity.HIGH,
        Level.SANDBOX,
        "Delete or change the Service or EndpointSlice named, or make it a ClusterIP without external addresses.",
        exposed,
        needs=(Evidence.SERVICES, Evidence.SLICES, Evidence.POD),
        mappings=maps(kubescape=("C-0256",), trivy=("KSV-0108",)),
    ),
    Control(
        "NET-11",
        "Ingress only on declared ports",
        Severity.HIGH,
        Level.SANDBOX,
        "Declare the port in spec.network.ports, or change the policy named so that it does not select sandboxes.",
        ingress,
        needs=_NETWORK_EVIDENCE,
    ),
)
