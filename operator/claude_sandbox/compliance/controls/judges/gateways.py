"""NET-12: whether what a sandbox gets out by is hardened, as it should be, and nobody else's. The judges.

On Kubernetes a gateway serves all sandboxes of its namespace: what is found of it is found once for all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from claude_sandbox.api import meta
from claude_sandbox.compliance.containers.companions import loose
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.published_ports import bindings_of
from claude_sandbox.compliance.controls.judges.replicas import measured, unstarted
from claude_sandbox.compliance.evidence.gateways import MOST_REPLICAS, Gateway, Replica
from claude_sandbox.compliance.evidence.pods import SLICE_MANAGER
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.coverage import beyond
from claude_sandbox.compliance.pods.declared_policies import first_of, widened
from claude_sandbox.compliance.pods.policies import Allow, PodPeer, Ports, own_namespace, union
from claude_sandbox.compliance.pods.policy_size import MAX_ENTRIES, OUTSIZE, entries, name_of
from claude_sandbox.compliance.pods.selectors import Selector, matches
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, decided, judged, not_applicable, unknown

_REMEMBERED = 256
"""Gateways of which is known what was found."""
_SLICE_CONTROLLER = "endpointslice-controller.k8s.io"
"""Who looks after the EndpointSlices of Services with a selector, and puts them right (k8s.io/endpointslice)."""
_SANDBOXES = Selector.parse({"matchExpressions": [{"key": meta.LABEL_SANDBOX, "operator": "Exists"}]})


@dataclass(frozen=True)
class _Found:
    problems: tuple[str, ...]
    doubts: tuple[str, ...]
    value: str


def pod_gateway(view: View) -> Verdict:
    """The namespace's gateway as it runs: its pods, who may connect to it, what it may do, who stands for it."""
    if view.expected.gateway is None:
        return not_applicable("it holds its key itself, and has no gateway")
    gateway = view.gateway
    if gateway is None:
        return unknown("nothing is known of its namespace's gateway")
    found = _found_of(gateway)
    problems = [*_known_by(view, gateway), *found.problems]
    return decided(first_of(problems), first_of(found.doubts), found.value)


def container_gateway(container: Container) -> Verdict:
    """What a sandbox that holds no key gets out by is hardened, and the desired one."""
    gateway = container.gateway
    if container.declared.gateway is None:
        return not_applicable("nothing declares by what it is to get out; NET-08 tells whether it can by itself")
    if not container.declared.gateway:
        return not_applicable("it holds its key itself, and has no gateway")
    if gateway is None:
        return judged([], "none: nothing gets out")
    ports = sorted({port for port, _ in bindings_of(gateway.document)})
    published = [f"its gateway publishes {port}" for port in ports]
    differences = [f"its gateway is not the desired one: {path}" for path in gateway.differences]
    found = loose(gateway.document, "its gateway", gateway.volume)
    return judged([*published, *found, *differences], "hardened, and as desired")


@lru_cache(_REMEMBERED)
def _found_of(gateway: Gateway) -> _Found:
    meant = gateway.meant
    replicas = () if isinstance(gateway.replicas, str) else gateway.replicas
    looked_at = replicas[:MOST_REPLICAS]
    problems = [f"its gateway is not the desired one: {one}" for one in gateway.differences]
    if len(replicas) > MOST_REPLICAS:
        problems.append(f"more than {MOST_REPLICAS} pods have the labels of its gateway, which runs on two")
    doubts = list(_doubts(gateway))
    for one in looked_at:
        wrong, untold = measured(one, meant, gateway.minor)
        problems += wrong
        doubts += untold
    problems += _ingress(gateway, looked_at)
    problems += _leading(gateway)
    problems += _rights(gateway)
    running = sum(not one.differences and not unstarted(one.pod) for one in replicas)
    return _Found(tuple(problems), tuple(doubts), f"{running} pods, hardened and as desired")


def _doubts(gateway: Gateway) -> Iterator[str]:
    """What is not known, of all that would have to be known for it to pass."""
    yield from gateway.doubts
    told = {
        "its pods": gateway.replicas,
        "the NetworkPolicies that may select its pods": gateway.policies,
        "the Services that may lead to its pods": gateway.services,
        "the EndpointSlices of its Service": gateway.slices,
        "the roles that reach its ServiceAccount": gateway.grants,
    }
    yield from (f"{what} could not be read: {why}" for what, why in told.items() if isinstance(why, str))


