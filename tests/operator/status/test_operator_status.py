"""What a sandbox's status says from its first moment on, and of what can't be."""

import itertools
from typing import Any

import pytest
from world import PORTS, World

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionType
from claude_sandbox.kubernetes_api import resources as r

pytestmark = pytest.mark.controlplane


def _statuses(world: World, name: str) -> list[dict[str, Any]]:
    """Every status that the sandbox ever had, oldest first."""
    found = [
        event.obj.get("status") or {}
        for event in world.ledger.history()
        if (event.kind, event.name) == (meta.KIND, name) and event.type != "DELETED"
    ]
    return [status for number, status in enumerate(found) if number == 0 or status != found[number - 1]]


async def test_a_new_sandbox_never_looks_healthy_and_its_first_status_is_complete(world: World) -> None:
    created = await world.create("alice", **PORTS)
    assert created["status"] == {"observedGeneration": -1}
    await world.operator().start()
    await world.ready("alice")
    first, *later = _statuses(world, "alice")
    assert first == {"observedGeneration": -1}
    for status in later:
        conditions = {c["type"]: c for c in status["conditions"]}
        at_times = {ConditionType.REPOSITORIES, ConditionType.CONTAINED, ConditionType.STRAINED}
        at_times |= {ConditionType.BACKUP_VERIFIED, ConditionType.CERTIFICATE_DUE}
        always = [kind for kind in ConditionType if kind not in at_times]
        assert list(conditions) == [str(kind) for kind in always]
        assert {c["observedGeneration"] for c in conditions.values()} == {1} == {status["observedGeneration"]}


async def test_a_condition_changes_its_time_only_when_it_changes_its_status(world: World) -> None:
    await world.operator().start()
    await world.create("alice")
    await world.ready("alice")
    await world.edit("alice", operatingMode="Suspended")
    await world.said("alice", "Ready", "False", "Suspended")
    await world.edit("alice", operatingMode="Running")
    await world.ready("alice")
    histories: dict[str, list[tuple[str, str]]] = {}
    for status in _statuses(world, "alice")[1:]:
        for c in status["conditions"]:
            histories.setdefault(c["type"], []).append((c["status"], c["lastTransitionTime"]))
    assert {status for status, _ in histories["Ready"]} == {"True", "False"}
    for history in histories.values():
        for (before, at), (after, then) in itertools.pairwise(history):
            assert at <= then
            assert before != after or at == then


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"labels": {f"{meta.GROUP}/sandbox": "another"}}, f"metadata.labels[{meta.GROUP}/sandbox]"),
        ({"annotations": {f"{meta.GROUP}/spec-hash": "0"}}, f"metadata.annotations[{meta.GROUP}/spec-hash]"),
    ],
    ids=["label", "annotation"],
)
async def test_what_no_schema_sees_is_refused_and_nothing_is_made(
    world: World, metadata: dict[str, Any], path: str
) -> None:
    await world.operator().start()
    credentials = {"apiKeySecretRef": {"name": "api-key"}, "delivery": "Mounted"}
    spec = {"credentials": credentials, "workspace": {"type": "EmptyDir"}}
    body = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": "alice"} | metadata, "spec": spec}
    await world.api.create(r.SANDBOXES, body, world.namespace)
    stalled = await world.said("alice", "Stalled", "True", "InvalidSpec")
    assert path in stalled["message"]
    assert "remove it" in stalled["message"]
    ready = await world.said("alice", "Ready", "False", "InvalidSpec")
    assert path in ready["message"]
    await world.told("alice", "Refused", path)
    assert world.leftovers() == []
    (kind,) = metadata
    await world.change(r.SANDBOXES, "alice", {"metadata": {kind: None}})
    await world.ready("alice")
    assert world.heals("alice") == 0


async def test_an_operator_without_an_image_for_gateways_names_the_option_and_makes_no_pod(world: World) -> None:
    await world.operator().start()
    await world.create("alice", credentials={"apiKeySecretRef": {"name": "api-key"}})
    stalled = await world.said("alice", "Stalled", "True", "GatewayNotReady")
    assert "--gateway-image" in stalled["message"]
    assert world.child(r.PODS, "alice") is None
    await world.edit("alice", credentials={"delivery": "Mounted"})
    await world.ready("alice")


async def test_a_sandbox_that_becomes_invalid_keeps_what_runs(world: World) -> None:
    await world.operator().start()
    await world.create("alice")
    await world.ready("alice")
    before = world.child(r.PODS, "alice")
    await world.change(r.SANDBOXES, "alice", {"metadata": {"labels": {f"{meta.GROUP}/sandbox": "another"}}})
    await world.said("alice", "Stalled", "True", "InvalidSpec")
    after = world.child(r.PODS, "alice")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    world.assert_always_isolated()


async def test_what_the_api_server_refuses_is_reported_with_its_words(world: World) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await world.api.create(r.RESOURCE_QUOTAS, quota, world.namespace)
    await world.quota_is_counted("none")
    await world.operator().start()
    await world.create("alice")
    stalled = await world.said("alice", "Stalled", "True", "Rejected")
    assert "exceeded quota: none" in stalled["message"]
    assert world.child(r.NETWORK_POLICIES, "alice") is not None
    await world.api.patch(r.RESOURCE_QUOTAS, "none", world.namespace, {"spec": {"hard": {"pods": "5"}}})
    await world.ready("alice")
    assert world.heals("alice") == 0


async def test_a_namespace_that_is_deleted_takes_everything_along_and_is_always_isolated(world: World) -> None:
    operator = world.operator()
    await operator.start()
    for name in ("alice", "bob"):
        await world.create(name, **PORTS)
    for name in ("alice", "bob"):
        await world.ready(name)
    await world.api.delete(r.NAMESPACES, world.namespace)
    await world.ledger.until(lambda: not world.ledger.all(r.SANDBOXES) and not world.leftovers(), "an empty namespace")
    assert operator.alive
    world.assert_always_isolated()
