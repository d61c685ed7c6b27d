"""An object under one of a sandbox's names that somebody else made is refused, never taken, never changed."""

from typing import Any

import pytest
from world import PORTS, World

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes import resources as r

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
