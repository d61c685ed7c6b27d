"""The operator is killed at its k-th write for a backup, and for a restore, for every k: both come to their end.

So does a backup of a snapshot of the volume, of which nothing is left.

What a helper would say at its end the test writes into its pod's status, as a kubelet does.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from gate import Gate
from kubelet import Kubelet
from operator_process import OperatorProcess
from pretended_backups import (
    REPOSITORY,
    SNAPSHOT,
    VOLUME,
    WITH_HELPERS,
    back_up,
    helpers_left,
    helpers_made,
    pretended_backups,
)
from snapshotkit import CRDS, definitions, ready, say, snapshot_class
from striking import Variant
from world import World

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError

# It takes minutes: the operator starts anew after each write.
pytestmark = [pytest.mark.controlplane, pytest.mark.slow, pytest.mark.timeout(1800)]

PATIENCE = 150.0
BOTH = [pytest.param(Gate.kill_after, id="after"), pytest.param(Gate.kill_before, id="before")]


@pytest.fixture
async def orders(world: World, api: Api, kubelet: Kubelet) -> AsyncIterator[dict[str, dict[str, Any]]]:
    """What each helper was told that ended well, by its pod's UID, the first one first."""
    async with pretended_backups(world, api, kubelet) as found:
        yield found.told


async def begun(world: World) -> OperatorProcess:
    operator = world.operator(WITH_HELPERS)
    await operator.start()
    await world.create("alice", workspace=VOLUME)
    await world.ready("alice")
    return operator


async def at_each_write(
    world: World,
    api: Api,
    operator: OperatorProcess,
    kill: Variant,
    act: Callable[[str], Awaitable[object]],
    look: Callable[[str], Awaitable[bool]],
) -> list[str]:
    """At which writes the operator was killed."""
    calls: list[str] = []
    for number in itertools.count(1):
        name = f"n{number}"
        world.gate.strike_at(number, kill(world.gate, operator.kill))
        await act(name)
        is_over = partial(over, world, api, name, look)
        await until(world, api, is_over, lambda: not operator.alive)
        if not world.gate.disarm():
            return calls
        calls.append(str(world.gate.struck))
        await operator.restart()
        await until(world, api, is_over)
    raise AssertionError("counting ended")


async def until(
    world: World, api: Api, wanted: Callable[[], Awaitable[bool]], ended: Callable[[], bool] = lambda: False
) -> None:
    """Wait for that; what there is, where it does not come."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not ended() and not await wanted():  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
    except TimeoutError:
        told = [
            (one["metadata"]["name"], one.get("status")) for one in (await api.list(r.BACKUPS, world.namespace)).items
        ]
        pods = [(one["metadata"]["name"], one["status"]) for one in (await api.list(r.PODS, world.namespace)).items]
        raise AssertionError(f"after {world.gate.struck}: {told} {pods}\n{world.ledger.describe()}") from None


async def over(world: World, api: Api, name: str, look: Callable[[str], Awaitable[bool]]) -> bool:
    """Whether it is as it should be, and nothing of a helper is left."""
    return await look(name) and not await helpers_left(world, api)


@pytest.mark.parametrize("kill", BOTH)
async def test_killed_while_a_backup_is_made(
    world: World, api: Api, orders: dict[str, dict[str, Any]], kill: Variant
) -> None:
    operator = await begun(world)

    async def look(name: str) -> bool:
        status = (await api.get(r.BACKUPS, name, world.namespace)).get("status") or {}
        told = {one["type"]: (one["status"], one["reason"]) for one in status.get("conditions") or ()}
        if "completedAt" not in status:
            return False
        assert told == {"Complete": ("True", "Stored"), "BackupVerified": ("True", "RestoredAndCompared")}, name
        assert (status["snapshot"], status["repository"]) == (SNAPSHOT, REPOSITORY)
        return True

    calls = await at_each_write(world, api, operator, kill, lambda name: back_up(world, api, name), look)
    print(calls)
    assert len(calls) >= 6, calls
    # Once it is known which repository is there, no other will do.
    first, *later = [one["repository"] for one in orders.values()]
    assert (first, set(later)) == ("", {REPOSITORY})
    world.assert_always_isolated()


@pytest.mark.parametrize("kill", BOTH)
async def test_killed_while_a_sandbox_is_filled_from_a_backup(
    world: World, api: Api, orders: dict[str, dict[str, Any]], kill: Variant
) -> None:
    operator = await begun(world)
    await back_up(world, api, "first")

    async def is_stored() -> bool:
        return "snapshot" in ((await api.get(r.BACKUPS, "first", world.namespace)).get("status") or {})

    await until(world, api, is_stored)

    async def look(name: str) -> bool:
        status = (world.sandbox(name) or {}).get("status") or {}
        if not world.is_ready(name):
            return False
        # No agent runs before its workspace is filled, whatever was in between.
        assert status["restore"]["state"] == "Restored", status
        return True

    calls = await at_each_write(
        world, api, operator, kill,
        lambda name: world.create(name, workspace=VOLUME, restoreFrom={"backupName": "first"}), look,
    )  # fmt: skip
    print(calls)
    assert len(calls) >= 9, calls
    world.assert_always_isolated()


@pytest.fixture
async def snapshots(world: World, api: Api) -> AsyncIterator[dict[str, datetime]]:
    """The cluster takes snapshots, as its controllers tell of; when each was taken, by its name."""
    moments: dict[str, datetime] = {}
    for definition in definitions():
        await api.apply(CRDS, definition)
    # By the name that the test's volumes have for their driver.
    named = snapshot_class("snap", "kubernetes.io/no-provisioner")
    async with asyncio.timeout(60):
        while True:
            try:
                await api.apply(r.VOLUME_SNAPSHOT_CLASSES, named)
                break
            except ApiError:
                await asyncio.sleep(0.1)

    async def take() -> None:
        while True:
            for one in (await api.list(r.VOLUME_SNAPSHOTS, world.namespace)).items:
                if "status" not in one:
                    moments[one["metadata"]["name"]] = datetime.now(UTC)
                    with suppress(ApiError):
                        await say(api, one, **ready())
            await asyncio.sleep(0.1)

    taking = asyncio.create_task(take())
    yield moments
    taking.cancel()
    with suppress(asyncio.CancelledError):
        await taking


@pytest.mark.parametrize("kill", BOTH)
async def test_killed_while_a_snapshot_is_backed_up(
    world: World, api: Api, orders: dict[str, dict[str, Any]], snapshots: dict[str, datetime], kill: Variant
) -> None:
    operator = await begun(world)

    async def look(name: str) -> bool:
        status = (await api.get(r.BACKUPS, name, world.namespace)).get("status") or {}
        if "completedAt" not in status:
            return False
        told = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
        assert told["Complete"] == ("True", "Stored"), (name, told)
        # Never the volume itself, and it says of when it is.
        assert (status["attempts"], "volumeSnapshotAt" in status) == (1, True), (name, status)
        return not (await api.list(r.VOLUME_SNAPSHOTS, world.namespace)).items

    calls = await at_each_write(
        world, api, operator, kill, lambda name: back_up(world, api, name, volumeSnapshot={"className": "snap"}), look
    )
    print(calls)
    assert len(calls) >= 9, calls
    assert len(snapshots) == len(calls) + 1, "one for each backup"
    for pod in helpers_made(world):
        (volume,) = (one for one in pod["spec"]["volumes"] if one["name"] == "workspace")
        assert "ephemeral" in volume
