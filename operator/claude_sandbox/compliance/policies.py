"""What NetworkPolicies allow a pod, all of them together: policies only ever add to what others allow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import pairwise
from typing import Any, Literal

from claude_sandbox.compliance.selectors import NAMESPACE_NAME_LABEL, Requirement, Selector, matches

Object = Mapping[str, Any]
Network = IPv4Network | IPv6Network
Direction = Literal["ingress", "egress"]

PROTOCOLS = ("TCP", "UDP", "SCTP")
_LAST_PORT = 65535


@dataclass(frozen=True)
class Ports:
    """The ports `first` to `last` of a protocol; or, with a name, the port that each peer calls so."""

    protocol: str
    first: int = 0
    last: int = _LAST_PORT
    name: str = ""

    def __str__(self) -> str:
        if self.name:
            return f"{self.protocol} {self.name}"
        if (self.first, self.last) == (0, _LAST_PORT):
            return f"every {self.protocol} port"
        return f"{self.protocol} {self.first}" + ("" if self.first == self.last else f"-{self.last}")


@dataclass(frozen=True)
class Everyone:
    """Every pod of every namespace and every address."""

    def __str__(self) -> str:
        return "everyone"


@dataclass(frozen=True)
class Block:
    """The addresses of a network but for some."""

    network: Network
    excepted: tuple[Network, ...] = ()

    def __str__(self) -> str:
        return str(self.network) + (f" except {', '.join(map(str, self.excepted))}" if self.excepted else "")


@dataclass(frozen=True)
class Pods:
    """The selected pods of the selected namespaces."""

    namespaces: Selector
    pods: Selector

    def __str__(self) -> str:
        return f"{_describe(self.pods, 'pods')} in {_describe(self.namespaces, 'namespaces')}"


Peer = Everyone | Block | Pods


@dataclass(frozen=True)
class Allow:
    """That a peer may be spoken with on some ports; `ports` is None for all of them and every protocol.

    No port at all, where a rule names one that the pod does not have, allows nothing.
    """

    peer: Peer
    ports: tuple[Ports, ...] | None

    def __str__(self) -> str:
        return f"{self.peer} on {'every port' if self.ports is None else ', '.join(map(str, self.ports))}"


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


def union(policies: Iterable[Object], pod: Object) -> Union:
    """What `policies`, all those of the pod's namespace, allow `pod`; both as the API server answers them."""
    metadata = pod.get("metadata") or {}
    labels = metadata.get("labels") or {}
    selecting = [policy for policy in policies if matches(policy["spec"].get("podSelector") or {}, labels)]
    selecting.sort(key=_name)
    return Union(
        ingress=_granted(selecting, "ingress", pod),
        egress=_granted(selecting, "egress", pod),
    )


def beyond(granted: Iterable[Granted], declared: Sequence[Allow]) -> tuple[Granted, ...]:
    """Those of `granted` that allow something that `declared`, all of it together, does not."""
    known = frozenset(declared)
    return tuple(one for one in granted if one.allow not in known and not _covered(one.allow, declared))


def too_wide(granted: Iterable[Granted], widest: tuple[int, int]) -> Network | None:
    """A network with a prefix shorter than `widest` (IPv4, IPv6) that is allowed, even in parts or with exceptions."""
    networks = [one.allow.peer.network for one in granted if isinstance(one.allow.peer, Block)]
    for version, prefix in zip((IPv4Network, IPv6Network), widest, strict=True):
        for network in collapse_addresses([one for one in networks if isinstance(one, version)]):  # type: ignore[type-var]
            if network.prefixlen < prefix:
                return network
    return None


def own_namespace(name: str) -> Selector:
    """Selects the namespace `name`."""
    return Selector(frozenset({Requirement(NAMESPACE_NAME_LABEL, "In", frozenset({name}))}))


