"""What another image is tried in beside a sandbox: what it has of the sandbox, what it has not, and what is seen."""

from typing import Any

import pytest
from docker_world import CLUSTER, NEW, OLD, blueprint_of

from claude_sandbox.api import meta
from claude_sandbox.backends.base import Trial
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.objects import container
from claude_sandbox.backends.docker.trials.container import document
from claude_sandbox.backends.docker.trials.container import trial_of as seen_container
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.backends.kubernetes.trials.pod import network_policy, pod
from claude_sandbox.backends.kubernetes.trials.pod import trial_of as seen_pod
from claude_sandbox.blueprint.canary import canary_of
from claude_sandbox.blueprint.model import Blueprint, Image

NEWER = Image("registry.test/a:1@sha256:" + "b" * 64, "sha256:" + "b" * 64, "IfNotPresent")
FIELDS: dict[str, Any] = {
    "image": {"repository": "registry.test/a", "tag": "1"},
    "command": ["/bin/work", "hard"],
    "network": {"ports": [{"name": "http", "containerPort": 8080}]},
    "workspace": {"keepHome": {"size": "1Gi"}},
    "credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"},
    "repositories": [{"path": "a", "url": "https://git.example/a"}],
}


def canary(*, command: bool = False, **fields: Any) -> Blueprint:
    return canary_of(blueprint_of(**FIELDS, **fields), NEWER, 900.0, command=command)


def test_it_runs_the_command_only_where_that_is_asked_for_and_ends_by_itself() -> None:
    box = "/opt/claude-sandbox/libexec/busybox"
    first = blueprint_of(**FIELDS).command
    assert (canary().command, canary().args) == (first, (box, "sleep", "1500"))
    asked = canary(command=True)
    assert (asked.command, asked.args) == (first, (box, "timeout", "-s", "KILL", "1500", "/bin/work", "hard"))


@pytest.mark.parametrize("engine", [NEW, OLD], ids=["new", "old"])
def test_a_container_has_no_key_workspace_or_network_and_is_as_hardened(engine: Any) -> None:
    found, live = document(canary(), CLUSTER, engine), container(blueprint_of(**FIELDS), CLUSTER, engine)
    host = found["HostConfig"]
    assert (host["NetworkMode"], "NetworkingConfig" in found) == ("none", False)
    assert {mount["Target"]: mount["ReadOnly"] for mount in host["Mounts"]} == {
        "/opt/claude-sandbox": True, "/etc/claude-code": True,
    }  # fmt: skip
    assert "/workspace" in host["Tmpfs"]
    assert found["Labels"][names.LABEL_COMPONENT] == names.CANARY
    assert found["Image"] == NEWER.reference
    differ = {"NetworkMode", "Mounts", "Tmpfs", "Dns"}
    assert {key: value for key, value in host.items() if key not in differ} == {
        key: value for key, value in live["HostConfig"].items() if key not in differ
    }


def test_a_pod_has_no_key_workspace_or_network_and_is_as_hardened() -> None:
    found, live = pod(canary(), 1500, image_volumes=False), objects.pod(blueprint_of(**FIELDS), None)
    (one,), (other,) = found["spec"]["containers"], live["spec"]["containers"]
    assert one["securityContext"] == other["securityContext"]
    assert one["resources"] == other["resources"]
    assert found["spec"]["securityContext"] == live["spec"]["securityContext"]
    kinds = {key for volume in found["spec"]["volumes"] for key in volume} - {"name"}
    assert kinds == {"emptyDir", "downwardAPI"}
    assert {mount["name"] for mount in one["volumeMounts"]} <= {volume["name"] for volume in found["spec"]["volumes"]}
    assert "ports" not in one
    # The kubelet kills it for nothing that it answers: who was killed is taken to have been ended from outside.
    assert {name for name in one if name.endswith("Probe")} == {"readinessProbe"}
    assert [init["name"] for init in found["spec"]["initContainers"]] == ["tools"]
    assert (found["spec"]["restartPolicy"], found["spec"]["activeDeadlineSeconds"]) == ("Never", 1500)
    assert meta.LABEL_SANDBOX not in found["metadata"]["labels"]
    policy = network_policy(canary().identity)["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= found["metadata"]["labels"].items()
    assert (policy["ingress"], policy["egress"], len(policy["policyTypes"])) == ([], [], 2)
    assert len(found["metadata"]["name"]) <= 63


def engines(**state: Any) -> dict[str, Any]:
    mounts = [{"Destination": "/opt/claude-sandbox"}]
    return {"Id": "c", "State": state, "Mounts": mounts, "Config": {"Image": "a"}}


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        (engines(Status="running", Running=True, Health={"Status": "healthy"}), "ready"),
        (engines(Status="running", Running=True, Health={"Status": "starting"}), "waits"),
        (engines(Status="running", Running=True, Health={"Status": "unhealthy"}), "waits"),
        (engines(Status="running", Running=True, Paused=True, Health={"Status": "healthy"}), "waits"),
        # Whoever made it has ended before it was started: who comes next begins it.
        (engines(Status="created"), "nothing"),
        (engines(Status="created", Error="exec format error"), "exec format error"),
        (engines(Status="exited", ExitCode=1), "exit code 1"),
        (engines(Status="exited", ExitCode=0), "exit code 0"),
        (engines(Status="exited", ExitCode=78), "no shell"),
        (engines(Status="exited", ExitCode=137, OOMKilled=True), "memory"),
        # Killed by its time, or by somebody: that says nothing of the image.
        (engines(Status="exited", ExitCode=137), "nothing"),
        (engines(Status="exited", ExitCode=143), "nothing"),
    ],
)
def test_what_is_seen_of_a_container(live: dict[str, Any], wanted: str) -> None:
    assert_seen(seen_container(live), wanted)


def pods(phase: str = "Pending", *, state: Any = None, **more: Any) -> dict[str, Any]:
    statuses = [{"name": "agent", "image": "a", "state": state}] if state else []
    made = pod(canary(), 1500, image_volumes=False)
    made["metadata"]["uid"] = "c"
    return {**made, "status": {"phase": phase, "containerStatuses": statuses, **more}}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return pods("Failed", state={"terminated": {"exitCode": code, "reason": reason}})


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        (pods("Running", conditions=[{"type": "Ready", "status": "True"}]), "ready"),
        (pods("Running", conditions=[{"type": "Ready", "status": "False"}]), "waits"),
        (pods(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such manifest"}}), "waits"),
        (pods(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]), "no room"),
        (ended(1), "exit code 1"),
        (ended(78), "no shell"),
        (ended(137, "OOMKilled"), "memory"),
        (ended(137), "nothing"),
        (pods("Failed", reason="Evicted"), "nothing"),
        (pods("Failed", reason="DeadlineExceeded"), "nothing"),
    ],
)
def test_what_is_seen_of_a_pod(live: dict[str, Any], wanted: str) -> None:
    assert_seen(seen_pod(live), wanted)


def assert_seen(found: Trial, wanted: str) -> None:
    if wanted == "nothing":
        assert found == Trial()
        return
    assert (found.uid, found.seen) == ("c", True)
    assert found.ready is (wanted == "ready")
    assert bool(found.no_room) is (wanted == "no room")
    assert (wanted in found.failed) if wanted not in ("ready", "waits", "no room") else not found.failed
