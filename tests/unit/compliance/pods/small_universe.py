"""All traffic of a small universe, and NetworkPolicy decided on it word by word, by trying every policy and rule."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

OWN = "agents"
POD: dict[str, Any] = {
    "metadata": {"name": "sandbox", "namespace": OWN, "labels": {"sandbox": "alice", "tier": "x"}},
    "spec": {
        "containers": [
            {"name": "agent", "ports": [{"name": "web", "containerPort": 8080}]},
            {"name": "other", "ports": [{"name": "web", "containerPort": 53, "protocol": "UDP"}]},
        ]
    },
}

# One address in each part into which these networks cut each other.
NETWORKS = (
    *("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "10.1.2.0/24"),
    *("::/0", "2001:db8::/32", "2001:db8:1::/48"),
)
_ADDRESSES = (
    *("192.0.2.1", "10.0.0.1", "10.128.0.1", "10.1.0.1", "10.1.2.1"),
    *("2001:db9::1", "2001:db8::1", "2001:db8:1::1"),
)

# At, beside and between the numbers that the generated rules use.
PORTS = (53, 80, 443, 8080, 8090)
_NUMBERS = (1, 53, 54, 80, 81, 443, 444, 8080, 8085, 8090, 8091)

NAMESPACES = {
    OWN: {"team": "t"},
    "kube-system": {},
    "one": {"team": "t"},
    "two": {"team": "u"},
    "three": {},
}
POD_LABELS = {"k8s-app": (None, "kube-dns", "other"), "tier": (None, "x", "y")}


@dataclass(frozen=True)
class Endpoint:
    """A pod, or an address that is no pod's."""

    address: str = ""
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    named_port: int = 0
    """What this pod calls `dns`, by UDP."""


@dataclass(frozen=True)
class Traffic:
    """Between the pod and an endpoint. ICMP has no ports; it stands for all protocols that rules can't name."""

    endpoint: Endpoint
    protocol: str
    port: int


def endpoints() -> Iterator[Endpoint]:
    for address in _ADDRESSES:
        yield Endpoint(address=address)
    for namespace, app, tier in itertools.product(NAMESPACES, *POD_LABELS.values()):
        labels = tuple((key, value) for key, value in zip(POD_LABELS, (app, tier), strict=True) if value)
        for named in (53, 54):
            yield Endpoint(namespace=namespace, labels=labels, named_port=named)


TRAFFIC = tuple(
    Traffic(endpoint, protocol, port)
    for endpoint in endpoints()
    for protocol, port in (
        *itertools.product(("TCP", "UDP", "SCTP"), _NUMBERS),
        ("ICMP", 0),
    )
)


def allowed(policies: list[dict[str, Any]], direction: str, traffic: Traffic) -> bool:
    """Whether the policies let the traffic pass: what isolates nothing, or any rule of any policy."""
    applying = [policy["spec"] for policy in policies if _applies(policy["spec"], direction)]
    if not applying:
        return True
    return any(_matches(rule, direction, traffic) for spec in applying for rule in spec.get(direction, []))


def labels_of(endpoint: Endpoint) -> dict[str, str]:
    return dict(endpoint.labels)


def namespace_labels(name: str) -> dict[str, str]:
    return {"kubernetes.io/metadata.name": name, **NAMESPACES[name]}


def _applies(spec: dict[str, Any], direction: str) -> bool:
    types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    if direction == "ingress" and "Ingress" not in types:
        return False
    if direction == "egress" and "Egress" not in types:
        return False
    return _selects(spec["podSelector"], POD["metadata"]["labels"])


def _matches(rule: dict[str, Any], direction: str, traffic: Traffic) -> bool:
    peers = rule.get("from" if direction == "ingress" else "to")
    if peers and not any(_is_peer(peer, traffic.endpoint) for peer in peers):
        return False
    ports = rule.get("ports")
    return not ports or any(_is_port(port, direction, traffic) for port in ports)


def _is_peer(peer: dict[str, Any], endpoint: Endpoint) -> bool:
    if "ipBlock" in peer:
        if not endpoint.address:
            return False
        address = ip_address(endpoint.address)
        if address not in ip_network(peer["ipBlock"]["cidr"]):
            return False
        return not any(address in ip_network(one) for one in peer["ipBlock"].get("except", []))
    if endpoint.address:
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], namespace_labels(endpoint.namespace)):
            return False
    elif endpoint.namespace != OWN:
        return False
    return "podSelector" not in peer or _selects(peer["podSelector"], labels_of(endpoint))


def _is_port(port: dict[str, Any], direction: str, traffic: Traffic) -> bool:
    if traffic.protocol != port.get("protocol", "TCP"):
        return False
    number = port.get("port")
    if number is None:
        return True
    if isinstance(number, int):
        return number <= traffic.port <= port.get("endPort", number)
    if direction == "ingress":
        return any(
            one.get("name") == number
            and one.get("protocol", "TCP") == traffic.protocol
            and one["containerPort"] == traffic.port
            for container in POD["spec"]["containers"]
            for one in container["ports"]
        )
    return (number, traffic.protocol, traffic.port) == ("dns", "UDP", traffic.endpoint.named_port)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for one in selector.get("matchExpressions", []):
        key, values = one["key"], one.get("values", [])
        if one["operator"] == "In" and labels.get(key) not in values:
            return False
        if one["operator"] == "NotIn" and labels.get(key) in values:
            return False
        if one["operator"] == "Exists" and key not in labels:
            return False
        if one["operator"] == "DoesNotExist" and key in labels:
            return False
    return True
