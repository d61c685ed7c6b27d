"""The whole installation with agents on the nodes: the operator as a pod, with its own rights and policies."""

import pytest
from nodekit import Kubectl, eventually, namespace, report
from sandboxkit import Sandbox, apply_sandbox

from claude_sandbox.install import applying
from claude_sandbox.install.kubectl import Kubectl as Installer
from claude_sandbox.install.manifests import NODES, PROBES, Installation
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.node import load_image

# It installs and removes the CRDs, on which other tests of the node rest.
pytestmark = [pytest.mark.node, pytest.mark.slow]

PLACE = "installed"


def by_kernel(made: Sandbox) -> set[str]:
    groups = (made.get().get("status", {}).get("compliance") or {}).get("passed", [])
    return {control for group in groups if group["source"] == "HostProc" for control in group["controls"]}


def test_an_operator_in_the_cluster_asks_the_agents_and_takes_them_away_with_it(
    node: Cluster, kubectl: Kubectl, sandbox_image: ImageArchive
) -> None:
    image = build_image("operator", report)
    load_image(node.layout, image)
    installer = Installer(kubectl.program, str(kubectl.kubeconfig))
    images = {"operator_image": image.pinned, "sandbox_image": sandbox_image.pinned}
    applying.install(installer, Installation(node_agent=True, **images), report)
    try:
        kubectl.apply(namespace(PLACE))
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/api-key"}
        kubectl.apply(secret | {"metadata": {"name": "key", "namespace": PLACE}, "stringData": {"api-key": "none"}})
        made = apply_sandbox(kubectl, PLACE, "alice")
        try:
            eventually("the kernel is a witness", lambda: {"PRIV-02", "RES-03"} <= by_kernel(made))
        except BaseException:
            print(kubectl("get", "pods,secrets", "-n", NODES, "-o", "wide", check=False).stdout)
            print(
                kubectl("logs", "-n", "claude-sandbox-system", "deployment/claude-sandbox-operator", check=False).stdout
            )
            raise
        # Its own policy lets it reach neither a kubelet nor a metadata service: pods on the node are the control.
        made.wait("IsolationVerified")
        told = ("get", "events", "-n", PROBES, "-o", "jsonpath={.items[*].involvedObject.name}")
        assert "control-" in kubectl(*told).stdout
        applying.install(installer, Installation(**images), report)
        assert installer.get("namespace", NODES) is None
        applying.install(installer, Installation(node_agent=True, **images), report)
        kubectl("delete", "claudesandbox", "-n", PLACE, "alice")
    finally:
        applying.uninstall(installer, report)
    assert installer.get("namespace", NODES) is None
    assert installer.get("namespace", PROBES) is None
    assert applying.superfluous(installer, []) == []
