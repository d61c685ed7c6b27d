"""What is kept of a home: a claim of its own, which comes when it is asked for, and outlives the sandbox or goes."""

import pytest
from kubelet import Kubelet
from world import World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj

pytestmark = pytest.mark.controlplane

VOLUME = {"type": "PersistentVolumeClaim", "size": "1Gi"}
KEPT = VOLUME | {"keepHome": {"size": "1Gi"}}


def home(world: World, name: str = "alice") -> Obj | None:
    return world.ledger.get(r.PERSISTENT_VOLUME_CLAIMS, meta.home_name(name))


async def test_it_is_kept_for_the_next_sandbox_of_the_name_unless_it_is_to_go(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    await world.operator().start()
    await world.create("alice", workspace=KEPT)
    await world.ready("alice")
    before = home(world)
    assert before is not None
    await world.delete("alice")
    await world.create("alice", workspace=KEPT | {"retention": "Delete"})
    await world.ready("alice")
    again = home(world)
    assert again is not None
    assert again["metadata"]["uid"] == before["metadata"]["uid"]
    await world.delete("alice")
    await world.ledger.until(lambda: home(world) is None, "the end of the home")


async def test_one_that_is_asked_for_later_is_no_loss_and_one_that_is_anothers_is_refused(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    await world.operator().start()
    await world.create("alice", workspace=VOLUME, updateStrategy={"type": "Recreate"})
    await world.ready("alice")
    await world.edit("alice", workspace={"keepHome": {"size": "1Gi"}})
    await world.ledger.until(lambda: home(world) is not None, "the home")
    await world.said("alice", "Ready", "True")
    await world.said("alice", "Drifted", "False")
    assert world.heals("alice") == 0

    body = {
        "metadata": {"name": meta.home_name("bob")},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    await api.create(r.PERSISTENT_VOLUME_CLAIMS, body, world.namespace)
    await world.create("bob", workspace=KEPT)
    stalled = await world.said("bob", "Stalled", "True", "ForeignObject")
    assert "PersistentVolumeClaim sandbox-bob-home" in stalled["message"]
    assert world.child(r.PODS, "bob") is None
