"""Profiles that only a node has: what a pod asks for, who is held to the same, and what is said of a node without."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.validate import parse_spec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.backends.kubernetes.probing import pod as probing
from claude_sandbox.backends.kubernetes.state import state_of
from claude_sandbox.backends.kubernetes.tools import lacks_image_volumes
from claude_sandbox.backends.kubernetes.trials import pod as trials
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Image, Site

IDENTITY = Identity("agents", "alice", "00000000-0000-4000-8000-000000000001")
DIGEST = "sha256:" + "a" * 64
FILE = "claude-sandbox/strict.json"
PROBE = Image("registry.example/operator@" + DIGEST, None, "IfNotPresent")
STRICT: Any = {"seccompProfile": {"type": "Strict"}}
DEFAULT, LOCALHOST = {"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": FILE}
# As containerd 2.1 and a kubelet of 1.34 say it.
TOLD = (
    f'failed to create containerd container: cannot load seccomp profile "/var/lib/kubelet/seccomp/{FILE}": open '
    f"/var/lib/kubelet/seccomp/{FILE}: no such file or directory"
)


def blueprint(profile: str | None = FILE, **spec: Any) -> Blueprint:
    given = {"credentials": {"apiKeySecretRef": {"name": "key"}}, "security": STRICT, **spec}
    site = Site(parse_image(f"registry.example/claude@{DIGEST}", "IfNotPresent"), strict_profile=profile)
    return build(IDENTITY, parse_spec({"spec": given}), site)


def running(**spec: Any) -> Any:
    made = copy.deepcopy(objects.pod(blueprint(**spec), None))
    made["metadata"] |= {"uid": "u"}
    made["spec"]["nodeName"] = "node-7"
    return made


def waiting(pod: Any, reason: str, message: str | None, name: str = "agent") -> Any:
    kind = "containerStatuses" if name == "agent" else "initContainerStatuses"
    told = {"reason": reason} | ({"message": message} if message is not None else {})
    pod["status"] = {"phase": "Pending", kind: [{"name": name, "state": {"waiting": told}}]}
    return pod


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, LOCALHOST),
        ({"security": {}}, DEFAULT),
        ({"security": {"seccompProfile": {"type": "RuntimeDefault"}}}, DEFAULT),
    ],
)
def test_a_pod_has_the_file_of_its_node_where_its_sandbox_asks_for_strict(spec: Any, found: Any) -> None:
    meant = blueprint(**spec)
    assert objects.pod(meant, None)["spec"]["securityContext"]["seccompProfile"] == found
    # What tries a newer image is no less held, and none of its containers says otherwise for itself.
    canary = trials.pod(meant, 60, image_volumes=False)["spec"]
    assert canary["securityContext"]["seccompProfile"] == found
    assert not any("seccompProfile" in one["securityContext"] for one in canary["containers"])


def test_one_whose_filter_changes_is_another_pod() -> None:
    marks = [
        objects.pod(blueprint(profile, **spec), None)["metadata"]["annotations"]["claudesandbox.dev/spec-hash"]
        for profile, spec in ((FILE, {}), ("other.json", {}), (FILE, {"security": {}}))
    ]
    assert len(set(marks)) == 3
    assert (
        marks[2]
        == objects.pod(blueprint(None, security={}), None)["metadata"]["annotations"]["claudesandbox.dev/spec-hash"]
    ), "an operator's option changes no pod of a sandbox that does not ask"


CHANGES: dict[str, tuple[Callable[[Any], Any], Any, bool]] = {
    "as it is": (lambda _: None, LOCALHOST, True),
    "the runtime's own, since it was made before": (
        lambda spec: spec["securityContext"].update(seccompProfile=DEFAULT),
        DEFAULT,
        True,
    ),
    "for its container alone": (
        lambda spec: spec["containers"][0]["securityContext"].update(seccompProfile=DEFAULT),
        DEFAULT,
        True,
    ),
    "none": (lambda spec: spec["securityContext"].update(seccompProfile={"type": "Unconfined"}), DEFAULT, False),
    "a file of somebody's": (
        lambda spec: spec["securityContext"].update(
            seccompProfile={"type": "Localhost", "localhostProfile": "all.json"}
        ),
        DEFAULT,
        False,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_probe_is_held_to_what_the_sandbox_is_and_never_to_what_may_hold_nothing(name: str) -> None:
    change, found, stands = CHANGES[name]
    sandbox = running()
    change(sandbox["spec"])
    made = probing.document(IDENTITY, sandbox, PROBE, "probe", "{}", objects.profiles(blueprint()))
    assert made["spec"]["securityContext"]["seccompProfile"] == found
    assert (probing.unlike(made, sandbox) == "") is stands


@pytest.mark.parametrize("container", ["agent", "clone", "claude-code"])
def test_the_file_that_a_node_lacks_is_named_with_what_to_do(container: str) -> None:
    state = state_of(waiting(running(), "CreateContainerError", TOLD, container))
    assert (state.status, state.reason) == (ConditionStatus.FALSE, Reason.PROFILE_MISSING)
    for word in ("node-7", FILE, "manifests/seccomp/strict.json", "RuntimeDefault"):
        assert word in state.message


@pytest.mark.parametrize(
    ("reason", "message", "spec"),
    [
        ("CreateContainerError", "failed to reserve container name", {}),
        ("CreateContainerError", None, {}),
        ("CrashLoopBackOff", TOLD, {}),
        # A pod that does not ask for the file: whatever its container's error says.
        ("CreateContainerError", TOLD, {"security": {}}),
    ],
)
def test_no_other_failure_is_taken_for_it(reason: str, message: str | None, spec: Any) -> None:
    state = state_of(waiting(running(**spec), reason, message))
    assert state.reason is Reason.CONTAINER_FAILING
    # What the kubelet says of a container that can't be made is the only word on why.
    assert (message in state.message) if message and reason != "CrashLoopBackOff" else f"({reason})" in state.message


def test_nor_does_it_make_the_operator_give_up_image_volumes() -> None:
    spec = {"image": {"repository": "example.org/any", "tag": "1"}}
    made = copy.deepcopy(objects.pod(blueprint(**spec), None, image_volumes=True))
    made["metadata"] |= {"uid": "u"}
    assert not lacks_image_volumes(waiting(made, "CreateContainerError", TOLD))
    assert lacks_image_volumes(waiting(made, "CreateContainerError", "failed to mount"))


APP_ARMOR: Any = {"security": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "claude"}}}


def test_a_profile_of_app_armor_is_in_the_pod_and_in_what_probes_it() -> None:
    wanted = {"type": "Localhost", "localhostProfile": "claude"}
    sandbox = running(**APP_ARMOR)
    assert sandbox["spec"]["securityContext"]["appArmorProfile"] == wanted
    made = probing.document(IDENTITY, sandbox, PROBE, "probe", "{}", objects.profiles(blueprint(**APP_ARMOR)))
    assert made["spec"]["securityContext"]["appArmorProfile"] == wanted
    assert probing.unlike(made, sandbox) == ""
    # Who asks for none has what there was before there was the field.
    assert "appArmorProfile" not in running(security={})["spec"]["securityContext"]
    other = running(security={})
    other["spec"]["securityContext"]["appArmorProfile"] = {"type": "Unconfined"}
    made = probing.document(IDENTITY, other, PROBE, "probe", "{}", objects.profiles(blueprint(security={})))
    assert "appArmorProfile" not in made["spec"]["securityContext"]
    assert probing.unlike(made, other)


NO_APP_ARMOR = {"reason": "AppArmor", "message": "Cannot enforce AppArmor: AppArmor is not enabled on the host"}


@pytest.mark.parametrize("phase", ["Pending", "Failed"])
def test_a_node_without_app_armor_is_named(phase: str) -> None:
    """A kubelet lets the pod wait, with containers that are Blocked, or refuses it."""
    pod = waiting(running(**APP_ARMOR), "Blocked", None)
    pod["status"] |= {**NO_APP_ARMOR, "phase": phase}
    state = state_of(pod)
    assert (state.status, state.reason) == (ConditionStatus.FALSE, Reason.PROFILE_MISSING)
    for word in ("node-7", "claude", "no AppArmor", "spec.security.appArmorProfile", "not enabled on the host"):
        assert word in state.message


def test_and_so_is_one_that_has_not_loaded_the_profile() -> None:
    told = "failed to create containerd container: apparmor profile not found claude"
    state = state_of(waiting(running(**APP_ARMOR), "CreateContainerError", told))
    assert state.reason is Reason.PROFILE_MISSING
    assert "it has not loaded the profile claude" in state.message
    assert state_of(waiting(running(security={}), "CreateContainerError", told)).reason is Reason.CONTAINER_FAILING
