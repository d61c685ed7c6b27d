"""The policy that belongs to no single sandbox is there whenever a pod is made, whoever comes and goes meanwhile."""

import asyncio

import pytest
from aiohttp import web
from world import World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r

pytestmark = pytest.mark.controlplane


class Held:
    """Keeps one write from the server until told otherwise, and so every later one."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, _: web.Request) -> None:
        await self.release.wait()


async def test_a_sandbox_is_made_while_the_policy_is_being_removed(world: World) -> None:
    operator = world.operator()
    await operator.start()
    await world.create("alice")
    await world.ready("alice")
    removal = Held()
    world.gate.strike_at(1, removal)
    await world.delete("alice")
    await world.asked(lambda: world.gate.struck is not None, "the removal of the policy")
    assert str(world.gate.struck).endswith(meta.BASELINE_POLICY)
    await world.create("bob")
    await operator.is_at_work(2)
    removal.release.set()
    await world.ready("bob")
    assert world.heals("bob") == 0
    world.assert_always_isolated()


async def test_the_last_sandboxes_are_deleted_while_one_of_them_is_being_made(world: World) -> None:
    operator = world.operator()
    await operator.start()
    await world.create("alice")
    await world.ready("alice")
    making = Held()
    world.gate.strike_at(3, making)
    await world.create("bob")
    await world.asked(lambda: world.gate.struck is not None, "the last write for bob")
    assert str(world.gate.struck).endswith("/pods")
    # No pod can be made without its account, so that the race is mostly won by who collects it.
    await world.change(r.SERVICE_ACCOUNTS, "sandbox-bob", {"metadata": {"finalizers": ["example.org/held"]}})
    for name in ("bob", "alice"):
        await world.delete(name)
    await world.ledger.until(lambda: not world.owned_by("alice"), "nothing left of alice")
    # Have it look once more whether the policy can go.
    looks = await operator.passes()
    await world.change(r.NETWORK_POLICIES, meta.BASELINE_POLICY, {"metadata": {"annotations": {"looked": "at"}}})
    async with asyncio.timeout(30):
        while await operator.passes() == looks:  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.05)
    making.release.set()
    await world.ledger.until(lambda: len(_pods(world)) == 2, "the pod that was asked for")
    await world.change(r.SERVICE_ACCOUNTS, "sandbox-bob", {"metadata": {"finalizers": None}})
    await world.gone()
    assert _pods(world) == ["sandbox-alice", "sandbox-bob"]
    world.assert_always_isolated()


def _pods(world: World) -> list[str]:
    """All that were ever made."""
    return [event.name for event in world.ledger.history() if (event.type, event.kind) == ("ADDED", "Pod")]
