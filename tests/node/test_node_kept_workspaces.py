"""`claude-sandbox incident kept` on a real node: what was kept aside is seen, fetched and removed, and no more."""

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import repository
from nodekit import Kubectl, eventually, namespace, pod

from claude_sandbox.api import meta
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = pytest.mark.node

WHERE = "kept"
NAME = f"{WHERE}/alice"
SANDBOX = {
    "apiVersion": meta.API_VERSION,
    "kind": meta.KIND,
    "metadata": {"name": "alice", "namespace": WHERE},
    "spec": {"credentials": {"apiKeySecretRef": {"name": "key"}}, "workspace": {"instance": 2}},
}


def claim(instance: int) -> dict[str, Any]:
    """A workspace as the operator makes it."""
    metadata = {"name": meta.workspace_name("alice", instance), "namespace": WHERE}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY, meta.LABEL_SANDBOX: "alice"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {**metadata, "labels": labels},
        "spec": spec,
    }


def test_what_was_kept_aside_is_seen_fetched_and_removed_and_no_more(
    node: Cluster, kubectl: Kubectl, sandbox_image: ImageArchive, tmp_path: Path
) -> None:
    def kept(*arguments: str) -> tuple[int, str]:
        program = (sys.executable, "-m", "claude_sandbox.cli.main", "incident", "kept", *arguments)
        command = [*program, f"--kubeconfig={node.kubeconfig}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        return done.returncode, done.stdout + done.stderr

    kubectl("apply", "-f", str(repository.CRDS / "claudesandbox.dev_claudesandboxes.yaml"))
    eventually("ClaudeSandboxes are served", lambda: kubectl("get", "claudesandboxes", check=False).returncode == 0)
    # The sandbox comes last: an operator that other tests left at work here would make its workspace for it.
    kubectl.apply(namespace(WHERE), claim(1), claim(2), SANDBOX)
    try:
        # As an agent's pod: its image, its user.
        for name, number in (("before", 1), (meta.child_name("alice"), 2)):
            source = {"persistentVolumeClaim": {"claimName": meta.workspace_name("alice", number)}}
            kubectl.apply(pod(WHERE, name, sandbox_image.pinned, volumes=[("/workspace", source)]))
            kubectl.ready(WHERE, name)
            kubectl.run(WHERE, name, "sh", "-c", f"echo of {number} > /workspace/file")
        # What still has it mounted keeps it.
        code, told = kept("remove", NAME, "--number=1")
        assert (code, "in use by before" in told) == (1, True), told
        kubectl("delete", "pod", "before", "-n", WHERE, "--grace-period=1")
        code, table = kept("list", NAME)
        assert code == 0, table
        one, two = table.splitlines()[1:]
        assert (one.split()[:2], "kept aside, in use by nothing" in one) == (["1", "workspace"], True), table
        assert (two.split()[:2], "the sandbox's own, in use by sandbox-alice" in two) == (["2", "workspace"], True), (
            table
        )

        archive = tmp_path / "aside.tar"
        code, told = kept("collect", NAME, "--number=1", f"--output={archive}")
        assert code == 0, told
        assert archive.stat().st_mode & 0o777 == 0o600
        with tarfile.open(archive) as tar:
            file = tar.extractfile("./file")
            assert file is not None
            assert file.read() == b"of 1\n"
        # A file with a hole would fill the disk of whoever looks into it.
        large = tmp_path / "large.tar"
        code, told = kept("collect", NAME, "--number=1", f"--output={large}", "--max-size=1Ki")
        assert (code, "more than 1024 bytes" in told, large.exists()) == (1, True, False), told
        policies = kubectl("get", "networkpolicies", "-n", WHERE, "-o", "name").stdout
        assert "kept-" not in policies
        pods = ("get", "pods", "-n", WHERE, "-o", "name")
        eventually("what has read it is gone", lambda: "kept-" not in kubectl(*pods).stdout)
        # The sandbox's own is no business of this.
        own = f"--output={tmp_path / 'own.tar'}"
        for arguments in (("collect", NAME, "--number=2", own), ("remove", NAME, "--number=2")):
            code, told = kept(*arguments)
            assert (code, "own, and not kept aside" in told) == (1, True), told
        assert not (tmp_path / "own.tar").exists()
        code, told = kept("remove", NAME, "--number=1")
        assert code == 0, told
        code, table = kept("list", NAME)
        assert [line.split()[0] for line in table.splitlines()[1:]] == ["2"], table
    finally:
        kubectl("delete", "namespace", WHERE, "--wait=false")
