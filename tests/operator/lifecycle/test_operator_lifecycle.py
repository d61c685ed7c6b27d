"""A sandbox's time, by a real API server: it ends when it is to, comes back with more, and nobody deletes what was just
given more."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from gateway_place import define
from kubelet import Kubelet
from ledger import says
from world import BROKERED, WITH_GATEWAYS, World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj

pytestmark = pytest.mark.controlplane

VOLUME = {"type": "PersistentVolumeClaim", "size": "1Gi"}
GONE = VOLUME | {"retention": "Delete"}


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def ending(seconds: float, policy: str = "Suspend") -> dict[str, str]:
    return {"shutdownTime": at(seconds), "shutdownPolicy": policy}


def lifecycle(world: World) -> dict[str, Any]:
    return dict(((world.sandbox("alice") or {}).get("status") or {}).get("lifecycle") or {})


async def without_a_pod(world: World) -> dict[str, Any]:
    """Wait until it is suspended, and its pod is gone."""
    said = await world.said("alice", "Ready", "False", "Suspended")
    await world.ledger.until(lambda: world.child(r.PODS, "alice") is None, "the end of the pod")
    return said


async def test_it_ends_keeps_its_workspace_over_a_restart_and_comes_back_with_more_time(
    world: World, kubelet: Kubelet
) -> None:
    operator = world.operator()
    await operator.start()
    await world.create("alice", workspace=VOLUME, lifecycle=ending(3600))
    await world.ready("alice")
    await world.edit("alice", lifecycle=ending(2))
    said = await without_a_pod(world)
    assert "by spec.lifecycle.shutdownTime" in said["message"]
    assert "the workspace is kept" in said["message"]
    assert "later shutdownTime" in said["message"]
    assert lifecycle(world)["ended"]["by"] == "ShutdownTime"
    await world.told("alice", "Ended", "spec.lifecycle.shutdownTime")
    claim = world.child(r.PERSISTENT_VOLUME_CLAIMS, "alice")
    assert claim is not None
    before = world.versions()
    await operator.crash()
    await world.operator().start()
    # What is made after it shows that the new operator has looked at all there was.
    await world.create("bob", lifecycle={"ttl": "8h"})
    bob = await world.ready("bob")
    assert bob["status"]["lifecycle"]["endsAt"]
    assert {name: version for name, version in world.versions().items() if name in before} == before
    await world.edit("alice", lifecycle=ending(3600))
    await world.ready("alice")
    again = world.child(r.PERSISTENT_VOLUME_CLAIMS, "alice")
    assert again is not None
    assert again["metadata"]["uid"] == claim["metadata"]["uid"]
    assert world.heals("alice") == 0
    await world.edit("alice", lifecycle=None)
    await world.ledger.until(lambda: not lifecycle(world), "no word of a time")
    world.assert_always_isolated()


async def test_a_time_that_passes_while_no_operator_runs_takes_effect_when_one_does(
    world: World, kubelet: Kubelet
) -> None:
    operator = world.operator()
    await operator.start()
    await world.create("alice", lifecycle=ending(3600))
    await world.ready("alice")
    await operator.crash()
    await world.edit("alice", lifecycle=ending(-60))
    await world.operator().start()
    await without_a_pod(world)


@pytest.mark.parametrize("workspace", [pytest.param(VOLUME, marks=pytest.mark.slow), GONE])
async def test_with_delete_it_goes_and_its_workspace_as_that_says(
    world: World, kubelet: Kubelet, workspace: dict[str, str]
) -> None:
    await world.operator().start()
    await world.create("alice", workspace=workspace, lifecycle=ending(3600, "Delete"))
    await world.ready("alice")
    await world.edit("alice", lifecycle=ending(2, "Delete"))
    kept = ("sandbox-alice-workspace",) if workspace is VOLUME else ()
    await world.gone(but=kept)
    claim = world.child(r.PERSISTENT_VOLUME_CLAIMS, "alice")
    assert (claim is not None) is (workspace is VOLUME)
    await world.told("alice", "Ended", "it is deleted")
    # Its pod has ended before it went.
    deletions = [kind for kind, name in ended(world) if name in ("sandbox-alice", "alice")]
    assert deletions.index("Pod") < deletions.index(meta.KIND)
    world.assert_always_isolated()


def ended(world: World) -> list[tuple[str, str]]:
    """The objects that were deleted or told to end, in order, each once."""
    found: dict[tuple[str, str], None] = {}
    for change in world.ledger.history():
        obj: Obj = change.obj
        if change.type == "DELETED" or "deletionTimestamp" in obj["metadata"]:
            found.setdefault((change.kind, obj["metadata"]["name"]))
    return list(found)


async def test_one_that_was_given_more_time_a_moment_ago_is_not_deleted(world: World, kubelet: Kubelet) -> None:
    given: list[Obj] = []

    async def give(request: web.Request) -> None:
        if request.method == "DELETE" and request.path.endswith(f"/{meta.PLURAL}/alice"):
            given.append(await world.edit("alice", lifecycle=ending(3600, "Delete")))
        else:
            world.gate.strike_at(1, give)

    await world.operator().start()
    await world.create("alice", lifecycle=ending(3600, "Delete"))
    await world.ready("alice")
    world.gate.strike_at(1, give)
    await world.edit("alice", lifecycle=ending(2, "Delete"))
    await world.asked(lambda: bool(given), "the deletion")
    await world.ready("alice")
    assert not [one for one in world.ledger.history() if one.kind == meta.KIND and one.type == "DELETED"]


def started(world: World) -> str:
    """When its workload began, by its status."""
    return str(((world.sandbox("alice") or {}).get("status") or {}).get("workload", {}).get("startedAt"))


async def test_who_asks_nothing_is_suspended_until_somebody_says_that_it_is_wanted(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    await define(api, r.USAGES)
    await world.operator(WITH_GATEWAYS).start()
    await world.create("alice", **BROKERED, workspace=VOLUME, lifecycle={"idleTimeout": "5m"})
    await world.ready("alice")
    # Time is not waited for: what was seen is made older.
    found = world.sandbox("alice")
    assert found is not None
    pod = world.child(r.PODS, "alice")
    assert pod is not None
    containers = json.loads(json.dumps(pod["status"]["containerStatuses"]))
    for one in containers:
        one["state"]["running"]["startedAt"] = at(-3600)
    await kubelet.write(pod, {"containerStatuses": containers})
    older = containers[0]["state"]["running"]["startedAt"]
    await world.ledger.until(lambda: started(world) == older, "the older start")
    aged = [one | {"lastTransitionTime": at(-3600)} for one in found["status"]["conditions"]]
    await api.patch_status(
        r.SANDBOXES, "alice", world.namespace, {"conditions": aged, "lifecycle": {"lastActive": at(-3600)}}
    )
    said = await without_a_pod(world)
    assert "by spec.lifecycle.idleTimeout" in said["message"]
    assert world.child(r.PERSISTENT_VOLUME_CLAIMS, "alice") is not None
    await world.change(r.SANDBOXES, "alice", {"metadata": {"annotations": {meta.ANNOTATION_ACTIVE_AT: at(0)}}})
    await world.ready("alice")
    assert "ended" not in lifecycle(world)
    assert world.heals("alice") == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("policy", ["Suspend", "Delete"])
async def test_an_operator_that_is_killed_at_a_write_of_an_end_leaves_it_to_the_next(
    world: World, kubelet: Kubelet, number: int, when: str, policy: str
) -> None:
    operator = world.operator()
    await operator.start()
    await world.create("alice", workspace=GONE, lifecycle=ending(3600, policy))
    await world.ready("alice")
    strike = world.gate.kill_before if when == "before" else world.gate.kill_after
    world.gate.strike_at(number, strike(operator.kill))
    await world.edit("alice", lifecycle=ending(2, policy))

    def over() -> bool:
        sandbox = world.sandbox("alice")
        ended = sandbox is None or ("ended" in lifecycle(world) and says(sandbox, "Reconciling", "False"))
        return ended and world.child(r.PODS, "alice") is None

    # An end has three or four writes: the warning, the pod's deletion, what is said of it, and the sandbox's deletion.
    await world.ledger.until(lambda: over() or world.gate.struck is not None, "the end, or the write")
    struck = world.gate.disarm()
    assert struck or number > 3, "fewer writes than an end has"
    if struck:
        await operator.crash()
        await world.operator().start()
    await world.ledger.until(over, "the end")
    if policy == "Delete":
        await world.gone()
    else:
        assert world.child(r.PERSISTENT_VOLUME_CLAIMS, "alice") is not None
        assert world.heals("alice") == 0
    world.assert_always_isolated()
