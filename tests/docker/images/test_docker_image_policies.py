"""Policies for images on real engines: what is not signed is not pulled, and a newer image that fails is given up."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker_fleet import condition, event_notes
from image_place import AT_ONCE, CRASHES, THEIRS, UNHEALTHY, WORKS, ImagePlace, image_place

from claude_sandbox.kubernetes_api.client import Obj
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns]


@pytest.fixture
async def place(control_plane: Cluster, host: EngineDescription, tmp_path: Path) -> AsyncIterator[ImagePlace]:
    async with image_place(control_plane, host, tmp_path) as made:
        yield made


def refused(found: Obj) -> bool:
    return condition(found["status"], "Stalled") == ("True", "ImageNotAllowed")


async def test_only_what_is_signed_is_pulled_and_it_runs_by_the_digest_that_was_verified(place: ImagePlace) -> None:
    good = await place.push("good", WORKS, "good")
    wrong = await place.push("wrong", WORKS, "wrong", THEIRS)
    unsigned = await place.push("unsigned", WORKS, "unsigned", None)
    for name in ("wrong", "unsigned", "good"):
        await place.create(name)
    await place.runs("good", good)
    for name in ("wrong", "unsigned"):
        found = await place.comes_to(name, refused)
        assert "workload" not in found["status"]
    assert place.pulled() == {good}
    assert not {wrong, unsigned} & place.pulled()


async def test_a_newer_image_rolls_and_one_that_crashes_is_given_up(place: ImagePlace) -> None:
    asked = AT_ONCE
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=asked)
    await place.runs("alice", first)
    second = await place.push("alice", WORKS, "second")
    await place.comes_to("alice", lambda found: (found["status"]["image"].get("last") or {}).get("to") == second)
    await place.runs("alice", second)
    broken = await place.push("alice", CRASHES, "broken")
    found = await place.comes_to("alice", lambda found: broken in (found["status"]["image"].get("failed") or ()))
    assert found["status"]["image"]["digest"] == second
    await place.runs("alice", second)
    await event_notes(place.api, "alice", "ImageRolledBack", broken)
    # It was tried, and what is not signed never is.
    unsigned = await place.push("alice", WORKS, "unsigned", None)
    await place.comes_to(
        "alice", lambda found: (found["status"]["image"].get("available") or {}).get("digest") == unsigned
    )
    await place.runs("alice", second)
    assert unsigned not in place.pulled()


@pytest.mark.slow
async def test_a_newer_image_that_runs_and_is_never_ready_is_given_up(place: ImagePlace) -> None:
    # Of what comes back, and of the first, the gate asks nothing: a slow machine makes no difference.
    asked = AT_ONCE | {"healthGate": {"readyWithin": "15s", "stableFor": "3s"}}
    first = await place.push("alice", WORKS, "first")
    await place.create("alice", updatePolicy=asked)
    await place.runs("alice", first)
    hangs = await place.push("alice", UNHEALTHY, "hangs")
    await place.comes_to("alice", lambda found: hangs in (found["status"]["image"].get("failed") or ()))
    await place.runs("alice", first)
    await event_notes(place.api, "alice", "ImageRolledBack", "not ready within 15s")
