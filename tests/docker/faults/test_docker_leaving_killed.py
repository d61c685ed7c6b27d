"""The operator ends at each kind of write while a sandbox leaves a compromised host, on either side of the move.

Before the one write that moves it, the sandbox is where it was and nothing of it is elsewhere; after it, the next
operator goes on: the workspace is filled with the backup from before, and what ran on the old host is not touched. The
backup is kept by S3 or by SFTP.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import OWN, condition
from drain_place import FIRST, SECOND, placed_on, ready_on
from leaving_place import COMPROMISED, PATIENCE, LeavingPlace, leaving_operator, leaving_place, why
from strikes import Strikes, struck_api, struck_engine, survived

from claude_sandbox.kubernetes_api.client import Obj
from claude_sandbox.kubernetes_api.resources import SECRETS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

# It takes minutes: the operator starts anew after each kind of write.
pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(params=[True, False], ids=["after", "before"])
def strikes(request: pytest.FixtureRequest) -> Strikes:
    return Strikes(heard=request.param, of="recovery")


@pytest.fixture(params=["S3", "SFTP"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def place(
    strikes: Strikes,
    kind: str,
    control_plane: Cluster,
    host: EngineDescription,
    other_host: EngineDescription,
    tmp_path: Path,
) -> AsyncIterator[LeavingPlace]:
    # A socket's path may have 108 characters.
    with tempfile.TemporaryDirectory(prefix="csb-") as short, struck_engine(strikes, other_host, Path(short)) as there:
        async with (
            struck_api(strikes, control_plane, tmp_path) as option,
            leaving_operator(control_plane, tmp_path / "log", option) as strikes.operator,
            leaving_place(control_plane, host, other_host, tmp_path, kind) as made,
        ):
            made.endpoints[SECOND] = there
            try:
                yield made
            finally:
                # What is cleared away takes one that lives.
                strikes.disarm()
                if not strikes.operator.alive:
                    strikes.operator.start()


async def test_killed_at_each_kind_of_write(place: LeavingPlace, strikes: Strikes) -> None:
    await place.sandbox("alice")
    await place.comes_to("alice", ready_on(FIRST))
    place.run(FIRST, "alice", "head -c 9000000 /dev/urandom > /workspace/a && md5sum < /workspace/a > /workspace/b")
    before = time.time_ns()
    backup = await place.back_up("alice", "first")
    place.run(FIRST, "alice", "echo after > /workspace/b")
    (agent,) = place.containers(FIRST, "alice")
    await place.joined(SECOND)
    async with asyncio.timeout(PATIENCE):
        # What made the backup goes after its status says that it is stored.
        while helped(place, before):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)
    began = time.time_ns()
    strikes.arm()
    await place.fleet.change(FIRST, incident=COMPROMISED)

    async def sandbox() -> Obj:
        found = await place.get("alice")
        assert found is not None
        return found

    async def look() -> None:
        """Where it is stored to be is the only place that may have anything of it, beside what is left."""
        found = await sandbox()
        if placed_on(found) == FIRST:
            assert place.left(SECOND, "alice") == []
        else:
            assert found["status"]["recovery"]["snapshot"] == backup["snapshot"]
            # No agent runs there before its workspace is filled, and its key another one.
            assert place.containers(SECOND, "alice") == []

    async def waits() -> bool:
        found = await sandbox()
        return why(found) == ("False", "KeyCompromised") and "restore" in found["status"]

    await survived(strikes, waits, look)
    moved = (await sandbox())["status"]
    assert (moved["restore"]["state"], moved["restore"]["files"]) == ("Restored", 2)
    # The rest of the way: its agent is made with another key.
    strikes.arm()
    await place.api.patch(SECRETS, "alice", OWN, {"stringData": {"api-key": "not-really-another-key"}})

    async def is_there() -> bool:
        return ready_on(SECOND)(await sandbox())

    async def nothing() -> None:
        assert len(place.containers(SECOND, "alice")) < 2

    await survived(strikes, is_there, nothing)
    assert place.run(SECOND, "alice", "cd /workspace && ls && md5sum < a | cmp - b") == "a\nb\n"
    agent.reload()
    assert agent.status == "running"
    assert place.run(FIRST, "alice", "cat /workspace/b") == "after\n"
    print(strikes.struck)
    assert sum("recovery" in one or "snapshot" in one for one in strikes.struck) >= 1, strikes.struck
    assert sum(one.endswith(" backup") for one in strikes.struck) >= 3, strikes.struck
    assert asked(place, began) == []
    assert condition((await sandbox())["status"], "Ready")[0] == "True"


def helped(place: LeavingPlace, since: int) -> bool:
    """Whether anything of a backup's helper is on the first host, or its engine has yet to tell that it is gone.

    A network is in no list any more some time before the call that removes it ends, and is told of last.
    """
    told = (one for one in asked(place, since) if (one["Type"], one["Action"]) == ("network", "destroy"))
    ways = [one for one in told if one["Actor"]["Attributes"]["name"].endswith("-backup-way")]
    return not ways or any("-backup" in name for name in place.left(FIRST, "alice"))


def asked(place: LeavingPlace, since: int) -> list[dict[str, Any]]:
    """What was done on the first host, as far as its engine remembers: its last 256 events."""
    told = place.sdk[FIRST].events(since=since // 10**9, until=int(time.time()) + 1, decode=True)
    own = ("exec_", "health_status")
    return [one for one in told if one["timeNano"] > since and not str(one.get("Action")).startswith(own)]
