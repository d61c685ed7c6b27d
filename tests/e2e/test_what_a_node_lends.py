"""What a real node lends: users of its own, a RuntimeClass, profiles; what the kernel and the controls say of it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import kernel
import pytest
import repository
from nodekit import Kubectl, eventually
from sandboxkit import apply_sandbox, sandbox

from claude_sandbox.localcluster.cluster import Cluster

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


@pytest.fixture
def strict_file(node: Cluster) -> Iterator[Path]:
    """Where the node's kubelet looks for what the operator was told nodes have; nothing is there, nor afterwards."""
    # The node has a /var/lib of its own.
    directory = node.layout.node / "lib/kubelet/seccomp/claude-sandbox"
    assert not directory.exists()
    directory.mkdir(parents=True)
    yield directory / "strict.json"
    shutil.rmtree(directory)


def test_strict_is_told_where_the_node_lacks_its_file_and_is_in_force_where_it_has_it(
    kubectl: Kubectl, sandboxes: str, strict_file: Path
) -> None:
    # It asks the kernel how it adjusts its clock: anybody may, and no agent needs to.
    asks = ("/opt/claude-sandbox/libexec/busybox", "adjtimex")
    with sandbox(kubectl, sandboxes, "filtered") as made:
        assert kernel.status(made.agent())["Seccomp"] == "2"
        assert not made.fails(*asks)
    strict = {"seccompProfile": {"type": "Strict"}}
    lacking = apply_sandbox(kubectl, sandboxes, "strict", security=strict)
    try:
        lacking.wait("Ready", "False", "ProfileMissing")
        told = lacking.condition("Ready")["message"]
        for word in ("claude-sandbox/strict.json", "manifests/seccomp/strict.json", "to RuntimeDefault"):
            assert word in told
        filter_of_strict = json.loads((repository.ROOT / "manifests/seccomp/strict.json").read_text())
        wider = {"names": ["adjtimex", "io_setup"], "action": "SCMP_ACT_ALLOW"}
        kept = [
            {**one, "names": [name for name in one["names"] if name not in wider["names"]]}
            for one in filter_of_strict["syscalls"]
        ]
        strict_file.write_text(json.dumps({**filter_of_strict, "syscalls": [*kept, wider]}))
        lacking.wait("Ready")
        eventually("what is possible in the wrong file", lambda: lacking.results().get("KERN-01") == "Fail")
        told = lacking.control("KERN-01")
        assert "what was possible: adjtimex, io_setup" in told["message"]
        assert "manifests/seccomp/strict.json" in told["remedy"]
        assert lacking.is_("Compliant", "False")
        strict_file.write_text(json.dumps(filter_of_strict))
        before = lacking.pod_uid()
        kubectl("delete", "pod", "-n", sandboxes, lacking.pod)
        eventually("another pod, in the right file", lambda: lacking.pod_uid() not in ("", before))
        eventually("all that is refused", lambda: lacking.results().get("KERN-01") == "Pass")
        lacking.wait("Ready")
        lacking.wait("Compliant")
        assert lacking.results()["KERN-01"] == "Pass"
        assert kernel.status(lacking.agent())["Seccomp"] == "2"
        assert lacking.fails(*asks)
        assert "Operation not permitted" in lacking.run("sh", "-c", f"{' '.join(asks)} 2>&1 || true")
        # What probes it works in the same filter, or it would say nothing of the sandbox.
        eventually("what is tried beside it", lambda: lacking.results().get("KERN-07") == "Pass")
    finally:
        kubectl("delete", "claudesandbox", "-n", sandboxes, "strict", "--ignore-not-found")
        eventually("the pod is gone", lambda: not lacking.pod_uid())


def test_a_node_without_app_armor_is_named(kubectl: Kubectl, sandboxes: str) -> None:
    if Path("/sys/module/apparmor").exists():
        pytest.skip("this machine has AppArmor")
    lacking = apply_sandbox(kubectl, sandboxes, "confined", security={"appArmorProfile": {"type": "RuntimeDefault"}})
    try:
        lacking.wait("Ready", "False", "ProfileMissing")
        told = lacking.condition("Ready")["message"]
        assert "it has no AppArmor" in told
        assert "remove spec.security.appArmorProfile" in told
    finally:
        kubectl("delete", "claudesandbox", "-n", sandboxes, "confined", "--ignore-not-found")
        eventually("the pod is gone", lambda: not lacking.pod_uid())
