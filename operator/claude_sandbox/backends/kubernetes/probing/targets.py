"""What is tried from a sandbox's place in the cluster's network, and what that place is. Pure."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import orjson

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.gateway.objects import BROKER_PORT, HEALTH_PORT
from claude_sandbox.backends.kubernetes.objects import known_endpoint
from claude_sandbox.backends.kubernetes.probing.pod import networks_of
from claude_sandbox.backends.probing.wanted import METADATA, METADATA_NAMES, Named, Wanted
from claude_sandbox.blueprint.model import Blueprint
from claude_sandbox.compliance.evidence.probes import Expected, Subject
from claude_sandbox.kubernetes_api.unstructured import Object, labels, terminating

KUBELET = 10250
RESOLVED = "kubernetes.default.svc.cluster.local"
"""What a resolver is asked for. Whether it has it is no matter: an answer is an answer."""
MOST = 32
"""Targets: what came of each has to fit into a termination message."""

_MOST_PERMITTED = 2
Address = tuple[str, int]


@dataclass(frozen=True)
class Place:
    """A sandbox's place in the network: whatever changes in it, an earlier probe says nothing of it any more."""

    pod: str
    address: str
    node: str
    labels: tuple[tuple[str, str], ...]
    networks: tuple[str, ...]
    policies: tuple[tuple[str, str, int], ...]
    """Name, UID and generation of those that may select it."""
    plugins: tuple[tuple[str, str], ...] = ()
    """UID and rules, in short, of those of network plugins that may select it."""
    gateway: str = ""
    """The address that it knows its gateway by."""


@dataclass(frozen=True)
class ClusterAddresses:
    """Where the cluster's own services are, as far as the operator may find out."""

    api_server: tuple[Address, ...] = ()
    """The first is the one that the operator itself uses."""
    resolver: str = ""


def place_of(pod: Object | None, policies: Iterable[Object], plugins: Iterable[Object] = ()) -> Place | None:
    """None of a pod that does not run, or is on its way out. `plugins`: policies of network plugins."""
    if pod is None or terminating(pod):
        return None
    status, node = pod.get("status") or {}, str((pod.get("spec") or {}).get("nodeName") or "")
    address = str(status.get("podIP") or "")
    if status.get("phase") != "Running" or not address or not node:
        return None
    known = known_endpoint(pod)
    return Place(
        pod=str(pod["metadata"]["uid"]),
        address=address,
        node=node,
        labels=tuple(sorted(labels(pod).items())),
        networks=networks_of(pod),
        policies=tuple(sorted(map(_version, policies))),
        plugins=tuple(sorted(map(_rules, plugins))),
        gateway=known.address if known is not None else "",
    )


def targets(
    blueprint: Blueprint,
    pod: Object,
    place: Place,
    cluster: ClusterAddresses,
    *,
    gateways: Sequence[Object] = (),
    others: Iterable[Object] = (),
    named: Iterable[Named] = (),
) -> tuple[Wanted, ...]:
    """`gateways`: pods of the namespace's gateway. `others`: pods of other sandboxes. `named`: what administrators
    name, which no sandbox may reach."""
    wanted: list[Wanted] = []
    if place.gateway:
        wanted.append(Wanted("its gateway", place.gateway, BROKER_PORT, Expected.ALLOWED))
    wanted += [*_resolver(blueprint, cluster), *_permitted(blueprint)]
    denied = [*_api_server(cluster), *_of_node(pod), *_gateways(gateways), *_beside(place, gateways), *_others(others)]
    denied += [one.wanted() for one in named]
    denied += [_denied_if_there(f"the metadata service at {one}", one, 80, Subject.METADATA) for one in METADATA]
    denied += _by_name(blueprint, cluster)
    # The API server's Service and what is behind it are one: who may reach one reaches the other.
    skipped = {one.name.partition(" at ")[0] for one in denied if _declared(blueprint, one)}
    wanted += [one for one in denied if one.name.partition(" at ")[0] not in skipped]
    return tuple(wanted[:MOST])


def _resolver(blueprint: Blueprint, cluster: ClusterAddresses) -> Iterator[Wanted]:
    if not cluster.resolver:
        return
    expected = Expected.ALLOWED if blueprint.network.dns else Expected.DENIED_IF_THERE
    for name, protocol in (("UDP", "dns-udp"), ("TCP", "dns-tcp")):
        yield Wanted(
            f"the cluster's resolver over {name}",
            cluster.resolver,
            53,
            expected,
            protocol,
            elsewhere=not blueprint.network.dns,
            query=RESOLVED,
            by_node=not blueprint.network.dns,
        )
    if blueprint.network.dns:
        yield _denied_if_there("the cluster's resolver over TLS", cluster.resolver, 853)


