"""What is measured of a gateway, on a real node: it passes as it runs, and what a tenant does beside it is told."""

from collections.abc import Iterator
from typing import Any

import pytest
from nodekit import Kubectl, eventually
from sandboxkit import Sandbox, sandbox

from claude_sandbox.localcluster.images import ImageArchive

pytestmark = pytest.mark.node

GATEWAY = "claude-sandbox-gateway"
LABELS = {"claudesandbox.dev/component": "gateway"}
CONTROLS = ("NET-06", "NET-12", "NET-13", "ID-04", "SEC-05")
Object = dict[str, Any]


@pytest.fixture(scope="module")
def made(kubectl: Kubectl, sandboxes: str) -> Iterator[Sandbox]:
    credentials = {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}
    with sandbox(kubectl, sandboxes, "controlled", credentials=credentials) as found:
        found.wait("Compliant")
        yield found


def manifest(kind: str, api_version: str, **fields: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "mallory"}} | fields


def policy(select: Object, **spec: Any) -> Object:
    return manifest("NetworkPolicy", "networking.k8s.io/v1", spec={"podSelector": select, **spec})


def twin(image: str) -> Object:
    """A hardened pod with the gateway's label: to the Service, and to sandboxes' policies, it is the gateway."""
    hardened = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {"name": "gateway", "image": image, "command": ["sleep", "600"], "securityContext": hardened}
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": user, "terminationGracePeriodSeconds": 0}
    return manifest("Pod", "v1", metadata={"name": "mallory", "labels": LABELS}, spec=spec)


def tampering(image: str) -> dict[str, tuple[Object, str, str]]:
    """What is added to the namespace, the control that tells of it, and a part of its message."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    account = {"kind": "ServiceAccount", "name": GATEWAY, "namespace": "e2e"}
    slice_ = {"name": "mallory", "labels": {"kubernetes.io/service-name": GATEWAY}}
    return {
        "pod": (twin(image), "NET-12", "the pod mallory has the labels of its gateway"),
        "policy": (policy({"matchLabels": LABELS}, ingress=[{}]), "NET-12", "NetworkPolicy mallory"),
        "service": (
            manifest("Service", "v1", spec={"selector": LABELS, "ports": [{"port": 3128}]}),
            "NET-12",
            "the Service mallory",
        ),
        "slice": (
            manifest(
                "EndpointSlice",
                "discovery.k8s.io/v1",
                metadata=slice_,
                addressType="IPv4",
                endpoints=[{"addresses": ["192.0.2.7"]}],
                ports=[{"name": "proxy", "port": 3128}],
            ),
            "NET-12",
            "the EndpointSlice mallory",
        ),
        "role": (
            manifest("RoleBinding", "rbac.authorization.k8s.io/v1", roleRef=role, subjects=[account]),
            "NET-12",
            "its ServiceAccount may",
        ),
        "egress": (policy({}, policyTypes=["Egress"], egress=[{}]), "NET-13", "past the gateway"),
        "resolver": (
            policy({}, policyTypes=["Egress"], egress=[{"ports": [{"protocol": "UDP", "port": 53}]}]),
            "NET-06",
            "to ask a resolver",
        ),
    }


def test_a_gateway_and_its_sandbox_pass_as_they_run(made: Sandbox) -> None:
    assert {made.results()[one] for one in CONTROLS} == {"Pass"}


@pytest.mark.parametrize("name", sorted(tampering("")))
def test_what_a_tenant_adds_is_told_and_gone_when_it_is_gone(
    kubectl: Kubectl, sandboxes: str, made: Sandbox, sandbox_image: ImageArchive, name: str
) -> None:
    added, control, told = tampering(sandbox_image.pinned)[name]
    added["metadata"]["namespace"] = sandboxes
    kubectl.apply(added)

    def is_told() -> bool:
        return made.results()[control] == "Fail" and told in made.control(control)["message"]

    try:
        eventually(f"{control} tells of it", is_told)
        assert made.is_("Compliant", "False")
    finally:
        kubectl("delete", added["kind"], "mallory", "-n", sandboxes)
    eventually(f"{control} passes again", lambda: made.results()[control] == "Pass")
