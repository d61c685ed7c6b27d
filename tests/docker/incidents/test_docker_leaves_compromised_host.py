"""A sandbox whose Docker host is compromised begins anew on another, with the last backup that was verified before.

A real API server, the operator as a process, two engines, and a bucket that both reach.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker_fleet import OWN, Operator, event_notes
from drain_place import FIRST, SECOND, ready, ready_on
from leaving_place import COMPROMISED, PATIENCE, LeavingPlace, leaving_operator, leaving_place, message, why

from claude_sandbox.api import meta
from claude_sandbox.backends.docker import names
from claude_sandbox.kubernetes_api.client import Obj
from claude_sandbox.kubernetes_api.resources import SANDBOXES, SECRETS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
async def operator(control_plane: Cluster, tmp_path: Path) -> AsyncIterator[Operator]:
    async with leaving_operator(control_plane, tmp_path / "log") as made:
        yield made


@pytest.fixture
async def place(
    operator: Operator, control_plane: Cluster, host: EngineDescription, other_host: EngineDescription, tmp_path: Path
) -> AsyncIterator[LeavingPlace]:
    async with leaving_place(control_plane, host, other_host, tmp_path) as made:
        yield made


async def test_it_begins_elsewhere_with_the_backup_from_before_and_waits_for_another_key(place: LeavingPlace) -> None:
    await place.sandbox("alice")
    await place.sandbox("bob")
    await place.comes_to("alice", ready_on(FIRST))
    await place.comes_to("bob", ready_on(FIRST))
    place.run(FIRST, "alice", "cd /workspace && echo before > a && mkdir d && echo more > d/b")
    backup = await place.back_up("alice", "first")
    place.run(FIRST, "alice", "echo after > /workspace/a")
    (left,) = (one for one in place.left(FIRST, "alice") if one.endswith("-workspace"))
    (agent,) = place.containers(FIRST, "alice")

    await place.fleet.change(FIRST, incident=COMPROMISED)
    # There is no other host yet.
    await place.comes_to("alice", lambda one: why(one) == ("False", "HostCompromised") and "no other" in message(one))
    await place.joined(SECOND)
    moved = await place.comes_to(
        "alice", lambda one: (one["status"].get("restore") or {}).get("state") == "Restored", PATIENCE
    )
    assert moved["status"]["placement"]["host"] == SECOND
    assert moved["status"]["restore"]["files"] == 2
    recovery = moved["status"]["recovery"]
    assert (recovery["host"], recovery["backup"], recovery["left"]) == (FIRST, "first", [left])
    assert (recovery["snapshot"], len(recovery["snapshot"])) == (backup["snapshot"], 64)
    waits = await place.comes_to("alice", lambda one: why(one) == ("False", "KeyCompromised"))
    assert waits["status"]["lostKey"]["host"] == FIRST
    assert place.containers(SECOND, "alice") == []
    notes = await event_notes(place.api, "alice", "Moved", left)
    assert all(FIRST in note and "first" in note for note in notes)

    # Without a backup it stays, and says so.
    stays = await place.comes_to("bob", lambda one: "no backup" in message(one))
    assert why(stays) == ("False", "HostCompromised")

    # Another key is another key.
    await place.api.patch(SECRETS, "alice", OWN, {"stringData": {"api-key": "not-really-another-key"}})
    found = await place.comes_to("alice", ready_on(SECOND), PATIENCE)
    assert "lostKey" not in found["status"]
    assert place.run(SECOND, "alice", "cd /workspace && cat a d/b") == "before\nmore\n"
    place.run(SECOND, "alice", "echo work > /workspace/a")

    # Nothing on the old host was touched: what ran there runs, with its files.
    agent.reload()
    assert agent.status == "running"
    assert place.run(FIRST, "alice", "cat /workspace/a") == "after\n"

    # A false alarm: what it still has there goes, but for the workspace.
    await place.fleet.change(FIRST, incident=None)
    await place.comes_to("bob", ready_on(FIRST))
    async with asyncio.timeout(PATIENCE):
        while place.left(FIRST, "alice") != [left]:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)
    again = await place.comes_to("alice", ready_on(SECOND))
    assert again["status"]["recovery"] == recovery
    assert place.run(SECOND, "alice", "cat /workspace/a") == "work\n"
    assert ready(again)


async def test_what_somebody_else_may_have_made_is_not_taken(place: LeavingPlace) -> None:
    await place.sandbox("alice")
    first = await place.comes_to("alice", ready_on(FIRST))
    await place.back_up("alice", "theirs")
    # Another sandbox by the same name has another's backups for none of its own.
    await place.api.delete(SANDBOXES, "alice", OWN)
    async with asyncio.timeout(PATIENCE):
        while await place.get("alice") is not None:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)
    await place.sandbox("alice", secret=None)
    second = await place.comes_to("alice", ready_on(FIRST))
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    # A host that admits others alone takes none, whatever it could begin with.
    await place.sandbox("bob")
    await place.comes_to("bob", ready_on(FIRST))
    await place.back_up("bob", "own")
    await place.joined(SECOND, allowedNamespaces={"names": ["others"]})
    await place.fleet.change(FIRST, incident=COMPROMISED)
    await place.comes_to("alice", lambda one: "no backup" in message(one))
    stays = await place.comes_to("bob", lambda one: "no other DockerHost" in message(one))
    assert SECOND not in message(stays)
    assert place.left(SECOND, "alice") == place.left(SECOND, "bob") == []
    await place.fleet.change(FIRST, incident=None)
    for name in ("alice", "bob"):
        await place.comes_to(name, ready_on(FIRST))


async def test_an_operator_that_is_killed_on_the_way_leaves_it_where_it_was_or_goes_on(
    place: LeavingPlace, operator: Operator
) -> None:
    await place.sandbox("alice")
    await place.comes_to("alice", ready_on(FIRST))
    place.run(FIRST, "alice", "head -c 40000000 /dev/urandom > /workspace/a && md5sum < /workspace/a > /workspace/b")
    backup = await place.back_up("alice", "first")
    await place.joined(SECOND)
    await place.fleet.change(FIRST, incident=COMPROMISED)

    async def killed() -> None:
        operator.stop(signal.SIGKILL)
        found = await place.get("alice")
        assert found is not None
        # Where it is stored to be is the only place that may have anything of it, beside what is left.
        if found["status"]["placement"]["host"] == FIRST:
            assert place.left(SECOND, "alice") == []
        else:
            assert found["status"]["recovery"]["snapshot"] == backup["snapshot"]
        operator.start()
        await operator.is_ready()

    def restores(_: Obj) -> bool:
        label = {"label": f"{meta.LABEL_COMPONENT}={names.BACKUP}"}
        return bool(place.sdk[SECOND].containers.list(filters=label, ignore_removed=True))

    await killed()
    await place.comes_to("alice", lambda one: "recovery" in one["status"], PATIENCE)
    await killed()
    await place.comes_to("alice", lambda one: restores(one) or bool(one["status"].get("restore")), PATIENCE)
    await killed()
    moved = await place.comes_to("alice", lambda one: bool(one["status"].get("restore")), PATIENCE)
    await killed()
    assert (moved["status"]["restore"]["state"], moved["status"]["restore"]["files"]) == ("Restored", 2)
    await place.comes_to("alice", lambda one: why(one) == ("False", "KeyCompromised"), PATIENCE)
    await place.api.patch(SECRETS, "alice", OWN, {"stringData": {"api-key": "not-really-another-key"}})
    await place.comes_to("alice", ready_on(SECOND), PATIENCE)
    assert place.run(SECOND, "alice", "cd /workspace && ls && md5sum < a | cmp - b") == "a\nb\n"
