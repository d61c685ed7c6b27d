"""A schedule's backups as the API server has them: made once, over a crash, told by the sandbox, and not its own."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubelet import Kubelet
from world import World

from claude_sandbox.api import meta
from claude_sandbox.controller.machinery.status_writer import write_status
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj

pytestmark = pytest.mark.controlplane

VOLUME = {"type": "PersistentVolumeClaim", "size": "1Gi"}
PATIENCE = 150.0


def soon() -> dict[str, Any]:
    """A schedule whose next time is within a minute."""
    minutes = sorted((datetime.now(UTC) + timedelta(minutes=later)).minute for later in (1, 2, 3, 4))
    return {
        "schedule": f"{','.join(map(str, minutes))} * * * *",
        "target": {"type": "VolumeClaim", "claimName": "backups"},
        "passwordSecretRef": {"name": "backups"},
    }


async def backups(world: World, api: Api, count: int) -> list[Obj]:
    """Wait until there are so many."""
    async with asyncio.timeout(PATIENCE):
        while len(found := (await api.list(r.BACKUPS, world.namespace)).items) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return found


@pytest.mark.slow
async def test_a_time_of_the_schedule_has_one_backup_and_what_it_came_to_is_said(
    world: World, api: Api, kubelet: Kubelet
) -> None:
    operator = world.operator()
    await operator.start()
    await world.create("alice", workspace=VOLUME)
    await world.ready("alice")
    await world.edit("alice", backup=soon())
    await world.said("alice", "BackupVerified", "Unknown", "NoBackupYet")
    (made,) = await backups(world, api, 1)
    name = made["metadata"]["name"]
    assert name.startswith("alice-20")
    assert made["metadata"]["labels"][meta.LABEL_SANDBOX_UID] == world.sandbox("alice")["metadata"]["uid"]  # type: ignore[index]
    assert "ownerReferences" not in made["metadata"]

    # While it waits, which it does without an image, none is made at the next time, be it by another process.
    await operator.crash()
    await world.operator().start()
    await world.said("alice", "BackupVerified", "Unknown", "NoBackupYet")
    until = datetime.fromisoformat(made["metadata"]["annotations"][meta.ANNOTATION_SCHEDULED_AT])
    await asyncio.sleep(max(0.0, (until + timedelta(seconds=65) - datetime.now(UTC)).total_seconds()))
    (still,) = await backups(world, api, 1)
    assert still["metadata"]["uid"] == made["metadata"]["uid"]

    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    of_both = {"status": "True", "observedGeneration": 1, "lastTransitionTime": now, "message": ""}
    conditions = [
        {"type": "Complete", "reason": "Stored", **of_both},
        {"type": "BackupVerified", "reason": "RestoredAndCompared", **of_both},
    ]
    told = {"conditions": conditions, "completedAt": now, "snapshot": "a" * 64}
    await write_status(api, r.BACKUPS, still, told)
    await world.said("alice", "BackupVerified", "True", "BackupNotDue")
    status = world.sandbox("alice")["status"]  # type: ignore[index]
    assert status["backup"]["verifiedBackup"] == name
    assert (status["backup"]["lastVerified"], status["backup"]["snapshot"]) == (now, "a" * 64)
    assert "Backup" in [one["what"] for one in status["due"]]

    # The time that passed meanwhile is made up for, and none of them goes with the sandbox.
    await backups(world, api, 2)
    await world.delete("alice")
    await world.ledger.until(lambda: world.sandbox("alice") is None, "the end of alice")
    await backups(world, api, 2)
