"""Keys that change, pods that go, workspaces that stay."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodekit import Kubectl, eventually
from provider_process import ProviderProcess
from sandboxkit import SMALL, apply_sandbox, mounted, sandbox

pytestmark = pytest.mark.node

KEY_FILE = "/run/claude-sandbox/api-key/api-key"


def _secret(namespace: str, name: str, value: str, kind: str = "claudesandbox.dev/api-key") -> dict[str, object]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "stringData": {"api-key": value}}


def test_a_new_key_is_in_the_file_within_seconds_and_nothing_is_restarted(
    kubectl: Kubectl, sandboxes: str, record_property: Callable[[str, object], None]
) -> None:
    kubectl.apply(_secret(sandboxes, "rotated", "sk-ant-first"))
    with sandbox(kubectl, sandboxes, "rotate", credentials=mounted("rotated")) as made:
        before = (made.pod_uid(), made.agent())
        assert made.run("cat", KEY_FILE) == "sk-ant-first"
        kubectl.apply(_secret(sandboxes, "rotated", "sk-ant-second"))
        start = time.monotonic()
        # As the sandbox's own process sees it, without an exec through the API server.
        seen = before[1] / "root" / KEY_FILE.lstrip("/")
        eventually("the new key is mounted", lambda: seen.read_text() == "sk-ant-second")
        record_property("seconds_until_the_new_key", time.monotonic() - start)
        assert (made.pod_uid(), made.agent()) == before
        made.wait("CredentialsCurrent", "True", "KeyMounted")
        credentials = made.get()["status"]["credentials"]
        assert credentials["generation"] == credentials["mountedGeneration"]


def test_a_sandbox_waits_for_its_key_and_says_how_to_make_it(kubectl: Kubectl, sandboxes: str) -> None:
    made = apply_sandbox(kubectl, sandboxes, "keyless", credentials=mounted("late"))
    made.wait("Stalled", "True", "SecretNotFound")
    assert "kubectl create secret" in made.condition("Stalled")["message"]
    assert made.pod_uid() == ""
    kubectl.apply(_secret(sandboxes, "late", "sk-ant-late"))
    made.wait("Ready")
    kubectl("delete", "claudesandbox", "-n", sandboxes, "keyless")


def test_a_secret_that_has_not_opted_in_is_never_mounted(kubectl: Kubectl, sandboxes: str) -> None:
    kubectl.apply(_secret(sandboxes, "database", "hunter2", "Opaque"))
    made = apply_sandbox(kubectl, sandboxes, "curious", credentials=mounted("database"))
    made.wait("Stalled", "True", "SecretNotOptedIn")
    assert made.pod_uid() == ""
    kubectl("delete", "claudesandbox", "-n", sandboxes, "curious")


def test_a_workspace_outlives_its_pods_and_its_sandbox(kubectl: Kubectl, sandboxes: str) -> None:
    workspace = {"type": "PersistentVolumeClaim", "size": "1Gi", "retention": "Retain"}
    with sandbox(kubectl, sandboxes, "keeper", workspace=workspace) as made:
        made.run("sh", "-c", "echo precious > /workspace/file")
        first = made.pod_uid()
        kubectl("delete", "pod", "-n", sandboxes, made.pod)
        eventually("a new pod", lambda: made.pod_uid() not in ("", first))
        made.wait("Ready")
        assert made.run("cat", "/workspace/file") == "precious\n"
        kubectl.apply(_suspend(sandboxes, "keeper", {"workspace": workspace}))
        made.wait("Ready", "False", "Suspended")
        eventually("no pod", lambda: not made.pod_uid())
    with sandbox(kubectl, sandboxes, "keeper", workspace=workspace | {"retention": "Delete"}) as again:
        assert again.run("cat", "/workspace/file") == "precious\n"
    claim = ("get", "pvc", "-n", sandboxes, "sandbox-keeper-workspace")
    eventually("the claim is gone", lambda: kubectl(*claim, check=False).returncode != 0)


def test_a_session_and_what_it_was_told_are_there_in_the_next_pod(
    kubectl: Kubectl, sandboxes: str, provider: ProviderProcess
) -> None:
    def asked(*how: str) -> str:
        found = json.loads(made.run("claude", "-p", *how, "--output-format", "json"))
        assert (found["result"], found["is_error"]) == ("pong", False)
        return str(found["session_id"])

    def told() -> object:
        return json.loads(made.run("cat", "/etc/claude-code/managed-settings.json")).get("claudeMd")

    _tell(kubectl, sandboxes, "Be brief.")
    spec = {
        "workspace": {"type": "PersistentVolumeClaim", "retention": "Delete", "keepHome": {"size": "64Mi"}},
        "credentials": {"apiKeySecretRef": {"name": "key"}},
        "claudeCode": {"memory": {"name": "told"}},
    }
    with sandbox(kubectl, sandboxes, "session", **spec) as made:
        session = asked("remember")
        assert told() == "Be brief."
        made.run("sh", "-c", "echo x > /home/claude/.netrc; ls /home/claude/.claude/projects")
        first = made.pod_uid()
        _tell(kubectl, sandboxes, "Be long.")
        # As soon as the kubelet looks at what changed of the pod.
        eventually("the new instructions", lambda: told() == "Be long.")
        assert made.pod_uid() == first
        made.wait("Compliant")
        kubectl("delete", "pod", "-n", sandboxes, made.pod)
        eventually("a new pod", lambda: made.pod_uid() not in ("", first))
        made.wait("Ready")
        assert asked("--continue", "again") == session
        assert made.fails("ls", "/home/claude/.netrc")
        kubectl.apply(_suspend(sandboxes, "session", spec))
        made.wait("Ready", "False", "Suspended")
        eventually("no pod", lambda: not made.pod_uid())
        apply_sandbox(kubectl, sandboxes, "session", **spec)
        made.wait("Ready")
        assert asked("--continue", "and again") == session
    claim = ("get", "pvc", "-n", sandboxes, "sandbox-session-home")
    eventually("the claim is gone", lambda: kubectl(*claim, check=False).returncode != 0)


def _tell(kubectl: Kubectl, namespace: str, memory: str) -> None:
    metadata = {"name": "told", "namespace": namespace, "labels": {"claudesandbox.dev/claude-code": "true"}}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"CLAUDE.md": memory}})


def _suspend(namespace: str, name: str, wanted: dict[str, Any]) -> dict[str, object]:
    spec = SMALL | wanted | {"operatingMode": "Suspended"}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeSandbox", "metadata": metadata, "spec": spec}


def test_an_ephemeral_container_is_drift_and_recreated_where_the_spec_says_so(kubectl: Kubectl, sandboxes: str) -> None:
    strategy = {"type": "OnDelete"}
    with sandbox(kubectl, sandboxes, "debugged", updateStrategy=strategy) as made:
        before = made.pod_uid()
        image = kubectl("get", "pod", "-n", sandboxes, made.pod, "-o", "jsonpath={.spec.containers[0].image}").stdout
        kubectl("debug", "-n", sandboxes, made.pod, f"--image={image}", "--profile=restricted", "--", "sleep", "60")
        made.wait("Drifted", "True", "PodDrifted")
        assert "ephemeralContainers" in made.condition("Drifted")["message"]
        made.wait("Compliant", "False")
        assert made.control("PRIV-08")["result"] == "Fail"
        assert made.pod_uid() == before
        patch = '{"spec":{"updateStrategy":{"type":"Recreate"}}}'
        kubectl("patch", "claudesandbox", "-n", sandboxes, "debugged", "--type=merge", "-p", patch)
        eventually("a new pod", lambda: made.pod_uid() not in ("", before))
        made.wait("Ready")
        made.wait("Drifted", "False")
        made.wait("Compliant")


def test_what_an_agent_does_to_its_memory_limit_is_said(kubectl: Kubectl, sandboxes: str) -> None:
    hog = ["sh", "-c", "sleep 1; python3 -c 'x = bytearray(2 << 30)'"]
    made = apply_sandbox(kubectl, sandboxes, "hungry", args=hog)
    made.wait("Ready", "False", "ContainerFailing")
    assert "spec.resources.memory" in made.condition("Ready")["message"]
    kubectl("delete", "claudesandbox", "-n", sandboxes, "hungry")


def test_deleting_a_sandbox_leaves_nothing(kubectl: Kubectl, sandboxes: str) -> None:
    with sandbox(kubectl, sandboxes, "leaving") as made:
        agent = made.agent()
    kinds = "pods,serviceaccounts,networkpolicies,services,persistentvolumeclaims"
    label = "claudesandbox.dev/sandbox=leaving"
    eventually(
        "everything of the sandbox is gone",
        lambda: kubectl("get", kinds, "-n", sandboxes, "-l", label, "-o", "name").stdout == "",
    )
    eventually("its processes are gone", lambda: not Path(agent / "cmdline").exists())
