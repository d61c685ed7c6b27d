"""Of two operators one acts; when it is gone, the other does."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from aiohttp import web
from gate import Call, Gate
from operator_process import OperatorProcess
from oracle import complaints
from world import PORTS, World
from worlds import Worlds

from claude_sandbox.kubernetes_api import resources as r

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


@pytest.mark.slow
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


async def test_it_is_not_ready_while_it_may_not_use_the_lease(world: World) -> None:
    operator = world.operator(f"--lease-namespace={world.namespace}", elect=True)
    world.gate.answer("GET", f"/leases/{LEASE}", 403, times=10**6)
    await operator.start()
    said = await operator.is_not_ready("[-]lease failed")
    assert f"{world.namespace}/{LEASE}" in said
    assert "--lease-namespace" in said
    refused = len(world.gate.seen("GET", f"/leases/{LEASE}"))
    await world.asked(lambda: len(world.gate.seen("GET", f"/leases/{LEASE}")) > refused, "another try")
    world.gate.faults.clear()
    await operator.is_up()
    await world.create("alice")
    await world.ready("alice")
    assert operator.said().count("cannot use the lease") == 1, "what lasts is said once"


async def test_a_leader_that_sleeps_in_the_midst_of_its_work_writes_nothing_when_it_wakes_up(
    world: World, worlds: Worlds
) -> None:
    leader, _ = await _replicas(world, worlds)
    # Three writes each, and all at a time: else the last begin only when the first give up and tell so in statuses.
    names = [f"box-{number}" for number in range(8)]
    asleep = asyncio.Event()
    # It falls asleep with every write held, so that none is on its way from the permission to the wire just then.
    await world.told("first", "Created")

    async def hold(_: web.Request) -> None:
        await asleep.wait()

    leader.gate.strike_at(1, hold)
    for name in names:
        await world.create(name, **PORTS)
    # What is made of each before its pod: an account, a policy and a Service.
    await world.asked(lambda: len(_made_of(leader.gate, names)) == 3 * len(names), "all first writes of all of them")
    leader.process.freeze()
    # The server does what it was asked for; the answers lie there until the leader wakes up.
    asleep.set()
    for name in names:
        await world.ready(name)
    sent = len(_writes(leader.gate))
    leader.process.expect_end()
    leader.process.thaw()
    await leader.process.ended()
    assert _writes(leader.gate)[sent:] == []
    assert not any(complaints(world.ledger, name) for name in names)
    world.assert_always_isolated()


def _writes(gate: Gate) -> list[Call]:
    """What the operator sent to be written of sandboxes, whether it was carried out yet or not."""
    aside = ("/leases", "accessreviews")
    return [call for call in gate.calls if call.method != "GET" and not any(part in call.path for part in aside)]


def _made_of(gate: Gate, names: list[str]) -> list[Call]:
    """What the operator asked to be made of these sandboxes."""
    children = {f"sandbox-{name}" for name in names}
    return [call for call in _writes(gate) if call.method == "POST" and call.body["metadata"].get("name") in children]


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