@lru_cache(maxsize=4096)
def network(cidr: str) -> Network:
    """The network that `cidr` writes. As for the API server, 010 is ten, and bits beyond the prefix don't matter."""
    address, _, prefix = cidr.partition("/")
    if ":" not in address:
        address = ".".join(str(int(octet)) for octet in address.split("."))
    return ip_network(f"{address}/{prefix}", strict=False)


def _name(policy: Object) -> str:
    return str((policy.get("metadata") or {}).get("name", ""))


def _granted(policies: Sequence[Object], direction: Direction, pod: Object) -> tuple[Granted, ...] | None:
    isolating = [policy for policy in policies if _isolates(policy["spec"], direction)]
    if not isolating:
        return None
    namespace = str((pod.get("metadata") or {}).get("namespace", ""))
    field = "from" if direction == "ingress" else "to"
    return tuple(
        Granted(_name(policy), Allow(peer, ports))
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
        yield Everyone()
    for peer in peers or ():
        if block := peer.get("ipBlock"):
            yield Block(network(block["cidr"]), tuple(network(one) for one in block.get("except") or ()))
            continue
        namespaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
        if namespaces is None and pods is None:
            # The API server refuses it; whoever gets to see it must not take it for nothing.
            yield Everyone()
            continue
        yield Pods(
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


def _covered(allow: Allow, declared: Sequence[Allow]) -> bool:
    """Whether `declared` allows all that `allow` does, port by port where need be."""
    if allow.ports is None:
        return _peer_covered(allow.peer, [one.peer for one in declared if one.ports is None])
    return all(
        _peer_covered(allow.peer, [one.peer for one in declared if _includes(one.ports, part)])
        for ports in allow.ports
        for part in _parts(ports, declared)
    )


def _parts(ports: Ports, declared: Sequence[Allow]) -> Iterator[Ports]:
    """`ports`, cut where a declared range begins or ends, so that each part is wholly in a range or out of it."""
    if ports.name:
        yield ports
        return
    cuts = {ports.first, ports.last + 1}
    for allow in declared:
        for other in allow.ports or ():
            if other.protocol == ports.protocol and not other.name:
                cuts |= {cut for cut in (other.first, other.last + 1) if ports.first < cut <= ports.last}
    edges = sorted(cuts)
    for first, end in pairwise(edges):
        yield Ports(ports.protocol, first, end - 1)


def _includes(ports: tuple[Ports, ...] | None, part: Ports) -> bool:
    if ports is None:
        return True
    for one in ports:
        if one.protocol != part.protocol:
            continue
        if one.name == part.name and one.first <= part.first and part.last <= one.last:
            return True
        # Which number a name stands for is the peer's to say.
        if not one.name and (one.first, one.last) == (0, _LAST_PORT):
            return True
    return False


def _peer_covered(peer: Peer, declared: Sequence[Peer]) -> bool:
    if any(isinstance(one, Everyone) for one in declared):
        return True
    match peer:
        case Everyone():
            return False
        case Pods():
            return any(
                peer.namespaces.within(one.namespaces) and peer.pods.within(one.pods)
                for one in declared
                if isinstance(one, Pods)
            )
        case Block():
            left = _without([peer.network], peer.excepted)
            for one in declared:
                if isinstance(one, Block):
                    left = _without(left, _without([one.network], one.excepted))
            return not left


def _without(networks: Iterable[Network], taken: Iterable[Network]) -> list[Network]:
    left = list(networks)
    for one in taken:
        left = [rest for network in left for rest in _difference(network, one)]
    return left


def _difference(network: Network, taken: Network) -> Iterator[Network]:
    if network.version != taken.version or not network.overlaps(taken):
        yield network
    elif taken.prefixlen > network.prefixlen:
        yield from network.address_exclude(taken)  # type: ignore[arg-type]


def _describe(selector: Selector, what: str) -> str:
    if not selector.requirements:
        return f"all {what}"
    return f"{what} with " + ", ".join(sorted(_describe_one(one) for one in selector.requirements))


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
            return f"{requirement.key} {operator.lower()} ({', '.join(values)})"
