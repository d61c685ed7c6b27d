"""Who can connect to whom. Each denial has a control: a pod without a policy, which shows that the target answers."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from nodekit import Kubectl, eventually, namespace, pod
from sandboxkit import Sandbox, sandbox

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = pytest.mark.node

ELSEWHERE = "e2e-elsewhere"
SERVE = "python3 -m http.server {port} --directory /tmp"


def _server(name: str, image: str, where: str = ELSEWHERE) -> dict[str, Any]:
    manifest = pod(where, name, image, args=SERVE.format(port=443).split())
    manifest["spec"]["securityContext"]["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    return manifest


@pytest.fixture(scope="module")
def addresses(kubectl: Kubectl, node: Cluster, sandbox_image: ImageArchive, sandboxes: str) -> dict[str, str]:
    """Two servers on port 443 in another namespace, and a control pod beside them that no policy selects."""
    image = sandbox_image.pinned
    kubectl.apply(namespace(ELSEWHERE))
    kubectl.apply(_server("declared", image), _server("undeclared", image), pod(ELSEWHERE, "control", image))
    kubectl.ready(ELSEWHERE, "declared", "undeclared", "control")

    def address(name: str) -> str:
        return kubectl("get", "pod", "-n", ELSEWHERE, name, "-o", "jsonpath={.status.podIP}").stdout

    return {"declared": address("declared"), "undeclared": address("undeclared")}


@pytest.fixture(scope="module")
def alice(kubectl: Kubectl, sandboxes: str, addresses: dict[str, str]) -> Iterator[Sandbox]:
    egress = {"allowedCIDRs": [f"{addresses['declared']}/32"]}
    ports = [{"name": "web", "containerPort": 8000}]
    serve = SERVE.format(port=8000).split()
    with sandbox(kubectl, sandboxes, "isolated", network={"egress": egress, "ports": ports}, args=serve) as made:
        yield made


def _targets(node: Cluster, addresses: dict[str, str]) -> dict[str, tuple[str, int]]:
    server = urlsplit(node.server)
    assert server.hostname
    assert server.port
    return {
        "a pod of another namespace": (addresses["undeclared"], 443),
        "the API server": (server.hostname, server.port),
        "the API server's Service": ("10.96.0.1", 443),
    }


@pytest.mark.parametrize("name", ["a pod of another namespace", "the API server", "the API server's Service"])
def test_what_is_not_declared_can_not_be_reached(
    name: str, alice: Sandbox, kubectl: Kubectl, node: Cluster, addresses: dict[str, str]
) -> None:
    host, port = _targets(node, addresses)[name]
    assert kubectl.connects(ELSEWHERE, "control", host, port), "the target does not answer at all"
    assert not kubectl.connects(alice.namespace, alice.pod, host, port)


def test_what_is_declared_can_be_reached(alice: Sandbox, kubectl: Kubectl, addresses: dict[str, str]) -> None:
    assert kubectl.connects(alice.namespace, alice.pod, addresses["declared"], 443)


def test_names_resolve_and_no_other_resolver_answers(alice: Sandbox, kubectl: Kubectl) -> None:
    assert kubectl.resolves(alice.namespace, alice.pod, "kubernetes.default.svc.cluster.local")


def test_a_declared_port_is_open_to_the_namespace_and_closed_to_others(
    alice: Sandbox, kubectl: Kubectl, sandbox_image: ImageArchive
) -> None:
    kubectl.apply(pod(alice.namespace, "neighbour", sandbox_image.pinned))
    kubectl.ready(alice.namespace, "neighbour")
    service = f"{alice.pod}.{alice.namespace}.svc.cluster.local"
    eventually("the Service leads to the pod", lambda: kubectl.connects(alice.namespace, "neighbour", service, 8000))
    assert not kubectl.connects(ELSEWHERE, "control", service, 8000)


def test_a_policy_of_somebody_else_that_widens_it_is_noticed(alice: Sandbox, kubectl: Kubectl) -> None:
    alice.wait("Compliant")
    widening = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "allow-all", "namespace": alice.namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    }
    kubectl.apply(widening)
    try:
        alice.wait("Compliant", "False")
        alice.wait("IsolationVerified", "False", "PolicyWidened")
        assert "allow-all" in alice.control("NET-02")["message"]
    finally:
        kubectl("delete", "networkpolicy", "-n", alice.namespace, "allow-all")
    alice.wait("Compliant")


def test_a_deleted_policy_is_back_and_in_force(alice: Sandbox, kubectl: Kubectl, addresses: dict[str, str]) -> None:
    before = _uid(kubectl, alice)
    kubectl("delete", "networkpolicy", "-n", alice.namespace, alice.pod)
    eventually("the policy is back", lambda: _uid(kubectl, alice) not in ("", before))
    assert not kubectl.connects(alice.namespace, alice.pod, addresses["undeclared"], 443)
    eventually(
        "the declared destination is open again",
        lambda: kubectl.connects(alice.namespace, alice.pod, addresses["declared"], 443),
    )
    eventually("the heal is counted", lambda: alice.get()["status"].get("heals", {}).get("count", 0) > 0)


def _uid(kubectl: Kubectl, alice: Sandbox) -> str:
    found = kubectl("get", "networkpolicy", "-n", alice.namespace, alice.pod, "-o", "json", check=False).stdout
    return str(json.loads(found)["metadata"]["uid"]) if found else ""
