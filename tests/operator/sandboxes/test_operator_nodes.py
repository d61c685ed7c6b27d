"""A node is lost with a sandbox's pod on it: never are there two pods that may write to one workspace."""

from collections.abc import Callable

import pytest
from kubelet import Kubelet
from world import World

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj

pytestmark = pytest.mark.controlplane


def _pods(world: World) -> list[str]:
    """The UIDs of all pods that the sandbox ever had."""
    return [e.obj["metadata"]["uid"] for e in world.ledger.history() if (e.kind, e.type) == ("Pod", "ADDED")]


async def _cordon(api: Api, node: str, *, cordoned: bool) -> None:
    await api.patch(r.NODES, node, None, {"spec": {"unschedulable": cordoned or None}})


async def _on_a_node_of_its_own(world: World, api: Api, node: str) -> Obj:
    """The pod of a ready sandbox, on a node whose kubelet is gone."""
    await _cordon(api, "node-a", cordoned=True)
    try:
        async with Kubelet(api, node):
            await world.create("alice", workspace={"type": "PersistentVolumeClaim", "size": "1Gi"})
            await world.ready("alice")
    finally:
        await _cordon(api, "node-a", cordoned=False)
    pod = world.child(r.PODS, "alice")
    assert pod is not None
    assert pod["spec"]["nodeName"] == node
    lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    await api.patch_status(r.NODES, node, None, {"conditions": [lost]})
    return pod


async def test_a_pod_on_a_lost_node_is_not_replaced_until_the_node_is_deleted(
    world: World, api: Api, kubelet: Kubelet, request: pytest.FixtureRequest
) -> None:
    node = f"lost-{world.namespace}"
    await world.operator().start()
    pod = await _on_a_node_of_its_own(world, api, node)
    await api.delete(r.PODS, "sandbox-alice", world.namespace, grace_seconds=1)
    lost = await world.said("alice", "Ready", "Unknown", "NodeLost")
    assert node in lost["message"]
    assert f"kubectl delete node {node}" in lost["message"]
    assert _pods(world) == [pod["metadata"]["uid"]]
    world.assert_always_isolated()
    # What the pod garbage collector does 40 s after the node was deleted.
    await api.delete(r.NODES, node)
    await kubelet.remove(pod)
    await world.ready("alice")
    assert len(_pods(world)) == 2
    now = world.child(r.PODS, "alice")
    assert now is not None
    assert now["spec"]["nodeName"] == "node-a"
    world.assert_always_isolated()


@pytest.mark.slow
async def test_a_node_that_comes_back_ends_its_pod_and_a_new_one_is_made(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    node = f"back-{world.namespace}"
    await world.operator().start()
    await _on_a_node_of_its_own(world, api, node)
    await api.delete(r.PODS, "sandbox-alice", world.namespace, grace_seconds=1)
    await world.said("alice", "Ready", "Unknown", "NodeLost")
    async with Kubelet(api, node):
        await world.ready("alice")
    assert len(_pods(world)) == 2
    await api.delete(r.NODES, node)


@pytest.mark.slow
async def test_a_pod_that_takes_long_to_end_on_a_node_that_is_well_is_not_called_lost(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    await world.operator().start()
    await world.create("alice")
    await world.ready("alice")
    kubelet.holds.add(world.namespace)
    await api.delete(r.PODS, "sandbox-alice", world.namespace, grace_seconds=1)
    await world.said("alice", "Ready", "False", "PodTerminating")
    asked: Callable[[], bool] = lambda: any("/api/v1/nodes/node-a" in call.path for call in world.gate.calls)  # noqa: E731
    await world.asked(asked, "the node being looked at")
    await world.said("alice", "Ready", "False", "PodTerminating")
    assert len(_pods(world)) == 1
    await kubelet.release(world.namespace)
    await world.ready("alice")
    assert len(_pods(world)) == 2
