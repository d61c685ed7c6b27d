"""A newer image is tried beside the workload on real engines: what does not work there never touches that."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import condition, event_notes
from dockerkit import BROKEN
from image_place import BESIDE, CRASHES, HANGS, UNHEALTHY, WORKS, ImagePlace, image_place, rolled_to

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns, pytest.mark.timeout(900)]


@pytest.fixture
async def place(control_plane: Cluster, host: EngineDescription, tmp_path: Path) -> AsyncIterator[ImagePlace]:
    async with image_place(control_plane, host, tmp_path) as made:
        yield made


def gate(within: str, stable: str) -> dict[str, Any]:
    return BESIDE | {"healthGate": {"readyWithin": within, "stableFor": stable}}


async def test_what_crashes_beside_the_workload_never_touches_it_and_what_works_takes_its_place(
    place: ImagePlace,
) -> None:
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=BESIDE)
    workload = (await place.runs("alice", first))["status"]["workload"]["uid"]
    broken = await place.push("alice", CRASHES, "broken")
    found = await place.comes_to("alice", rolled_to(broken))
    image = found["status"]["image"]
    assert (image["last"]["result"], image["digest"], image["failed"]) == ("NotRolled", first, [broken])
    assert "exit code 1" in image["last"]["message"]
    assert found["status"]["workload"]["uid"] == workload
    assert place.canaries() == []
    await event_notes(place.api, "alice", "ImageNotRolled", broken)

    second = await place.push("alice", WORKS, "second")
    canary = (await place.tried(second)).attrs
    assert canary["HostConfig"]["NetworkMode"] == "none"
    # Neither its key nor its workspace is in it.
    assert {mount["Destination"]: mount["RW"] for mount in canary["Mounts"]} == {
        "/opt/claude-sandbox": False,
        "/etc/claude-code": False,
    }
    live = place.sdk.containers.get(workload).attrs
    for name in ("CapDrop", "SecurityOpt", "ReadonlyRootfs", "Memory", "NanoCpus", "PidsLimit", "Privileged"):
        assert canary["HostConfig"][name] == live["HostConfig"][name], name
    found = await place.comes_to("alice", rolled_to(second))
    assert "beside the workload" in found["status"]["image"]["last"]["message"]
    await place.runs("alice", second)
    assert place.canaries() == []


@pytest.mark.slow
async def test_what_works_and_is_less_compliant_gives_way_to_the_image_before(place: ImagePlace) -> None:
    first = await place.push("alice", WORKS, "first")
    asked = BESIDE | {"canary": "None", "healthGate": BESIDE["healthGate"] | {"requires": "Compliant"}}
    await place.create("alice", updatePolicy=asked)
    await place.runs("alice", first)
    # Writable to the agent, and on the host's disk.
    worse = await place.push("alice", WORKS, "worse", volumes=("/data",))
    found = await place.comes_to("alice", rolled_to(worse))
    image = found["status"]["image"]
    assert (image["last"]["result"], image["digest"], image["failed"]) == ("RolledBack", first, [worse])
    assert "FS-08 failed" in image["last"]["message"]
    await place.runs("alice", first)
    good = await place.push("alice", WORKS, "good")
    found = await place.comes_to("alice", rolled_to(good))
    assert found["status"]["image"]["last"]["result"] == "Rolled"


@pytest.mark.slow
async def test_an_operator_that_is_killed_while_an_image_is_tried_goes_on_with_it(place: ImagePlace) -> None:
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=gate("90s", "20s"))
    workload = (await place.runs("alice", first))["status"]["workload"]["uid"]
    second = await place.push("alice", WORKS, "second")
    canary = await place.tried()
    await place.comes_to("alice", lambda found: bool(found["status"]["image"]["canary"].get("uid")))
    place.operator.stop(signal.SIGKILL)
    place.operator.start()
    await place.operator.is_ready()
    found = await place.comes_to("alice", lambda found: "readyAt" in found["status"]["image"].get("canary", {}))
    # It is the same one, and the workload is untouched.
    assert found["status"]["image"]["canary"]["uid"] == canary.id
    assert found["status"]["workload"]["uid"] == workload
    await place.comes_to("alice", rolled_to(second))
    assert place.canaries() == []


@pytest.mark.slow
async def test_who_is_suspended_or_goes_while_an_image_is_tried_leaves_nothing_of_it(place: ImagePlace) -> None:
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=gate("90s", "1h"))
    await place.runs("alice", first)
    await place.push("alice", WORKS, "second")
    await place.tried()
    await place.edit("alice", operatingMode="Suspended")
    found = await place.comes_to("alice", lambda found: condition(found["status"], "Ready")[1] == "Suspended")
    await place.comes_to("alice", lambda found: not found["status"]["image"].get("canary"))
    assert place.canaries() == []
    await place.edit("alice", operatingMode="Running")
    await place.tried()
    await place.emptied()
    assert place.canaries() == []
    assert found["status"]["image"]["digest"] == first


@pytest.mark.slow
async def test_what_hangs_is_unhealthy_or_becomes_so_beside_the_workload_never_touches_it(place: ImagePlace) -> None:
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=gate("20s", "2s"))
    workload = (await place.runs("alice", first))["status"]["workload"]["uid"]
    before = place.sdk.containers.get(workload).attrs

    async def given_up(digest: str, why: str) -> None:
        found = await place.comes_to("alice", rolled_to(digest))
        image = found["status"]["image"]
        assert (image["last"]["result"], image["digest"], "rolling" in image) == ("NotRolled", first, False)
        assert why in image["last"]["message"]
        assert digest in image["failed"]
        assert place.canaries() == []
        now = place.sdk.containers.get(workload).attrs
        assert (now["State"], now["RestartCount"]) == (before["State"] | {"Health": now["State"].get("Health")}, 0)
        assert place.is_of("alice", found, first)

    for work, mark in ((UNHEALTHY, "unhealthy"), (HANGS, "hangs")):
        await given_up(await place.push("alice", work, mark), "not ready within 20s")
    # What works at first is waited for, however long it takes on this machine.
    await place.edit("alice", updatePolicy=gate("120s", "1h"))
    later = await place.push("alice", WORKS, "later")
    canary = await place.tried(later)
    await place.comes_to("alice", lambda found: "readyAt" in (found["status"]["image"].get("canary") or {}))
    code, output = canary.exec_run(["sh", "-c", f": >{BROKEN}"], user="1000:1000")
    assert code == 0, output
    await given_up(later, "it was ready, and is no more")
    # What works all the time is taken after all that.
    await place.edit("alice", updatePolicy=gate("120s", "2s"))
    good = await place.push("alice", WORKS, "good")
    found = await place.comes_to("alice", rolled_to(good))
    assert found["status"]["image"]["last"]["result"] == "Rolled"
    await place.runs("alice", good)
    assert place.canaries() == []


@pytest.mark.slow
async def test_where_the_host_has_no_room_beside_the_workload_it_goes_on_without_and_says_so(place: ImagePlace) -> None:
    await place.fleet.change("engine-1", capacity={"memory": "3Gi"})
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=BESIDE)
    await place.runs("alice", first)
    good = await place.push("alice", WORKS, "good")
    found = await place.comes_to("alice", rolled_to(good))
    last = found["status"]["image"]["last"]
    assert last["result"] == "Rolled"
    assert "not tried beside the workload" in last["message"]
    await place.runs("alice", good)
