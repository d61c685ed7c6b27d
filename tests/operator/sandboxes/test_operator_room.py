"""What a sandbox may ask for of its cluster: a registry's login, a RuntimeClass, users of its own; and what is said."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubelet import Kubelet
from operator_process import IMAGE
from world import World

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api

pytestmark = pytest.mark.controlplane

PRIVATE = {
    "image": {"repository": "registry.example.org/team/claude", "tag": "1", "pullSecretRefs": [{"name": "ghcr"}]}
}
PULL_SECRETS = "claudesandbox.dev/pull-secrets"


async def allow(world: World, api: Api, names: str | None) -> None:
    """Say in the namespace's annotation with which Secrets images may be pulled."""
    patch = {"metadata": {"annotations": {PULL_SECRETS: names}}}
    await api.patch(r.NAMESPACES, world.namespace, None, patch)


def spec_of(world: World, name: str) -> Any:
    pod = world.child(r.PODS, name)
    assert pod is not None
    return pod["spec"]


def control(world: World, name: str, id: str) -> str:
    """The result of one control, as the sandbox's status has it."""
    compliance = (world.sandbox(name) or {}).get("status", {}).get("compliance") or {"passed": [], "controls": []}
    found = {one: "Pass" for group in compliance["passed"] for one in group["controls"]}
    found |= {one["id"]: one["result"] for one in compliance["controls"]}
    return found.get(id, "")


