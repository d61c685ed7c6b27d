"""The agents on the nodes, as `install --node-agent` has them there, for an operator that is no pod."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from nodekit import Kubectl, report

from claude_sandbox.backends.kubernetes.node_agents import NAMESPACE
from claude_sandbox.install.manifests import Installation, render
from claude_sandbox.localcluster.images import build_image
from claude_sandbox.node_agent import PORT

DAEMON_SET = "daemonset/claude-sandbox-node-agent"


@contextmanager
def installed(kubectl: Kubectl) -> Iterator[str]:
    """The address of the node's agent. The operator of these tests is let in by its own."""
    image = build_image("operator", report).pinned
    found = render(Installation(node_agent=True, operator_image=image))
    ours = [one for one in found if NAMESPACE in (one["metadata"].get("namespace"), one["metadata"]["name"])]
    bindings = ("Role", "RoleBinding")
    kubectl.apply(*(one for one in ours if one["kind"] == "Namespace"))
    kubectl.apply(*(one for one in ours if one["kind"] not in ("Namespace", *bindings)))
    try:
        rolled = kubectl("rollout", "status", "-n", NAMESPACE, DAEMON_SET, "--timeout=120s", check=False)
        assert rolled.returncode == 0, kubectl("describe", "pods", "-n", NAMESPACE).stdout
        address = address_of(kubectl)
        kubectl.apply(let_in(address))
        yield address
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait")


def address_of(kubectl: Kubectl) -> str:
    """Of the agent that runs now."""
    running = "-o", "jsonpath={.items[?(@.status.phase=='Running')].status.podIP}"
    return kubectl("get", "pods", "-n", NAMESPACE, *running).stdout.split()[-1]


def let_in(address: str) -> dict[str, object]:
    """A policy that lets this machine connect to an agent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        any_socket.connect((address, PORT))
        here = any_socket.getsockname()[0]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "operator-of-a-test", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": f"{here}/32"}}]}],
        },
    }
