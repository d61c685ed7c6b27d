"""The k-th write fails, for every k, and the operator lives on: it converges by itself, and reports no heal."""

import itertools
from collections.abc import Callable

import pytest
from gate import Gate, Strike
from oracle import complaints
from world import PORTS, World

pytestmark = pytest.mark.controlplane

FAULTS: dict[str, Callable[[Gate], Strike]] = {
    "its answer is lost": Gate.lose_the_answer,
    "the server has an internal error": lambda gate: gate.refuse(500, "InternalError"),
    "the server has too much to do": lambda gate: gate.refuse(429, "TooManyRequests"),
    "somebody else was quicker": lambda gate: gate.refuse(409, "Conflict"),
    "it is refused": lambda gate: gate.refuse(403, "Forbidden"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_write_fails_once(world: World, fault: str) -> None:
    operator = world.operator()
    await operator.start()
    for number in itertools.count(1):
        struck = []
        world.gate.strike_at(number, FAULTS[fault](world.gate))
        await world.create("alice", **PORTS)
        await world.ledger.until(
            lambda: world.is_ready("alice") and not complaints(world.ledger, "alice"),
            f"alice Ready although write {number} failed",
        )
        struck.append(world.gate.disarm())
        assert world.heals("alice") == 0
        world.gate.strike_at(number, FAULTS[fault](world.gate))
        await world.edit("alice", operatingMode="Suspended", network={"ports": []})
        await world.said("alice", "Ready", "False", "Suspended")
        await world.ledger.until(lambda: not complaints(world.ledger, "alice"), "suspended")
        struck.append(world.gate.disarm())
        assert world.heals("alice") == 0
        world.gate.strike_at(number, FAULTS[fault](world.gate))
        await world.delete("alice")
        await world.gone()
        struck.append(world.gate.disarm())
        if not any(struck):
            break
    assert number > 6
    world.assert_always_isolated()
