"""An object under one of a sandbox's names that somebody else made is refused, never taken, never changed."""

from typing import Any

import pytest
from kubelet import Kubelet
from ledger import condition, says
from oracle import complaints
from world import PORTS, World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r

pytestmark = pytest.mark.controlplane

CHILD = "sandbox-alice"
WORKSPACE = "sandbox-alice-workspace"

FOREIGN: dict[str, tuple[r.Resource, str, dict[str, Any]]] = {
    "ServiceAccount": (r.SERVICE_ACCOUNTS, CHILD, {}),
    "NetworkPolicy": (r.NETWORK_POLICIES, CHILD, {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
    "baseline": (r.NETWORK_POLICIES, meta.BASELINE_POLICY, {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
    "Service": (r.SERVICES, CHILD, {"spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}}}),
    "PersistentVolumeClaim": (
        r.PERSISTENT_VOLUME_CLAIMS,
        WORKSPACE,
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    ),
    "Pod": (
        r.PODS,
        CHILD,
        {"spec": {"containers": [{"name": "theirs", "image": "example.org/theirs"}], "serviceAccountName": "default"}},
    ),
}
LABELS = {
    "without labels": {},
    # Labels can be copied; they are for finding, not for trusting.
    "with our labels": {meta.LABEL_SANDBOX: "alice", meta.LABEL_SANDBOX_UID: "0"},
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("kind", FOREIGN)
async def test_a_foreign_object_is_refused_and_when_it_is_gone_all_goes_on(
    world: World, kind: str, labels: str
) -> None:
    resource, name, body = FOREIGN[kind]
    await world.ledger.until(lambda: world.ledger.get(r.SERVICE_ACCOUNTS, "default"), "the default account")
    theirs = await world.api.create(
        resource, body | {"metadata": {"name": name, "labels": LABELS[labels]}}, world.namespace
    )
    await world.operator().start()
    await world.create("alice", **PORTS, workspace={"type": "PersistentVolumeClaim", "size": "1Gi"})
    stalled = await world.said("alice", "Stalled", "True", "ForeignObject")
    assert f"{resource.kind} {name}" in stalled["message"]
    assert "Delete or rename it" in stalled["message"]
    await world.said("alice", "Ready", "False", "ForeignObject")
    await world.told("alice", "Refused", name)
    untouched = world.ledger.get(resource, name)
    assert untouched is not None
    assert untouched["metadata"]["uid"] == theirs["metadata"]["uid"]
    theirs_only = [call for call in world.gate.writes if call.path.partition("?")[0].endswith(f"/{name}")]
    assert theirs_only == [], "nothing was ever written to it"
    if resource is not r.PODS:
        assert world.child(r.PODS, "alice") is None, "nothing runs that could not be set up as it should"
    await world.delete(name, resource)
    await world.ready("alice")
    assert world.heals("alice") == 0


async def test_a_foreign_policy_under_the_baselines_name_is_not_deleted_with_the_last_sandbox(world: World) -> None:
    resource, name, body = FOREIGN["baseline"]
    await world.api.create(resource, body | {"metadata": {"name": name}}, world.namespace)
    operator = world.operator()
    await operator.start()
    await world.create("alice")
    await world.said("alice", "Stalled", "True", "ForeignObject")
    await world.delete("alice")
    await world.gone(but=(name,))
    await operator.has_looked(0)
    assert world.ledger.get(resource, name) is not None


async def test_the_baseline_stays_as_long_as_there_is_a_sandbox(world: World) -> None:
    await world.operator().start()
    for name in ("alice", "bob"):
        await world.create(name)
    for name in ("alice", "bob"):
        await world.ready(name)
    await world.delete("alice")
    await world.ledger.until(lambda: not world.owned_by("alice"), "nothing left of alice")
    await world.create("carol")
    await world.ready("carol")
    assert not any((event.type, event.name) == ("DELETED", meta.BASELINE_POLICY) for event in world.ledger.history())
    assert world.heals("bob") == world.heals("carol") == 0
    for name in ("bob", "carol"):
        await world.delete(name)
    await world.gone()
    world.assert_always_isolated()


async def test_the_object_of_another_sandbox_is_refused(world: World) -> None:
    await world.operator().start()
    bob = await world.create("bob")
    await world.ready("bob")
    owner = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "name": "bob", "uid": bob["metadata"]["uid"]}
    metadata = {"name": CHILD, "ownerReferences": [owner | {"controller": True}]}
    theirs = await world.api.create(r.SERVICE_ACCOUNTS, {"metadata": metadata}, world.namespace)
    await world.create("alice")
    stalled = await world.said("alice", "Stalled", "True", "ForeignObject")
    assert f"ServiceAccount {CHILD}" in stalled["message"]
    untouched = world.ledger.get(r.SERVICE_ACCOUNTS, CHILD)
    assert untouched is not None
    assert untouched["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


async def test_an_object_whose_owner_was_taken_away_is_nobodys_and_refused(world: World) -> None:
    await world.operator().start()
    await world.create("alice")
    await world.ready("alice")
    await world.change(r.NETWORK_POLICIES, CHILD, {"metadata": {"ownerReferences": None}})
    stalled = await world.said("alice", "Stalled", "True", "ForeignObject")
    assert f"NetworkPolicy {CHILD}" in stalled["message"]
    await world.delete(CHILD, r.NETWORK_POLICIES)
    await world.said("alice", "Stalled", "False")
    await world.ready("alice")


async def test_the_objects_of_an_earlier_sandbox_of_the_same_name_are_not_taken_over(world: World) -> None:
    operator = world.operator()
    await operator.start()
    first = await world.create("alice", **PORTS)
    await world.ready("alice")
    await world.delete("alice")
    second = await world.create("alice", **PORTS)
    await world.ready("alice")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    for kind in (r.SERVICE_ACCOUNTS, r.NETWORK_POLICIES, r.SERVICES, r.PODS):
        obj = world.child(kind, "alice")
        assert obj is not None
        assert [owner["uid"] for owner in obj["metadata"]["ownerReferences"]] == [second["metadata"]["uid"]]
    assert world.heals("alice") == 0
    reasons = {
        event.get("reason") for event in world.ledger.all(r.EVENTS) if event.get("regarding", {}).get("name") == "alice"
    }
    assert "Refused" not in reasons, "what is being collected is in nobody's way"
    world.assert_always_isolated()


def _progress(world: World) -> str:
    """What the status says that is waited for; empty where nothing is."""
    found = condition(world.sandbox("alice"), "Reconciling")
    return str(found["message"]) if (found.get("status"), found.get("reason")) == ("True", "Progressing") else ""


async def _replaced(world: World, kubelet: Kubelet) -> None:
    """A sandbox deleted and made again while the earlier one's pod takes its time to end."""
    await world.create("alice", **PORTS)
    await world.ready("alice")
    kubelet.holds.add(world.namespace)
    await world.delete("alice")
    await world.create("alice", **PORTS)


async def test_what_an_earlier_sandbox_of_the_same_name_left_is_waited_for(world: World, kubelet: Kubelet) -> None:
    await world.operator().start()
    await _replaced(world, kubelet)
    # Everything else is collected at once.
    await world.ledger.until(lambda: _progress(world).endswith(" had: Pod sandbox-alice."), "the pod waited for")
    found = world.sandbox("alice")
    assert "an earlier sandbox of this name" in condition(found, "Ready")["message"]
    assert says(found, "Ready", "False", "Progressing")
    assert says(found, "Stalled", "False")
    await kubelet.release(world.namespace)
    await world.ready("alice")
    assert world.heals("alice") == 0
    assert not complaints(world.ledger, "alice")
    world.assert_always_isolated()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_what_an_earlier_sandbox_left_is_not_waited_for_for_ever(world: World, kubelet: Kubelet) -> None:
    await world.operator("--resync=5").start()
    await _replaced(world, kubelet)
    told = await world.ledger.until(
        lambda: says(world.sandbox("alice"), "Stalled", "True", "ForeignObject"), "somebody told to act", 200
    )
    assert told
    await world.told("alice", "Refused", "Pod sandbox-alice. Delete")
    await kubelet.release(world.namespace)
    await world.ready("alice")
    assert world.heals("alice") == 0
    world.assert_always_isolated()


async def test_an_unseen_object_of_an_earlier_sandbox_is_not_taken_over(world: World) -> None:
    owner = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "name": "alice", "uid": "an-earlier-one"}
    metadata = {
        "name": CHILD,
        "labels": {meta.LABEL_SANDBOX: "alice"},
        "ownerReferences": [owner | {"controller": True}],
        # The collector asks for its deletion, and it stays.
        "finalizers": ["example.org/held"],
    }
    operator = world.operator()
    await operator.start()
    await operator.is_up()
    world.gate.tamper = lambda path, line: None if "/serviceaccounts?" in path else line
    left = await world.api.create(r.SERVICE_ACCOUNTS, {"metadata": metadata}, world.namespace)
    await world.create("alice")
    await world.ledger.until(lambda: f"ServiceAccount {CHILD}" in _progress(world), "the account waited for")
    assert world.child(r.PODS, "alice") is None
    world.gate.tamper = lambda _, line: line
    await world.change(r.SERVICE_ACCOUNTS, CHILD, {"metadata": {"finalizers": None}})
    await world.ready("alice")
    kept = world.child(r.SERVICE_ACCOUNTS, "alice")
    assert kept is not None
    assert kept["metadata"]["uid"] != left["metadata"]["uid"]
    assert world.heals("alice") == 0
    statuses = [event.obj for event in world.ledger.history() if event.kind == r.SANDBOXES.kind]
    assert not any(says(obj, "Stalled", "True") for obj in statuses), "nobody had to act"


async def test_what_was_orphaned_is_refused(world: World) -> None:
    await world.operator().start()
    await world.create("alice", **PORTS)
    await world.ready("alice")
    # As kubectl delete --cascade=orphan does.
    await world.api.delete(r.SANDBOXES, "alice", world.namespace, propagation="Orphan")
    await world.ledger.until(lambda: world.sandbox("alice") is None, "alice deleted")
    await world.create("alice", **PORTS)
    stalled = await world.said("alice", "Stalled", "True", "ForeignObject")
    children = (r.SERVICE_ACCOUNTS, r.NETWORK_POLICIES, r.SERVICES, r.PODS)
    assert all(f"{kind.kind} {CHILD}" in stalled["message"] for kind in children)
    for kind in children:
        await world.delete(CHILD, kind)
    await world.ready("alice")
    assert world.heals("alice") == 0
    world.assert_always_isolated()


async def test_a_retained_workspace_is_taken_up_by_the_next_sandbox_of_its_name(world: World) -> None:
    await world.operator().start()
    workspace = {"type": "PersistentVolumeClaim", "size": "1Gi"}
    await world.create("alice", workspace=workspace)
    await world.ready("alice")
    claim = world.ledger.get(r.PERSISTENT_VOLUME_CLAIMS, WORKSPACE)
    await world.delete("alice")
    await world.gone(but=(WORKSPACE,))
    await world.create("alice", workspace=workspace)
    await world.ready("alice")
    kept = world.ledger.get(r.PERSISTENT_VOLUME_CLAIMS, WORKSPACE)
    assert claim is not None
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    assert world.heals("alice") == 0
    world.assert_always_isolated()
