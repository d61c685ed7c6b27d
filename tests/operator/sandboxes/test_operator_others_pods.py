"""Pods that say they are a sandbox's, and admission that makes another pod of the sandbox's own.

Gained before: a tenant's pod with the sandbox's owner reference was taken for the operator's, with another command,
the model's address pointed elsewhere by `hostAliases`, another resolver, or a `subPath` that left the managed settings
empty: Ready, Compliant and not drifted. And where a webhook changed pods, `Recreate` ended the agent every five minutes
for ever, with the advice to set what was set. Closed by knowing pods by the UID that the operator's own create was
answered with, by comparing all of a pod, and by asking what admission makes of ours
(`backends/kubernetes/admission.py`, `drift.py`).
"""

import asyncio
from typing import Any

import pytest
from admission import webhook
from kubelet import Kubelet
from ledger import says
from world import World

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Obj

pytestmark = pytest.mark.controlplane

CHILD = "sandbox-alice"


def _like(pod: Obj) -> dict[str, Any]:
    """A pod as anybody can make it who may look at the sandbox's own."""
    metadata = {key: pod["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    return {"metadata": metadata, "spec": spec}


def _container(pod: dict[str, Any], **changed: Any) -> None:
    pod["spec"]["containers"][0] |= changed


def _without_settings(pod: dict[str, Any]) -> None:
    for mount in pod["spec"]["containers"][0]["volumeMounts"]:
        if mount["name"] == "settings":
            mount["subPath"] = "nothing"


CHANGES = {
    "another command": lambda pod: _container(pod, command=["sh", "-c", "sleep 1000"]),
    "another address of the model": lambda pod: pod["spec"].update(
        hostAliases=[{"ip": "192.0.2.7", "hostnames": ["api.anthropic.com"]}]
    ),
    "another resolver": lambda pod: pod["spec"].update(dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.7"]}),
    "no settings": _without_settings,
    "a place of its own choice": lambda pod: pod["spec"].update(nodeName="node-a", priorityClassName=""),
    "another network by annotation": lambda pod: pod["metadata"]["annotations"].update({"k8s.v1.cni.cncf.io/x": "net"}),
}


async def _replaced(world: World, change: Any) -> Obj:
    """Put another pod in the place of the sandbox's, while nobody looks."""
    operator = world.operator()
    await operator.start()
    await world.create("alice")
    await world.ready("alice")
    await operator.stop()
    pod = world.child(r.PODS, "alice")
    assert pod is not None
    theirs = _like(pod)
    change(theirs)
    await world.api.delete(r.PODS, CHILD, world.namespace, grace_seconds=0)
    made = await world.api.create(r.PODS, theirs, world.namespace)
    await world.operator().start()
    return made


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "a place of its own choice"])
async def test_another_pod_in_its_place_is_refused_and_left_alone(world: World, change: str) -> None:
    made = await _replaced(world, CHANGES[change])
    stalled = await world.said("alice", "Stalled", "True", "ForeignObject")
    assert f"Pod {CHILD}" in stalled["message"]
    sandbox = world.sandbox("alice")
    assert says(sandbox, "Ready", "False", "ForeignObject")
    assert not says(sandbox, "Compliant", "True")
    untouched = world.ledger.get(r.PODS, CHILD)
    assert untouched is not None
    assert untouched["metadata"]["uid"] == made["metadata"]["uid"]
    assert untouched["metadata"].get("deletionTimestamp") is None
    await world.api.delete(r.PODS, CHILD, world.namespace, grace_seconds=0)
    await world.ready("alice")


@pytest.mark.parametrize("renewed", [False, True], ids=["same key", "another key meanwhile"])
async def test_a_pod_whose_making_was_not_recorded_is_recognized(world: World, kubelet: Kubelet, renewed: bool) -> None:
    """As after a crash between the create and the status; nothing of it is anybody else's."""
    kubelet.holds.add(world.namespace)
    operator = world.operator()
    world.gate.strike_at(4, world.gate.kill_after(operator.kill))
    await operator.start()
    await world.create("alice")
    pod = await world.ledger.until(lambda: world.child(r.PODS, "alice"), "a pod")
    if renewed:
        await world.change_secret(b"another key")
    await world.operator().start()
    await kubelet.release(world.namespace)
    sandbox = await world.ready("alice")
    assert pod is not None
    assert sandbox["status"]["workload"]["uid"] == pod["metadata"]["uid"]


ADDED: dict[str, list[dict[str, Any]]] = {
    "a container": [
        {"op": "add", "path": "/spec/containers/-", "value": {"name": "mesh", "image": "example.org/mesh"}}
    ],
    "a variable": [{"op": "add", "path": "/spec/containers/0/env/-", "value": {"name": "MESH", "value": "on"}}],
    "a volume": [{"op": "add", "path": "/spec/volumes/-", "value": {"name": "mesh", "emptyDir": {}}}],
    "a sidecar": [
        {
            "op": "add",
            "path": "/spec/initContainers",
            "value": [{"name": "mesh", "image": "example.org/mesh", "restartPolicy": "Always"}],
        }
    ],
    "resources": [{"op": "replace", "path": "/spec/containers/0/resources/limits/memory", "value": "4Gi"}],
    "seccomp": [{"op": "replace", "path": "/spec/securityContext/seccompProfile", "value": {"type": "Unconfined"}}],
    "an alias": [
        {"op": "add", "path": "/spec/hostAliases", "value": [{"ip": "192.0.2.7", "hostnames": ["api.anthropic.com"]}]}
    ],
    "a policy of pulling": [{"op": "replace", "path": "/spec/containers/0/imagePullPolicy", "value": "Never"}],
    "an image": [{"op": "replace", "path": "/spec/containers/0/image", "value": "mirror.example/claude:1"}],
    "a name server": [{"op": "add", "path": "/spec/dnsConfig", "value": {"nameservers": ["192.0.2.7"]}}],
    "a hook": [
        {
            "op": "add",
            "path": "/spec/containers/0/lifecycle",
            "value": {"postStart": {"exec": {"command": ["mesh"]}}},
        }
    ],
}
PATHS = {
    "a container": "spec.containers[mesh]",
    "a variable": "spec.containers[agent].env[MESH]",
    "a volume": "spec.volumes[mesh]",
    "a sidecar": "spec.initContainers",
    "resources": "spec.containers[agent].resources.limits.memory",
    "seccomp": "spec.securityContext.seccompProfile",
    "an alias": "spec.hostAliases",
    "a policy of pulling": "spec.containers[agent].imagePullPolicy",
    "an image": "spec.containers[agent].image",
    "a name server": "spec.dnsConfig",
    "a hook": "spec.containers[agent].lifecycle",
}
RENAMED: dict[str, list[dict[str, Any]]] = {
    "no label of its": [{"op": "remove", "path": "/metadata/labels/claudesandbox.dev~1sandbox"}],
    "another label": [{"op": "replace", "path": "/metadata/labels/claudesandbox.dev~1sandbox", "value": "bob"}],
}
HARMLESS: dict[str, list[dict[str, Any]]] = {
    "a toleration": [
        {"op": "add", "path": "/spec/tolerations", "value": [{"key": "spot", "operator": "Exists"}]},
    ],
    "a label": [{"op": "add", "path": "/metadata/labels/mesh.example~1injected", "value": "true"}],
    "an annotation": [{"op": "add", "path": "/metadata/annotations/mesh.example~1status", "value": "{}"}],
    "a place": [{"op": "add", "path": "/spec/affinity", "value": {"nodeAffinity": {}}}],
}


def _first(changes: dict[str, Any], few: int) -> list[Any]:
    """The names of all; but for a few the tests of them take long together."""
    return [pytest.param(one, marks=[pytest.mark.slow] if at >= few else []) for at, one in enumerate(changes)]


@pytest.mark.parametrize("what", _first(ADDED, 2))
async def test_admission_that_changes_the_pod_is_told_and_not_fought(world: World, what: str) -> None:
    async with webhook(world.api, world.namespace, world.directory, lambda _: ADDED[what]) as asked:
        await world.operator().start()
        await world.create("alice", updateStrategy={"type": "Recreate"})
        stalled = await world.said("alice", "Stalled", "True", "ChangedOnAdmission")
        assert PATHS[what] in stalled["message"]
        assert f"namespace {world.namespace}" in stalled["message"]
        await world.ledger.until(lambda: world.child(r.PODS, "alice") is None, "no pod that is not what is declared")
        before = len(asked)
        await asyncio.sleep(3)
        assert len(asked) == before, "no further pod was made"
    # A new wish is tried at once.
    await world.edit("alice", resources={"cpu": "300m"})
    await world.ready("alice")
    await world.said("alice", "Stalled", "False")


@pytest.mark.parametrize("what", _first(RENAMED, 1))
async def test_a_label_that_admission_changed_is_put_back_once(world: World, what: str) -> None:
    """A label can be changed while a pod lives, and then by it no policy is left behind."""
    async with webhook(world.api, world.namespace, world.directory, lambda _: RENAMED[what]) as asked:
        await world.operator().start()
        await world.create("alice", updateStrategy={"type": "Recreate"})
        await world.ready("alice")
        pod, sandbox = world.child(r.PODS, "alice"), world.sandbox("alice")
        assert pod is not None
        assert sandbox is not None
        assert pod["metadata"]["labels"]["claudesandbox.dev/sandbox"] == "alice"
        assert sandbox["status"]["heals"]["count"] == 1
        before = len(asked)
        await asyncio.sleep(2)
        assert len(asked) == before


@pytest.mark.parametrize("what", _first(HARMLESS, 1))
async def test_admission_that_says_where_a_pod_runs_or_notes_something_is_let_be(world: World, what: str) -> None:
    async with webhook(world.api, world.namespace, world.directory, lambda _: HARMLESS[what]):
        await world.operator().start()
        await world.create("alice", updateStrategy={"type": "Recreate"})
        await world.ready("alice")
        await world.said("alice", "Drifted", "False")
        assert not says(world.sandbox("alice"), "Stalled", "True")


async def test_a_pod_that_admission_changed_before_is_left_to_whoever_works_in_it(world: World) -> None:
    """As an operator finds it that made it before it knew of this."""
    operator = world.operator()
    await operator.start()
    await world.create("alice", updateStrategy={"type": "Recreate"})
    await world.ready("alice")
    await operator.stop()
    pod = world.child(r.PODS, "alice")
    assert pod is not None
    await world.api.delete(r.PODS, CHILD, world.namespace, grace_seconds=0)
    async with webhook(world.api, world.namespace, world.directory, lambda _: ADDED["a variable"]) as asked:
        made = await world.api.create(r.PODS, _like(pod), world.namespace)
        workload = {"workload": {"name": CHILD, "uid": made["metadata"]["uid"]}}
        await world.api.patch_status(r.SANDBOXES, "alice", world.namespace, workload)
        await world.operator().start()
        stalled = await world.said("alice", "Stalled", "True", "ChangedOnAdmission")
        assert "env[MESH]" in stalled["message"]
        await world.said("alice", "Drifted", "True", "ChangedOnAdmission")
        await world.ledger.until(lambda: says(world.sandbox("alice"), "Ready", "True"), "still of use")
        left = world.child(r.PODS, "alice")
        assert left is not None
        assert left["metadata"]["uid"] == made["metadata"]["uid"]
        assert True in asked, "it was asked for by a dry run"


async def test_admission_that_widens_a_policy_is_not_fought_and_nothing_runs_with_it(world: World) -> None:
    change = [{"op": "add", "path": "/spec/egress", "value": [{}]}]
    kind = ("networkpolicies", "networking.k8s.io")
    async with webhook(world.api, world.namespace, world.directory, lambda _: change, *kind) as asked:
        await world.operator().start()
        await world.create("alice")
        await world.said("alice", "Stalled", "True", "ChangedOnAdmission")
        before = len(asked)
        await asyncio.sleep(3)
        assert len(asked) - before <= 2, "it is not made again and again"
        assert world.child(r.PODS, "alice") is None
