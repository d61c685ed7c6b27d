"""Two operators of one cluster at a backup and at a restore: nothing is made twice, and nothing is left half done.

Both act as if they led, one of them behind; or the one that leads stops in the midst: it sleeps, or its lease is lost.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from gate import Call
from kubelet import Kubelet
from pretended_backups import (
    SNAPSHOT,
    TARGET,
    VOLUME,
    WITH_HELPERS,
    Helpers,
    back_up,
    helpers_left,
    helpers_made,
    pretended_backups,
)
from world import World
from worlds import Worlds

from claude_sandbox.controller.backups import status as report
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj

# A lease lasts 15 s, and a schedule knows minutes.
pytestmark = [pytest.mark.controlplane, pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE = 150.0
LEASES = "/leases/"


@pytest.fixture
async def helpers(world: World, api: Api, kubelet: Kubelet) -> AsyncIterator[Helpers]:
    async with pretended_backups(world, api, kubelet) as found:
        yield found


async def over(world: World, api: Api, name: str) -> Obj:
    """Wait for the end of a backup: what it says then."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                status = (await api.get(r.BACKUPS, name, world.namespace)).get("status") or {}
                if report.is_over(status) and "completedAt" in status:
                    return dict(status)
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{name} stays as it is: {status}\n{world.ledger.describe()}") from None


async def filled(world: World, name: str) -> None:
    """Wait for the end of a restore."""
    await world.ledger.until(lambda: is_filled(world, name), f"{name} restored", PATIENCE)


def is_filled(world: World, name: str) -> bool:
    restored = ((world.sandbox(name) or {}).get("status") or {}).get("restore") or {}
    return restored.get("state") == "Restored" and "finishedAt" in restored


def pods_of(world: World, owner: Obj) -> list[Obj]:
    """The pods of all helpers that were ever made for it."""
    uid = owner["metadata"]["uid"]
    return [pod for pod in helpers_made(world) if pod["metadata"]["ownerReferences"][0]["uid"] == uid]


def is_agent(call: Call) -> bool:
    """Whether the pod of bob's agent is made."""
    return (
        call.method == "POST"
        and (call.body.get("metadata") or {}).get("name") == "sandbox-bob"
        and (call.body.get("kind") == "Pod")
    )


async def test_of_two_that_lead_the_one_that_is_behind_begins_nothing_again(
    world: World, worlds: Worlds, api: Api, helpers: Helpers
) -> None:
    behind = await worlds.gate()
    for gate in (world.gate, behind):
        await world.operator(WITH_HELPERS, gate=gate).start()
    await world.create("alice", workspace=VOLUME)
    await world.ready("alice")

    def deaf(word: bytes, about: str) -> None:
        """It hears of nothing with this word, from now on, nor by the answers to its own writes about this."""
        behind.tamper = lambda _, line: None if word in line else line
        behind.refuses = lambda call: (call.method == "PATCH" and about in call.path) or is_agent(call)

    async def looks(part: str, times: int = 1) -> None:
        """Wait until it asks so often from now on."""
        before = len(behind.seen("GET", part))
        async with asyncio.timeout(PATIENCE):
            while len(behind.seen("GET", part)) < before + times:
                await behind.next_call()

    deaf(b'"Stored"', "/claudesandboxbackups/one")
    await back_up(world, api, "one")
    status = await over(world, api, "one")
    # It sees that the helper is gone, and reads what is stored.
    await looks("/claudesandboxbackups/one", 2)
    assert (status["snapshot"], status["attempts"]) == (SNAPSHOT, 1)
    made = await api.get(r.BACKUPS, "one", world.namespace)
    assert len(pods_of(world, made)) == 1

    # While there is no agent: whose agent runs, that is filled.
    deaf(b'"restore":{', "/claudesandboxes/bob")
    world.gate.refuses = is_agent
    behind.cut_watches()
    helpers.may_end.clear()
    bob = await world.create("bob", workspace=VOLUME, restoreFrom={"backupName": "one"})
    await looks("/pods/claude-sandbox-restore-")
    helpers.may_end.set()
    await filled(world, "bob")
    await looks("/claudesandboxes/bob", 2)
    world.gate.refuses = lambda _: False
    await world.ready("bob")
    assert len(pods_of(world, bob)) == 1
    assert not await helpers_left(world, api)

    # Once it hears of all again, it has nothing to do either.
    behind.tamper, behind.refuses = lambda _, line: line, lambda _: False
    behind.cut_watches()
    await world.create("carol", workspace=VOLUME, restoreFrom={"backupName": "one"})
    await filled(world, "carol")
    await world.ready("carol")
    assert is_filled(world, "bob")
    assert len(helpers_made(world)) == 3
    assert not await helpers_left(world, api)
    world.assert_always_isolated()


@pytest.mark.parametrize("how", ["it sleeps", "its lease is lost"])
async def test_a_leader_that_leads_no_more_in_the_midst_is_followed_by_one_that_goes_on(
    world: World, worlds: Worlds, api: Api, helpers: Helpers, how: str
) -> None:
    gates = (world.gate, await worlds.gate())
    options = (WITH_HELPERS, f"--lease-namespace={world.namespace}")
    leader, other = (world.operator(*options, gate=gate, elect=True) for gate in gates)
    await leader.start()
    await world.create("alice", workspace=VOLUME)
    await world.ready("alice")
    await back_up(world, api, "one")
    await over(world, api, "one")
    await other.start()
    await other.is_up()

    helpers.may_end.clear()
    soon = datetime.now(UTC) + timedelta(seconds=70)
    await world.edit("alice", backup={"schedule": f"{soon.minute} * * * *", **TARGET})
    bob = await world.create("bob", workspace=VOLUME, restoreFrom={"backupName": "one"})
    # Both helpers are at work.
    await world.ledger.until(lambda: len(helpers_made(world)) == 3, "both helpers", PATIENCE)
    leader.expect_end()
    if how == "it sleeps":
        leader.freeze()
    else:
        world.gate.answer("PUT", LEASES, 503, times=10**6)
        await leader.ended()
    helpers.may_end.set()
    (scheduled,) = [
        one for one in (await api.list(r.BACKUPS, world.namespace)).items if one["metadata"]["name"] != "one"
    ]
    name = scheduled["metadata"]["name"]
    await over(world, api, name)
    await filled(world, "bob")
    await world.said("alice", "BackupVerified", "True", "BackupNotDue")
    await world.ready("bob")
    if how == "it sleeps":
        written = len(world.gate.writes)
        leader.thaw()
        await leader.ended()
        assert world.gate.writes[written:] == []

    # One backup for the one time, of one helper; and one of the restore.
    found = [one["metadata"]["name"] for one in (await api.list(r.BACKUPS, world.namespace)).items]
    assert sorted(found) == sorted(["one", name])
    assert len(pods_of(world, scheduled)) == len(pods_of(world, bob)) == 1
    assert (await api.get(r.BACKUPS, name, world.namespace))["status"]["attempts"] == 1
    assert not await helpers_left(world, api)
    world.assert_always_isolated()
