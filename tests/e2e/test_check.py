"""`claude-sandbox check` against live pods: ours, and one that nobody hardened."""

import json
import subprocess
import sys
from typing import Any

import pytest
from nodekit import Kubectl
from sandboxkit import sandbox

from claude_sandbox.compliance.reports.isolation import PROBED
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = pytest.mark.node


def _check(node: Cluster, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-m", "claude_sandbox.cli.main", "check", *arguments, "-o", "json"]
    done = subprocess.run(
        [*command, f"--kubeconfig={node.kubeconfig}"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("delivery", ["Mounted", "Brokered"])
def test_a_sandbox_passes_with_the_results_that_its_status_has(
    kubectl: Kubectl, node: Cluster, sandboxes: str, delivery: str
) -> None:
    credentials = {"apiKeySecretRef": {"name": "key"}, "delivery": delivery}
    with sandbox(kubectl, sandboxes, "checked", credentials=credentials) as made:
        made.wait("Compliant")
        image = kubectl(
            "get", "deployment", "claude-sandbox-gateway", "-n", sandboxes, "--ignore-not-found",
            "-o", "jsonpath={.spec.template.spec.containers[0].image}",
        ).stdout  # fmt: skip
        of_gateway = (f"--gateway-image={image}",) if delivery == "Brokered" else ()
        code, (report,) = _check(node, "sandbox", f"{sandboxes}/checked", *of_gateway)
        assert code == 0
        reported, found = made.results(), {control["id"]: control["result"] for control in report["controls"]}
        # What can be reached, and what the kernel lets it do, only the operator tries.
        assert {found.pop(one) for one in PROBED} == {"Unknown"}
        assert found == {id: result for id, result in reported.items() if id not in PROBED}


def test_a_pod_that_nobody_hardened_fails(kubectl: Kubectl, node: Cluster, sandbox_image: ImageArchive) -> None:
    container = {"name": "plain", "image": sandbox_image.pinned, "securityContext": {"privileged": True}}
    spec = {"containers": [container], "hostNetwork": True, "terminationGracePeriodSeconds": 0}
    metadata = {"name": "plain", "namespace": "e2e-plain"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "e2e-plain"}})
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    code, (report,) = _check(node, "pod", "e2e-plain/plain")
    assert code == 1
    failing = {control["id"] for control in report["controls"] if control["result"] == "Fail"}
    assert {"PRIV-01", "PRIV-02", "KERN-01", "NS-03", "FS-01", "RES-01", "NET-01", "ID-01"} <= failing
    kubectl("delete", "namespace", "e2e-plain", "--wait=false")
