"""The operator is killed at its k-th write, for every k, and started again: it always converges.

The gate lets writes through one at a time, so the state "before the k-th write" and "after the one before" are the
same, and killing after each one visits all of them; the slow tests kill before each one as well.
"""

import itertools
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ledger import says
from oracle import complaints
from striking import BOTH, Variant, survive
from world import PORTS, World

from claude_sandbox.kubernetes_api import resources as r

pytestmark = pytest.mark.controlplane

CLAIM = {"workspace": {"type": "PersistentVolumeClaim", "size": "1Gi", "retention": "Retain"}}
DELETED_CLAIM = {"workspace": {"type": "PersistentVolumeClaim", "size": "1Gi", "retention": "Delete"}}
WORKSPACE = "sandbox-alice-workspace"


@pytest.mark.parametrize("kill", BOTH)
@pytest.mark.parametrize("claim", [CLAIM, DELETED_CLAIM], ids=["Retain", "Delete"])
async def test_killed_while_a_sandbox_is_made_and_while_it_is_deleted(
    world: World, kill: Variant, claim: dict[str, object]
) -> None:
    operator = world.operator()
    strike = kill(world.gate, operator.kill)
    kept = (WORKSPACE,) if claim is CLAIM else ()
    for number in itertools.count(1):
        made = await survive(
            world,
            operator,
            strike,
            number,
            lambda: world.create("alice", **PORTS, **claim),
            lambda: world.is_ready("alice") and not complaints(world.ledger, "alice"),
        )
        assert world.heals("alice") == 0, "what was never there was not lost"
        deleted = await survive(
            world,
            operator,
            strike,
            number,
            lambda: world.delete("alice"),
            lambda: world.all_gone(but=kept),
        )
        assert world.leftovers() == [f"PersistentVolumeClaim {name}" for name in kept]
        if not (made or deleted):
            break
    assert number > 6, "fewer writes than a sandbox has objects"
    world.assert_always_isolated()


Act = Callable[[World], Awaitable[object]]
Check = Callable[[World], bool]


def _well(world: World) -> bool:
    return world.is_ready("alice") and not complaints(world.ledger, "alice")


def _suspended(world: World) -> bool:
    return says(world.sandbox("alice"), "Ready", "False", "Suspended") and not complaints(world.ledger, "alice")


def _new_pod(model: str) -> Check:
    def check(world: World) -> bool:
        pod = world.child(r.PODS, "alice")
        args = pod["spec"]["containers"][0].get("args") if pod else None
        return args == ["--model", model] and _well(world) and says(world.sandbox("alice"), "Drifted", "False")

    return check


async def _new_key(world: World) -> None:
    secret = await world.change_secret(uuid.uuid4().bytes)
    world.expected_generation = secret["metadata"]["resourceVersion"]


def _key_is_there(world: World) -> bool:
    status = (world.sandbox("alice") or {}).get("status", {})
    credentials = status.get("credentials", {})
    return (
        _well(world)
        and says(world.sandbox("alice"), "CredentialsCurrent", "True", "KeyMounted")
        and {credentials.get("generation"), credentials.get("mountedGeneration")} == {world.expected_generation}
    )


def _spec(**spec: Any) -> Act:
    return lambda world: world.edit("alice", **spec)


# Name, spec at first; a change and when it is carried out, the change back and when that is.
CHANGES: dict[str, tuple[dict[str, Any], tuple[Act, Check], tuple[Act, Check]]] = {
    "networks": (
        {},
        (_spec(network={"egress": {"allowedCIDRs": ["203.0.113.0/24"]}}), _well),
        (_spec(network={"egress": {"allowedCIDRs": ["198.51.100.0/24", "203.0.113.7/32"]}}), _well),
    ),
    "ports": ({}, (_spec(**PORTS), _well), (_spec(network={"ports": []}), _well)),
    "suspended": (
        PORTS,
        (_spec(operatingMode="Suspended"), _suspended),
        (_spec(operatingMode="Running"), _well),
    ),
    "retention": (
        CLAIM,
        (_spec(workspace={"retention": "Delete"}), _well),
        (_spec(workspace={"retention": "Retain"}), _well),
    ),
    "another command": (
        {"updateStrategy": {"type": "Recreate"}},
        (_spec(args=["--model", "one"]), _new_pod("one")),
        (_spec(args=["--model", "another"]), _new_pod("another")),
    ),
    "key": ({}, (_new_key, _key_is_there), (_new_key, _key_is_there)),
}


@pytest.mark.parametrize("kill", BOTH)
@pytest.mark.parametrize("change", CHANGES)
async def test_killed_while_a_change_is_carried_out(world: World, kill: Variant, change: str) -> None:
    spec, there, back = CHANGES[change]
    operator = world.operator()
    await operator.start()
    await world.create("alice", **spec)
    await world.ready("alice")
    for number in itertools.count(1):
        struck = [
            await survive(
                world,
                operator,
                kill(world.gate, operator.kill),
                number,
                lambda act=act: act(world),  # type: ignore[misc]
                lambda check=check: check(world),  # type: ignore[misc]
            )
            for act, check in (there, back)
        ]
        if not any(struck):
            break
    assert number > 2, "fewer writes than one for the object and one for the status"
    assert world.heals("alice") == 0, "a change of the spec is no loss"
    await world.delete("alice")
    await world.gone(but=(WORKSPACE,))
    world.assert_always_isolated()
