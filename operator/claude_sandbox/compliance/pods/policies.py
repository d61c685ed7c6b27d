"""What NetworkPolicies allow a pod, all of them together: policies only ever add to what others allow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from claude_sandbox.compliance.pods.address_ranges import Range, merged, span, without
from claude_sandbox.compliance.pods.policy_size import name_of, selects, unjudged
from claude_sandbox.compliance.pods.selectors import NAMESPACE_NAME_LABEL, Requirement, Selector

Object = Mapping[str, Any]
Direction = Literal["ingress", "egress"]

PROTOCOLS = ("TCP", "UDP", "SCTP")
LAST_PORT = 65535

_SHOWN = 5
"""Exceptions and values that a text names; of more it says how many there are."""


@dataclass(frozen=True)
class Ports:
    """The ports `first` to `last` of a protocol; or, with a name, the port that each peer calls so."""

    protocol: str
    first: int = 0
    last: int = LAST_PORT
    name: str = ""

    def __str__(self) -> str:
        if self.name:
            return f"{self.protocol} {self.name}"
        if (self.first, self.last) == (0, LAST_PORT):
            return f"every {self.protocol} port"
        return f"{self.protocol} {self.first}" + ("" if self.first == self.last else f"-{self.last}")


@dataclass(frozen=True)
class AnyPeer:
    """Every pod of every namespace and every address."""

    def __str__(self) -> str:
        return "everyone"


@dataclass(frozen=True)
class IPBlock:
    """The addresses of a network but for some."""

    network: str
    excepted: tuple[str, ...] = ()

    @cached_property
    def span(self) -> Range:
        """The whole network, what is excepted included."""
        return span(self.network)

    @cached_property
    def addresses(self) -> tuple[Range, ...]:
        """What is left of it."""
        if not self.excepted:
            return (self.span,)
        return tuple(without([self.span], merged(map(span, self.excepted))))

    def __str__(self) -> str:
        return self.network + (f" except {_listed(self.excepted)}" if self.excepted else "")


@dataclass(frozen=True)
class PodPeer:
    """The selected pods of the selected namespaces."""

    namespaces: Selector
    pods: Selector

    def __str__(self) -> str:
        return f"{_describe(self.pods, 'pods')} in {_describe(self.namespaces, 'namespaces')}"


Peer = AnyPeer | IPBlock | PodPeer


@dataclass(frozen=True)
class Allow:
    """That a peer may be spoken with on some ports; `ports` is None for all of them and every protocol.

    No port at all, where a rule names one that the pod does not have, allows nothing.
    """

    peer: Peer
    ports: tuple[Ports, ...] | None

    def __str__(self) -> str:
        return f"{self.peer} on {'every port' if self.ports is None else _listed(self.ports)}"


@dataclass(frozen=True)
class Granted:
    """Something that a NetworkPolicy allows."""

    policy: str
    allow: Allow


@dataclass(frozen=True)
class Union:
    """What all policies together allow a pod. None for a direction in which no policy isolates it: anything."""

    ingress: tuple[Granted, ...] | None
    egress: tuple[Granted, ...] | None
    unjudged: str = ""
    """Why it was not worked out, and what to do: the policies are too large. Then both directions are empty."""


def union(policies: Iterable[Object], pod: Object) -> Union:
    """What `policies`, all those of the pod's namespace, allow `pod`; both as the API server answers them."""
    metadata = pod.get("metadata") or {}
    labels = metadata.get("labels") or {}
    found = tuple(policies)
    if why := unjudged(found, labels):
        return Union((), (), why)
    selecting = sorted((policy for policy in found if selects(policy, labels)), key=name_of)
    return Union(
        ingress=_granted(selecting, "ingress", pod),
        egress=_granted(selecting, "egress", pod),
    )


def own_namespace(name: str) -> Selector:
    """Selects the namespace `name`."""
    return Selector(frozenset({Requirement(NAMESPACE_NAME_LABEL, "In", frozenset({name}))}))


def _granted(policies: Sequence[Object], direction: Direction, pod: Object) -> tuple[Granted, ...] | None:
    isolating = [policy for policy in policies if _isolates(policy["spec"], direction)]
    if not isolating:
        return None
    namespace = str((pod.get("metadata") or {}).get("namespace", ""))
    field = "from" if direction == "ingress" else "to"
    return tuple(
        Granted(name_of(policy), Allow(peer, ports))
        for policy in isolating
        for rule in policy["spec"].get(direction) or ()
        for ports in (_ports(rule.get("ports"), direction, pod),)
        for peer in _peers(rule.get(field), namespace)
    )


def _isolates(spec: Object, direction: Direction) -> bool:
    types = spec.get("policyTypes")
    if types:
        return direction.capitalize() in types
    # What the API server would have filled in: Ingress always, Egress where there is a rule for it.
    return direction == "ingress" or bool(spec.get("egress"))


def _peers(peers: Sequence[Object] | None, namespace: str) -> Iterator[Peer]:
    if not peers:
        yield AnyPeer()
    for peer in peers or ():
        if block := peer.get("ipBlock"):
            yield _block(block)
            continue
        namespaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
        if namespaces is None and pods is None:
            # The API server refuses it; whoever gets to see it must not take it for nothing.
            yield AnyPeer()
            continue
        yield PodPeer(
            own_namespace(namespace) if namespaces is None else Selector.parse(namespaces),
            Selector.parse(pods or {}),
        )


def _ports(ports: Sequence[Object] | None, direction: Direction, pod: Object) -> tuple[Ports, ...] | None:
    if not ports:
        return None
    return tuple(one for port in ports for one in _resolved(port, direction, pod))


def _resolved(port: Object, direction: Direction, pod: Object) -> Iterator[Ports]:
    protocol, number = port.get("protocol") or "TCP", port.get("port")
    if number is None:
        yield Ports(protocol)
    elif isinstance(number, int):
        yield Ports(protocol, number, port.get("endPort") or number)
    elif direction == "egress":
        yield Ports(protocol, name=number)
    else:
        for container in pod["spec"].get("containers") or ():
            for declared in container.get("ports") or ():
                if declared.get("name") == number and (declared.get("protocol") or "TCP") == protocol:
                    yield Ports(protocol, declared["containerPort"], declared["containerPort"])


def _block(block: Object) -> Peer:
    """What can't be read as a network must not be taken for nothing, nor its exception for one."""
    try:
        found = IPBlock(block["cidr"], tuple(one for one in block.get("except") or () if _is_network(one)))
        _ = found.span
    except (ValueError, AttributeError, KeyError):
        return AnyPeer()
    return found


def _is_network(text: str) -> bool:
    try:
        span(text)
    except (ValueError, AttributeError):
        return False
    return True


def _listed(texts: Sequence[Any]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(map(str, texts[:_SHOWN])) + more


def _describe(selector: Selector, what: str) -> str:
    if not selector.requirements:
        return f"all {what}"
    return f"{what} with " + _listed(sorted(_describe_one(one) for one in selector.requirements))


def _describe_one(requirement: Requirement) -> str:
    values = sorted(requirement.values)
    match requirement.operator:
        case "In" if len(values) == 1:
            return f"{requirement.key}={values[0]}"
        case "Exists":
            return requirement.key
        case "DoesNotExist":
            return f"!{requirement.key}"
        case operator:
            return f"{requirement.key} {operator.lower()} ({_listed(values)})"