def _by_name(blueprint: Blueprint, cluster: ClusterAddresses) -> Iterator[Wanted]:
    """Metadata services by what the cluster's resolver says of their names, of who may ask it."""
    for name in METADATA_NAMES if blueprint.network.dns and cluster.resolver else ():
        yield Wanted(
            f"the metadata service called {name}",
            cluster.resolver,
            80,
            Expected.DENIED_IF_THERE,
            "named",
            elsewhere=True,
            query=name,
            by_node=True,
            subject=Subject.METADATA,
        )


def _permitted(blueprint: Blueprint) -> Iterator[Wanted]:
    """What is declared and is one address: of a network nobody can tell who of it answers. Tried from the sandbox's
    place alone, since a tenant chooses it."""
    network = blueprint.network
    single = [ip_network(block.cidr) for block in network.egress if ip_network(block.cidr).num_addresses == 1]
    for one in single[:_MOST_PERMITTED]:
        for port in network.egress_ports[:1]:
            host = str(one.network_address)
            yield Wanted(f"{host}, port {port}, which is declared", host, port, Expected.PERMITTED)


def _api_server(cluster: ClusterAddresses) -> Iterator[Wanted]:
    for number, (host, port) in enumerate(cluster.api_server):
        expected = Expected.DENIED_IF_THERE if number else Expected.DENIED
        name = f"the API server at {_written(host, port)}"
        yield Wanted(name, host, port, expected, elsewhere=True, by_node=True, subject=Subject.CLUSTER)


def _of_node(pod: Object) -> Iterator[Wanted]:
    status = pod.get("status") or {}
    hosts = [str(one.get("ip")) for one in status.get("hostIPs") or ()] or [str(status.get("hostIP") or "")]
    for host in filter(None, hosts):
        yield _denied_if_there(f"the kubelet at {host}", host, KUBELET, Subject.CLUSTER)


def _gateways(pods: Iterable[Object]) -> Iterator[Wanted]:
    for pod in pods:
        if address := _address(pod):
            name = f"the page of its gateway at {address}"
            yield Wanted(name, address, HEALTH_PORT, Expected.DENIED_IF_THERE, answers=_is_ready(pod) or None)
            # One stands for all: they are of one Deployment.
            return


def _beside(place: Place, pods: Iterable[Object]) -> Iterator[Wanted]:
    """The same page of one on the sandbox's node, by its link-local address: policies speak of the addresses that
    Kubernetes knows, and where pods share a bridge this is another. Of IPv4 alone, since it is found by ARP."""
    for pod in pods:
        address, node = _address(pod), (pod.get("spec") or {}).get("nodeName")
        if node == place.node and address and ":" not in address:
            yield Wanted(
                f"the page of its gateway at {address}, by its link-local address",
                address,
                HEALTH_PORT,
                Expected.DENIED_IF_THERE,
                "link-local",
                answers=_is_ready(pod) or None,
            )
            return


def _is_ready(pod: Object) -> bool:
    """Whether the kubelet, which no policy keeps from its own pods, is answered at the gateway's page: that is what it
    asks for each few seconds."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _denied_if_there(name: str, host: str, port: int, subject: Subject = Subject.OTHER) -> Wanted:
    return Wanted(name, host, port, Expected.DENIED_IF_THERE, elsewhere=True, by_node=True, subject=subject)


def _others(pods: Iterable[Object]) -> Iterator[Wanted]:
    """Another sandbox, at a port that it declares. What it does not declare, nobody can tell to answer."""
    for pod in pods:
        ports = [
            one.get("containerPort")
            for container in (pod.get("spec") or {}).get("containers") or ()
            for one in container.get("ports") or ()
        ]
        if ports and (address := _address(pod)):
            yield Wanted("another sandbox", address, int(ports[0]), Expected.DENIED_IF_THERE, elsewhere=True)
            return


def _address(pod: Object) -> str:
    status = pod.get("status") or {}
    return str(status.get("podIP") or "") if status.get("phase") == "Running" else ""


def _declared(blueprint: Blueprint, one: Wanted) -> bool:
    """Whether the sandbox declares that it connects there."""
    network = blueprint.network
    if one.protocol != "tcp" or one.port not in network.egress_ports:
        return False
    return any(_within(one.host, (block.cidr,)) and not _within(one.host, block.excepted) for block in network.egress)


def _within(host: str, networks: Sequence[str]) -> bool:
    address = ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in ip_network(one) for one in networks)


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _version(policy: Object) -> tuple[str, str, int]:
    metadata = policy["metadata"]
    return str(metadata["name"]), str(metadata["uid"]), int(metadata.get("generation") or 0)


def _rules(policy: Object) -> tuple[str, str]:
    """Not by its generation: an extension API server need not count."""
    said = orjson.dumps([policy.get("spec"), policy.get("specs")], option=orjson.OPT_SORT_KEYS)
    return str(policy["metadata"].get("uid", "")), hashlib.sha256(said).hexdigest()


def is_other(pod: Object, identity_uid: str) -> bool:
    """Whether a pod with a sandbox's labels is of another sandbox."""
    return labels(pod).get(meta.LABEL_SANDBOX_UID) != identity_uid