def _known_by(view: View, gateway: Gateway) -> Iterator[str]:
    """Whether what the sandbox takes for its gateway is this one."""
    spec = (gateway.objects.get("Service") or {}).get("spec") or {}
    addresses = {*(spec.get("clusterIPs") or ()), spec.get("clusterIP")}
    for alias in view.spec.get("hostAliases") or ():
        if view.expected.gateway_host in (alias.get("hostnames") or ()) and alias.get("ip") not in addresses:
            yield f"the pod knows its gateway at {alias.get('ip')}, which is not the address of its Service"
    annotations = (view.pod.get("metadata") or {}).get("annotations") or {}
    told = annotations.get(meta.ANNOTATION_GATEWAY_AUTHORITY, "")
    if gateway.authority is not None and told != gateway.authority:
        yield "the pod believes another authority than the one that speaks for its gateway"


def _ingress(gateway: Gateway, replicas: Sequence[Replica]) -> Iterator[str]:
    """Only sandboxes of the namespace may connect, and to its other ports whom its own policy names."""
    if isinstance(gateway.policies, str):
        return
    # Twice what one pod's may be: while it is rolled out there are pods of two revisions.
    left, seen = 2 * MAX_ENTRIES, set()
    for one in replicas:
        labels = frozenset(((one.pod.get("metadata") or {}).get("labels") or {}).items())
        # Those of one revision have the same.
        if OUTSIZE in one.pod or labels in seen:
            continue
        seen.add(labels)
        size = entries(gateway.policies, one.pod, left)
        if size > left:
            yield f"the NetworkPolicies that select its pods have more than {MAX_ENTRIES} entries, and are not judged"
            return
        left -= size
        allowed = union(gateway.policies, one.pod)
        if allowed.unjudged:
            yield allowed.unjudged
        elif allowed.ingress is None:
            yield f"no NetworkPolicy restricts who connects to its pod {name_of(one.pod)}"
        else:
            yield from widened(beyond(allowed.ingress, _declared(gateway, one.pod)), "ingress to the gateway from")


def _declared(gateway: Gateway, pod: Object) -> tuple[Allow, ...]:
    meant = gateway.meant
    sandboxes = PodPeer(own_namespace(gateway.namespace), _SANDBOXES)
    own = Allow(sandboxes, tuple(Ports("TCP", port, port) for port in meant.ports))
    others = union((meant.policy,), pod).ingress or ()
    return (own, *(one.allow for one in others if not _concerns(one.allow, meant.ports)))


def _concerns(allow: Allow, numbers: Sequence[int]) -> bool:
    """Whether it allows connecting to one of these ports."""
    return allow.ports is None or any(one.first <= port <= one.last for one in allow.ports for port in numbers)


def _leading(gateway: Gateway) -> Iterator[str]:
    """Its Service leads to its pods and nowhere else, and nobody else's leads to them."""
    meant = gateway.meant
    for service in () if isinstance(gateway.services, str) else gateway.services:
        spec, name = service.get("spec") or {}, name_of(service)
        if OUTSIZE in service:
            yield f"the Service {name} is not judged: {service[OUTSIZE]}; delete it"
        elif name != meant.name and spec.get("selector") and matches({"matchLabels": spec["selector"]}, meant.labels):
            yield f"the Service {name}, which is not the gateway's own, leads to its pods"
    for one in () if isinstance(gateway.slices, str) else gateway.slices:
        labels = (one.get("metadata") or {}).get("labels") or {}
        if OUTSIZE in one:
            yield f"the EndpointSlice {name_of(one)} is not judged: {one[OUTSIZE]}; delete it"
        elif labels.get(SLICE_MANAGER) != _SLICE_CONTROLLER:
            yield f"the EndpointSlice {name_of(one)}, made by hand, says where the gateway's Service leads"


def _rights(gateway: Gateway) -> Iterator[str]:
    """Its account may read the Secrets that sandboxes of the namespace name, and has nothing from anybody else."""
    meant = gateway.meant
    for rule in (gateway.objects.get("Role") or {}).get("rules") or ():
        if not {"secrets", "*"} & set(rule.get("resources") or ()):
            continue
        names = rule.get("resourceNames") or ()
        if not names:
            yield "its Role reaches all Secrets of the namespace"
        elif more := sorted(set(map(str, names)) - meant.readable):
            yield f"its Role reaches Secrets that no sandbox names: {', '.join(first_of(more))}"
    for grant in () if isinstance(gateway.grants, str) else gateway.grants:
        if (grant.binding, grant.namespace) != (f"RoleBinding {meant.name}", gateway.namespace):
            yield f"its ServiceAccount may {grant}"
