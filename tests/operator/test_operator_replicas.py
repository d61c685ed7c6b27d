"""Of two operators one acts; when it is gone, the other does."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from gate import Gate
from operator_process import OperatorProcess
from oracle import complaints
from world import PORTS, World

from claude_sandbox.backends.kubernetes import resources as r
from conftest import Worlds

pytestmark = pytest.mark.controlplane

LEASE = "claude-sandbox-operator"


@dataclass
class Replica:
    """One of them, with a way to the server of its own."""

    gate: Gate
    process: OperatorProcess


async def _replicas(world: World, worlds: Worlds) -> tuple[Replica, Replica]:
    """A leader and one that waits."""
    gates = (world.gate, await worlds.gate())
    option = f"--lease-namespace={world.namespace}"
    leader, standby = (Replica(gate, world.operator(option, gate=gate, elect=True)) for gate in gates)
    await leader.process.start()
    await world.create("first", **PORTS)
    await world.ready("first")
    await standby.process.start()
    await standby.process.is_up()
    return leader, standby


async def test_only_one_acts(world: World, worlds: Worlds) -> None:
    leader, standby = await _replicas(world, worlds)
    await world.create("alice", **PORTS)
    await world.ready("alice")
    await world.change(r.NETWORK_POLICIES, "sandbox-alice", {"spec": {"egress": [{}]}})
    await world.healed("alice", 0)
    assert standby.gate.writes == []
    assert (await leader.process.metrics())[f'leader_election_master_status{{name="{LEASE}"}}'] == 1
    assert (await standby.process.metrics())[f'leader_election_master_status{{name="{LEASE}"}}'] == 0


async def test_a_leader_that_is_told_to_stop_hands_over_at_once(world: World, worlds: Worlds) -> None:
    leader, standby = await _replicas(world, worlds)
    took = await _taken_over(world, standby, leader.process.terminate)
    print(f"seconds to take over from a leader that was told to stop: {took:.1f}")
    await leader.process.ended()


async def test_a_leader_that_is_killed_or_sleeps_is_replaced(worlds: Worlds) -> None:
    async def killed(world: World) -> float:
        leader, standby = await _replicas(world, worlds)
        return await _taken_over(world, standby, leader.process.kill)

    async def sleeps(world: World) -> float:
        leader, standby = await _replicas(world, worlds)
        took = await _taken_over(world, standby, leader.process.freeze)
        written = len(leader.gate.writes)
        leader.process.expect_end()
        leader.process.thaw()
        await leader.process.ended()
        assert leader.gate.writes[written:] == [], "what wakes up leads no more"
        return took

    both = await asyncio.gather(killed(await worlds()), sleeps(await worlds()))
    print("seconds to take over from a leader that was killed, that sleeps:", [f"{took:.1f}" for took in both])


async def _taken_over(world: World, standby: Replica, end: Callable[[], None]) -> float:
    """End the leader's leadership; after how many seconds a new sandbox is ready, which the other has made so."""
    started = time.monotonic()
    end()
    await world.create("alice", **PORTS)
    await world.ready("alice")
    took = time.monotonic() - started
    assert standby.gate.writes, "it was the other that acted"
    assert not complaints(world.ledger, "alice")
    world.assert_always_isolated()
    return took