async def test_a_login_of_the_namespace_is_used_only_where_the_namespace_names_it(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    await allow(world, api, "other")
    # One for single namespaces may not follow them, and looks once a minute.
    await world.operator(cluster_wide=True).start()
    await world.create("alice", **PRIVATE)
    stalled = await world.said("alice", "Stalled", "True", "PullSecretNotAllowed")
    assert f"{PULL_SECRETS}=other,ghcr" in stalled["message"]
    assert world.child(r.PODS, "alice") is None
    await allow(world, api, "other, ghcr")
    await world.ready("alice")
    assert spec_of(world, "alice")["imagePullSecrets"] == [{"name": "ghcr"}]
    await world.said("alice", "Drifted", "False")
    await world.said("alice", "Stalled", "False")


async def test_what_runs_goes_on_when_its_login_is_taken_back_and_no_other_pod_is_made(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    await allow(world, api, "ghcr")
    await world.operator(cluster_wide=True).start()
    await world.create("alice", **PRIVATE)
    await world.ready("alice")
    before = world.child(r.PODS, "alice")
    await allow(world, api, None)
    await world.said("alice", "Stalled", "True", "PullSecretNotAllowed")
    assert before is not None
    assert (world.child(r.PODS, "alice") or {})["metadata"]["uid"] == before["metadata"]["uid"]
    await world.delete("sandbox-alice", r.PODS)
    await world.said("alice", "Ready", "False", "PullSecretNotAllowed")
    assert world.child(r.PODS, "alice") is None


async def test_a_login_of_the_service_account_is_as_good_and_is_no_drift(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    kubelet.holds.add(world.namespace)
    await world.operator().start()
    await world.create("alice", image={"repository": "registry.example.org/team/claude", "tag": "1"})
    await world.ledger.until(lambda: world.child(r.SERVICE_ACCOUNTS, "alice") is not None, "the ServiceAccount")
    await world.change(r.SERVICE_ACCOUNTS, "sandbox-alice", {"imagePullSecrets": [{"name": "ghcr"}]})
    await world.delete("sandbox-alice", r.PODS, missing_ok=True)
    await kubelet.release(world.namespace)
    await world.ready("alice")
    await world.said("alice", "Drifted", "False")
    assert spec_of(world, "alice")["imagePullSecrets"] == [{"name": "ghcr"}]
    account = world.child(r.SERVICE_ACCOUNTS, "alice")
    assert account is not None
    assert account["imagePullSecrets"] == [{"name": "ghcr"}]


@pytest.fixture
async def classes(api: Api) -> AsyncIterator[None]:
    """Two RuntimeClasses: one is gVisor's, the other shares the node's kernel."""
    made = {"room-gvisor": "runsc", "room-plain": "runc"}
    for name, handler in made.items():
        await api.create(r.RUNTIME_CLASSES, {"metadata": {"name": name}, "handler": handler})
    yield
    for name in made:
        await api.delete(r.RUNTIME_CLASSES, name)


async def test_a_runtime_class_is_asked_for_where_it_is_allowed_and_is_looked_at(
    world: World, classes: None, kubelet: Kubelet
) -> None:
    await world.operator("--runtime-class=room-gvisor", "--runtime-class=room-plain").start()
    for name, wanted in (("alice", "room-gvisor"), ("bob", "room-plain")):
        await world.create(name, security={"runtimeClassName": wanted})
        await world.ready(name)
        assert spec_of(world, name)["runtimeClassName"] == wanted
        await world.said(name, "Drifted", "False")
    await world.ledger.until(lambda: control(world, "alice", "KERN-06") == "Pass", "KERN-06 of gVisor")
    await world.ledger.until(lambda: control(world, "bob", "KERN-06") == "Fail", "KERN-06 of runc")


async def test_a_runtime_class_that_nobody_allowed_is_refused_and_one_that_is_not_there_is_told(
    world: World, kubelet: Kubelet
) -> None:
    await world.operator("--runtime-class=not-there").start()
    await world.create("alice", security={"runtimeClassName": "privileged"})
    stalled = await world.said("alice", "Stalled", "True", "InvalidSpec")
    assert "spec.security.runtimeClassName" in stalled["message"]
    assert "write one of not-there" in stalled["message"]
    await world.create("bob", security={"runtimeClassName": "not-there"})
    refused = await world.said("bob", "Stalled", "True", "Rejected")
    assert 'RuntimeClass "not-there" not found' in refused["message"]
    assert world.child(r.PODS, "alice") is world.child(r.PODS, "bob") is None


@pytest.mark.slow
async def test_a_release_of_claude_code_is_had_where_it_is_offered_and_another_one_is_refused(
    world: World, kubelet: Kubelet
) -> None:
    await world.operator(
        "--claude-code=3.0.0=example.org/sandbox:3", "--claude-code=2.9.0=example.org/sandbox:2"
    ).start()
    await world.create("alice", claudeCode={"version": "3.0.0"})
    await world.create("bob", claudeCode={"version": "4.0.0"})
    await world.create("carol")
    await world.ready("alice")
    await world.ready("carol")
    assert spec_of(world, "alice")["containers"][0]["image"] == "example.org/sandbox:3"
    assert spec_of(world, "carol")["containers"][0]["image"] == IMAGE
    stalled = await world.said("bob", "Stalled", "True", "InvalidSpec")
    assert "spec.claudeCode.version" in stalled["message"]
    assert "write one of 2.9.0, 3.0.0, or remove it" in stalled["message"]
    assert world.child(r.PODS, "bob") is None
    # Another release is another workload, which takes the place of one that runs as spec.updateStrategy says.
    await world.edit("carol", claudeCode={"version": "3.0.0"})
    await world.said("carol", "Drifted", "True", "SpecChanged")


async def test_the_strict_filter_is_a_file_of_the_nodes_where_an_administrator_says_so(
    world: World, kubelet: Kubelet
) -> None:
    strict = {"seccompProfile": {"type": "Strict"}}
    operator = world.operator()
    await operator.start()
    await world.create("alice", security=strict)
    stalled = await world.said("alice", "Stalled", "True", "InvalidSpec")
    assert "--strict-seccomp-profile" in stalled["message"]
    assert world.child(r.PODS, "alice") is None
    await operator.stop()
    await world.operator("--strict-seccomp-profile=claude-sandbox/strict.json").start()
    await world.ready("alice")
    assert spec_of(world, "alice")["securityContext"]["seccompProfile"] == {
        "type": "Localhost",
        "localhostProfile": "claude-sandbox/strict.json",
    }
    await world.said("alice", "Drifted", "False")
    # What is in the node's file only a probe tells, and this operator makes none: not known, and not held against it.
    await world.ledger.until(lambda: control(world, "alice", "KERN-01") == "Unknown", "KERN-01")
    await world.said("alice", "Compliant", "True")


async def test_users_of_its_own_are_asked_for_and_measured(world: World, kubelet: Kubelet) -> None:
    await world.operator().start()
    await world.create("alice", security={"userNamespace": True})
    await world.ready("alice")
    assert spec_of(world, "alice")["hostUsers"] is False
    await world.ledger.until(lambda: control(world, "alice", "PRIV-06") == "Pass", "PRIV-06")
    await world.said("alice", "Drifted", "False")


async def test_a_node_that_can_not_give_a_pod_users_of_its_own_is_named(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    kubelet.holds.add(world.namespace)

    async def tell(**features: bool) -> None:
        handlers = [{"name": "", "features": features}] if features else None
        await api.patch_status(r.NODES, kubelet.node, None, {"runtimeHandlers": handlers})

    await tell(userNamespaces=False, recursiveReadOnlyMounts=True)
    try:
        await world.operator().start()
        await world.create("alice", security={"userNamespace": True})
        told = await world.said("alice", "Ready", "False", "ContainerFailing")
        assert kubelet.node in told["message"]
        assert "remove spec.security.userNamespace" in told["message"]
        # A pod that asks for none of that is merely on its way.
        await world.create("bob")
        await world.said("bob", "Ready", "False", "PodPending")
        await tell(userNamespaces=True)
        await kubelet.release(world.namespace)
        await world.ready("alice")
    finally:
        await tell()
