"""NetworkPolicies are enforced on the node: each denial with a control that shows that the target can be reached."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from nodekit import Kubectl, eventually, namespace, pod

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = pytest.mark.node

LOCKED, OPEN = "node-locked", "node-open"
PORT = 8000
SERVE = ("python3", "-m", "http.server", str(PORT), "--bind", "::", "--directory", "/tmp")


def _policy(name: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": LOCKED}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


DENY = _policy("deny", podSelector={}, policyTypes=["Ingress", "Egress"])
RESOLVER = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
DNS = _policy(
    "dns",
    podSelector={},
    policyTypes=["Egress"],
    egress=[
        {"to": [RESOLVER], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
        # An address of a family that this cluster doesn't have must not spoil the rest.
        {"to": [{"ipBlock": {"cidr": "2607:6bc0::/48"}}, {"ipBlock": {"cidr": "160.79.104.0/23"}}]},
    ],
)


@pytest.fixture(scope="module")
def targets(kubectl: Kubectl, node: Cluster, sandbox_image: ImageArchive) -> dict[str, tuple[str, int]]:
    """Two agents, one in a namespace that denies everything, one in an open one; and what they try to reach."""
    image = sandbox_image.pinned
    kubectl.apply(namespace(LOCKED), namespace(OPEN), DENY)
    kubectl.apply(
        pod(LOCKED, "agent", image),
        pod(LOCKED, "server", image, args=SERVE),
        pod(OPEN, "agent", image),
        pod(OPEN, "server", image, args=SERVE),
    )
    kubectl.ready(LOCKED, "agent", "server")
    kubectl.ready(OPEN, "agent", "server")

    def address(where: str) -> str:
        return kubectl("get", "pod", "-n", where, "server", "-o", "jsonpath={.status.podIP}").stdout

    api = urlsplit(node.server)
    assert api.hostname is not None
    assert api.port is not None
    node_ip = kubectl("get", "node", "-o", "jsonpath={.items[0].status.addresses[0].address}").stdout
    return {
        "a pod of another namespace": (address(OPEN), PORT),
        "the API server": (api.hostname, api.port),
        "the API server's Service": ("10.96.0.1", 443),
        "the kubelet": (node_ip, 10250),
        "the resolver, over TCP": ("10.96.0.10", 53),
        "locked": (address(LOCKED), PORT),
    }


OUTSIDE = (
    "a pod of another namespace",
    "the API server",
    "the API server's Service",
    "the kubelet",
    "the resolver, over TCP",
)


@pytest.mark.parametrize("target", OUTSIDE)
def test_default_deny_stops_what_an_unselected_pod_can_reach(
    kubectl: Kubectl, targets: dict[str, tuple[str, int]], target: str
) -> None:
    host, port = targets[target]
    eventually("the control reaches it", lambda: kubectl.connects(OPEN, "agent", host, port))
    eventually("the locked agent is denied", lambda: not kubectl.connects(LOCKED, "agent", host, port))


def test_default_deny_stops_connections_from_elsewhere(kubectl: Kubectl, targets: dict[str, tuple[str, int]]) -> None:
    """The control is the same server behind no policy: pods reach each other where nothing forbids it."""
    host, port = targets["locked"]
    assert kubectl.run(
        LOCKED, "server", "python3", "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))"
    )
    assert kubectl.connects(OPEN, "agent", *targets["a pod of another namespace"])
    eventually("nobody reaches the locked server", lambda: not kubectl.connects(OPEN, "agent", host, port))


def test_pods_do_not_reach_each_other_by_addresses_that_policies_do_not_speak_of(
    kubectl: Kubectl, targets: dict[str, tuple[str, int]]
) -> None:
    """The policy engine knows the addresses that Kubernetes knows. By these others nothing gets from pod to pod."""
    near = kubectl.link_local(OPEN, "server")
    assert kubectl.connects(OPEN, "server", near, PORT), "nobody listens there"
    for where in (LOCKED, OPEN):
        assert not kubectl.connects(where, "agent", near, PORT), where


def test_names_resolve_where_only_the_resolver_is_allowed_and_nothing_else_opens(
    kubectl: Kubectl, targets: dict[str, tuple[str, int]]
) -> None:
    name = "kubernetes.default.svc.cluster.local"
    assert kubectl.resolves(OPEN, "agent", name)
    eventually("without the rule nothing resolves", lambda: not kubectl.resolves(LOCKED, "agent", name))
    kubectl.apply(DNS)
    try:
        eventually("with the rule names resolve", lambda: kubectl.resolves(LOCKED, "agent", name))
        assert not kubectl.connects(LOCKED, "agent", *targets["the API server's Service"])
        assert not kubectl.connects(LOCKED, "agent", *targets["a pod of another namespace"])
    finally:
        kubectl("delete", "networkpolicy", "-n", LOCKED, "dns")
    eventually("the rule's end is the names' end", lambda: not kubectl.resolves(LOCKED, "agent", name))


def test_a_network_on_the_machine_can_be_allowed_by_address(
    kubectl: Kubectl, targets: dict[str, tuple[str, int]]
) -> None:
    host, port = targets["the API server"]
    eventually("it is denied", lambda: not kubectl.connects(LOCKED, "agent", host, port))
    rule = {"to": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"protocol": "TCP", "port": port}]}
    kubectl.apply(
        _policy("allow", podSelector={"matchLabels": {"app": "agent"}}, policyTypes=["Egress"], egress=[rule])
    )
    try:
        eventually("it is allowed", lambda: kubectl.connects(LOCKED, "agent", host, port))
        assert not kubectl.connects(LOCKED, "server", host, port)
    finally:
        kubectl("delete", "networkpolicy", "-n", LOCKED, "allow")
