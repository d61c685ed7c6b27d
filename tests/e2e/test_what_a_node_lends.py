"""Users of its own and a RuntimeClass on a real node: what the kernel and the controls say of them."""

import pytest
from nodekit import Kubectl
from sandboxkit import sandbox

pytestmark = pytest.mark.node

KEY_FILE = "/run/claude-sandbox/api-key/api-key"


def test_a_sandbox_with_users_of_its_own_is_somebody_else_on_the_node_and_works(
    kubectl: Kubectl, sandboxes: str
) -> None:
    workspace = {"type": "PersistentVolumeClaim", "size": "64Mi", "retention": "Delete"}
    with sandbox(kubectl, sandboxes, "remapped", security={"userNamespace": True}, workspace=workspace) as made:
        made.wait("Compliant")
        assert made.results()["PRIV-06"] == "Pass"
        inside, outside, length = (made.agent() / "uid_map").read_text().split()
        assert (inside, length) == ("0", "65536")
        assert int(outside) >= 65536
        assert made.agent().stat().st_uid == int(outside) + 1000
        assert made.run("sh", "-c", f"id -u; test -r {KEY_FILE} && touch /workspace/a && stat -c %u /workspace/a") == (
            "1000\n1000\n"
        )


def test_the_handler_of_a_runtime_class_is_looked_at(kubectl: Kubectl, sandboxes: str) -> None:
    """It is the runtime that the node has: gVisor or Kata Containers take a node of their own."""
    kubectl.apply(
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "plain"}, "handler": "runc"}
    )
    try:
        with sandbox(kubectl, sandboxes, "classy", security={"runtimeClassName": "plain"}) as made:
            made.wait("Compliant")
            assert made.results()["KERN-06"] == "Fail"
            assert "the handler runc shares the node's kernel" in made.control("KERN-06")["message"]
    finally:
        kubectl("delete", "runtimeclass", "plain")
