"""`claude-sandbox incident drill` on a real node: what ran stops, whatever it does and a tenant allows."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from nodekit import Kubectl, eventually

from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.node


def test_each_incident_goes_as_it_should_and_nothing_of_the_drill_is_left(
    node: Cluster, kubectl: Kubectl, sandboxes: str, record_property: Callable[[str, object], None]
) -> None:
    program = (sys.executable, "-m", "claude_sandbox.cli.main", "incident", "drill")
    options = (f"--namespace={sandboxes}", f"--kubeconfig={node.kubeconfig}", "--timeout=180")
    done = subprocess.run([*program, *options], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing went on after it was said to be contained" in done.stdout
    for what, seconds in re.findall(r"^  (\S.*?) +([0-9.]+) s$", done.stdout, re.MULTILINE):
        record_property(what, seconds)
    for kind in ("claudesandboxes", "secrets", "networkpolicies"):
        assert "drill-" not in kubectl("get", kind, "-n", sandboxes, "-o", "name").stdout
    # The cluster's garbage collector takes what its sandbox had.
    pods = ("get", "pods", "-n", sandboxes, "-o", "name")
    eventually("the drill's pod is gone", lambda: "drill-" not in kubectl(*pods).stdout)
