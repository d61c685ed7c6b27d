"""The operator ends at each kind of write while a newer image is tried beside the workload on a real engine.

Whoever comes next goes on with the trial or begins it anew: at no time are there two, the workload is the same one for
as long as the trial lasts, and nothing of it is left.
"""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import get_sandbox
from image_place import BESIDE, CRASHES, WORKS, ImagePlace, image_place, rolled_to
from strikes import Strikes, struck_api, struck_engine, survived

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

# It takes minutes: the operator starts anew after each kind of write.
pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(params=[True, False], ids=["after", "before"])
def strikes(request: pytest.FixtureRequest) -> Strikes:
    return Strikes(heard=request.param, of="image")


@pytest.fixture
async def place(
    strikes: Strikes, control_plane: Cluster, host: EngineDescription, tmp_path: Path
) -> AsyncIterator[ImagePlace]:
    # A socket's path may have 108 characters.
    with tempfile.TemporaryDirectory(prefix="csb-") as short, struck_engine(strikes, host, Path(short)) as endpoint:
        async with struck_api(strikes, control_plane, tmp_path) as option:
            # What comes when it will is no write of the trial's.
            options = (option, "--probe-interval=0")
            async with image_place(control_plane, host, tmp_path, *options, endpoint=endpoint) as made:
                strikes.operator = made.operator
                try:
                    yield made
                finally:
                    strikes.disarm()


@pytest.mark.parametrize("works", [True, False], ids=["works", "crashes"])
async def test_killed_at_each_kind_of_write(place: ImagePlace, strikes: Strikes, works: bool) -> None:
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=BESIDE)
    workload = (await place.runs("alice", first))["status"]["workload"]["uid"]
    strikes.arm()
    pushed = await place.push("alice", WORKS if works else CRASHES, "second")

    async def image() -> dict[str, Any]:
        return dict((await get_sandbox(place.api, "alice") or {})["status"]["image"])

    async def look() -> None:
        assert len(place.canaries()) < 2
        if "rolling" not in await image() and (await image())["digest"] == first:
            # Whatever became of the trial, the agent goes on.
            assert place.sdk.containers.get(workload).status == "running"

    async def is_over() -> bool:
        # With what follows the trial has no part in; the simulated node's tests end the operator there, too.
        return "rolling" in await image() or "last" in await image()

    await survived(strikes, is_over, look)
    found = await place.comes_to("alice", rolled_to(pushed))
    await place.runs("alice", pushed if works else first)
    assert found["status"]["image"]["last"]["result"] == ("Rolled" if works else "NotRolled")
    assert place.canaries() == []
    assert (place.sdk.api.containers(filters={"id": workload}) == []) == works
    print(strikes.struck)
    about = [one for one in strikes.struck if one.endswith("canary")]
    assert {one.partition(" ")[0] for one in about} == {"POST", "DELETE"}, strikes.struck
    assert sum("PATCH" in one and "canary" in one for one in strikes.struck) >= 1 + works, strikes.struck
    assert "heals" not in (await get_sandbox(place.api, "alice") or {})["status"]
