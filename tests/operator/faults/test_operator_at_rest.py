"""Where everything is as it should be, nothing is written, whatever happens to the operator."""

import pytest
from oracle import complaints
from world import PORTS, World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r

pytestmark = pytest.mark.controlplane


async def _populate(world: World) -> int:
    """Sandboxes in every state in which one can rest; how many."""
    await world.create("full", **PORTS, workspace={"type": "PersistentVolumeClaim", "size": "1Gi"})
    await world.create("least")
    await world.create("asleep", operatingMode="Suspended")
    await world.create("waiting", secret="not-there")
    await world.ready("full")
    await world.ready("least")
    await world.said("asleep", "Ready", "False", "Suspended")
    await world.said("waiting", "Stalled", "True", "SecretNotFound")
    # Two seconds after the pod was told of its key, the key counts as mounted.
    for name in ("full", "least"):
        await world.said(name, "CredentialsCurrent", "True", "KeyMounted")
    return 4


async def test_a_restart_with_everything_in_place_writes_nothing(world: World) -> None:
    operator = world.operator()
    await operator.start()
    count = await _populate(world)
    await operator.crash()
    before, written = world.versions(), len(world.gate.writes)
    await operator.start()
    await operator.has_looked(count)
    await operator.crash()
    assert world.gate.writes[written:] == []
    assert world.versions() == before


async def test_looking_at_everything_again_and_again_writes_nothing(world: World) -> None:
    operator = world.operator("--resync=1")
    await operator.start()
    count = await _populate(world)
    await operator.has_looked(count)
    before, written = world.versions(), len(world.gate.writes)
    await operator.has_looked(3 * count)
    assert world.gate.writes[written:] == []
    assert world.versions() == before


async def test_what_happened_while_it_was_away_is_made_up_for(world: World) -> None:
    operator = world.operator()
    await operator.start()
    for name in ("changed", "harmed", "deleted"):
        await world.create(name, **PORTS)
    for name in ("changed", "harmed", "deleted"):
        await world.ready(name)
    await operator.crash()
    await world.edit("changed", network={"ports": []})
    await world.change(r.NETWORK_POLICIES, "sandbox-harmed", {"spec": {"egress": [{}]}})
    await world.delete("deleted")
    await world.create("made", **PORTS)
    await operator.start()
    for name in ("changed", "harmed", "made"):
        await world.ledger.until(
            lambda name=name: world.is_ready(name) and not complaints(world.ledger, name), f"{name} as its spec says"
        )
    await world.ledger.until(lambda: not world.owned_by("deleted"), "nothing left of what was deleted")
    assert [world.heals(name) for name in ("changed", "harmed", "made")] == [0, 1, 0]


async def test_the_last_sandbox_is_deleted_while_it_is_away(world: World) -> None:
    operator = world.operator()
    await operator.start()
    await world.create("alice", **PORTS)
    await world.ready("alice")
    await operator.crash()
    await world.delete("alice")
    await world.gone(but=(meta.BASELINE_POLICY,))
    await operator.start()
    await world.gone()
    world.assert_always_isolated()


async def test_it_stops_when_told_to_and_finishes_what_it_has_in_hand(world: World) -> None:
    operator = world.operator(fork=False)
    await operator.start()
    for number in range(5):
        await world.create(f"box-{number}", **PORTS)
    await world.asked(lambda: len(world.gate.writes) > 3, "the first writes")
    await operator.stop()
    assert operator.returncode == 0, operator.said()
    written = len(world.gate.writes)
    await operator.start()
    for number in range(5):
        await world.ready(f"box-{number}")
        assert world.heals(f"box-{number}") == 0
    assert len(world.gate.writes) > written
    world.assert_always_isolated()
