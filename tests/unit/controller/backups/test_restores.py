"""What keeps a sandbox from starting until its workspace is filled, and what is written when that is over."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.backups import Helper, NotNowError, Wanted
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.backups.restores import Restores
from claude_sandbox.controller.sandboxes.interfaces import Restoring
from claude_sandbox.controller.sandboxes.store import Raw

SNAPSHOT = "0a1b2c3d" * 8
DONE = {"outcome": "Done", "snapshot": SNAPSHOT, "files": 2, "different": 0}


@dataclass
class FakeHelpers:
    helper: Helper | None = None
    refuses: NotNowError | None = None
    ordered: list[Wanted] = field(default_factory=list)
    removed: int = 0

    async def look(self, _: Wanted) -> Helper | None:
        return self.helper

    async def start(self, wanted: Wanted) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.ordered.append(wanted)
        self.helper = Helper(message="it is at work")
        return "somewhere"

    async def progress(self, _: Wanted) -> Mapping[str, Any] | None:
        return {"phase": "Restore", "done": {"files": 0, "bytes": 30}, "whole": {"files": 2, "bytes": 120}}

    async def remove(self, _: Wanted) -> None:
        self.removed += 1
        self.helper = None


class World:
    def __init__(self, **asked: Any) -> None:
        credentials = {"apiKeySecretRef": {"name": "key"}}
        document = {"credentials": credentials, "restoreFrom": asked or {"backupName": "first"}}
        self.spec = ClaudeSandboxSpec.model_validate(document, by_alias=True, by_name=False)
        self.raw: dict[str, Any] = {"metadata": {"namespace": "agents", "name": "bob", "uid": "b"}}
        self.backup: dict[str, Any] | None = {
            "metadata": {"namespace": "agents", "name": "first", "uid": "f"},
            "spec": {
                "sandboxName": "alice", "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "backups"},
            },
            "status": {"snapshot": SNAPSHOT},
        }  # fmt: skip
        self.helpers = FakeHelpers()
        self.stored: dict[str, Any] | None = None
        """What the server has, where that is newer than what was seen."""
        self.now = datetime(2027, 3, 1, tzinfo=UTC)
        self.restores = Restores(
            lambda _: (self.helpers, Identity("agents", "bob", "b", "n")), lambda _: self.backup,
            lambda _: frozenset({"f"}), self.as_stored, self.write, lambda: self.now,
        )  # fmt: skip

    def look(self) -> Restoring | None:
        return asyncio.run(self.restores.of(self.raw, self.spec))

    async def as_stored(self, raw: Raw) -> Raw | None:
        return self.stored or raw

    async def write(self, _: Raw, patch: Mapping[str, Any]) -> Raw:
        before = self.raw.get("status", {})
        self.raw["status"] = before | {"restore": before.get("restore", {}) | patch["restore"]}
        return self.raw


def test_a_helper_begins_with_the_backups_snapshot_and_its_end_is_written_before_it_goes() -> None:
    world = World()
    waits = world.look()
    assert waits is not None
    assert waits.again
    assert not waits.failed
    (wanted,) = world.helpers.ordered
    assert wanted.restores
    assert (wanted.uid, wanted.secret, wanted.order["snapshot"]) == ("b", "backups", SNAPSHOT)
    goes_on = world.look()
    assert goes_on is not None
    assert goes_on.progress is not None
    assert (goes_on.progress.phase, goes_on.progress.percent) == ("Restore", 25)
    world.helpers.helper = Helper(ended=True, result=DONE)
    over = world.look()
    assert over is not None
    assert over.again == 0
    assert world.raw["status"]["restore"]["state"] == "Restored"
    assert world.helpers.removed == 1
    assert world.look() is None
    assert len(world.helpers.ordered) == 1


@pytest.mark.parametrize("state", ["Restored", "Failed"])
def test_what_another_process_ended_a_moment_ago_is_not_begun_again(state: str) -> None:
    world = World()
    ended = {"state": state, "message": "2 files.", "finishedAt": "2027-03-01T00:00:00Z"}
    world.stored = world.raw | {"status": {"restore": ended}}
    # The watch did not tell of it yet, and the helper is gone.
    found = world.look()
    assert (found is None or found.failed, found is None) == (True, state == "Restored")
    assert (world.helpers.ordered, world.helpers.removed) == ([], 0)
    # The other one may have ended before it had taken the helper away.
    del ended["finishedAt"]
    world.look()
    assert (world.helpers.ordered, world.helpers.removed) == ([], 1)


def test_what_was_refused_stays_so_until_somebody_acts() -> None:
    world = World()
    world.look()
    failed = {"outcome": "Failed", "reason": "WorkspaceNotEmpty", "message": "the workspace has 3 entries already"}
    world.helpers.helper = Helper(ended=True, result=failed)
    for _ in range(3):
        found = world.look()
        assert found is not None
        assert found.failed
        assert "3 entries" in found.message
        assert "Remove spec.restoreFrom" in found.message
    assert len(world.helpers.ordered) == 1


def test_a_helper_that_was_lost_is_begun_anew() -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(ended=True, message="it ended with code 137")
    found = world.look()
    assert found is not None
    assert not found.failed
    assert found.again
    # Whatever wakes the sandbox meanwhile.
    world.look()
    assert (len(world.helpers.ordered), world.helpers.removed) == (1, 1)
    world.now += timedelta(seconds=found.again)
    world.look()
    assert (len(world.helpers.ordered), world.helpers.removed) == (2, 1)


def test_a_helper_that_is_lost_each_time_is_not_begun_for_ever() -> None:
    """As what ends it may be in the backup, which whoever has the password may have written himself."""
    world, waits = World(), list[float]()
    for _ in range(30):
        found = world.look()
        assert found is not None
        waits.append(found.again or 0.0)
        world.now += timedelta(seconds=waits[-1])
        if world.helpers.helper:
            world.helpers.helper = Helper(ended=True, message="it ended out of memory with code 137")
    assert len(world.helpers.ordered) == 5
    assert max(waits) > 10
    assert world.raw["status"]["restore"]["state"] == "Failed"
    assert "out of memory" in world.raw["status"]["restore"]["message"]
    assert "Remove spec.restoreFrom" in world.raw["status"]["restore"]["message"]


@pytest.mark.parametrize("missing", ["backup", "snapshot", "workspace"])
def test_what_is_missing_is_waited_for(missing: str) -> None:
    world = World()
    if missing == "backup":
        world.backup = None
    elif missing == "snapshot":
        assert world.backup is not None
        world.backup["status"] = {}
    else:
        world.helpers.refuses = NotNowError(BackupReason.WORKSPACE_NOT_THERE, "there is none yet")
    found = world.look()
    assert found is not None
    assert found.again
    assert not found.failed
    assert not world.helpers.ordered


def test_a_snapshot_can_be_named_without_its_backup() -> None:
    target = {"type": "VolumeClaim", "claimName": "kept"}
    world = World(snapshot="0a1b2c3d", target=target, passwordSecretRef={"name": "s", "key": "k"})
    world.backup = None
    world.look()
    (wanted,) = world.helpers.ordered
    assert (wanted.target.claim_name, wanted.secret, wanted.key) == ("kept", "s", "k")
    assert wanted.order["snapshot"] == "0a1b2c3d"


RECOVERY = {
    "host": "build-1", "engineId": "e", "at": "2026-11-29T12:00:00Z", "backup": "first", "snapshot": SNAPSHOT,
    "backedUpAt": "2026-11-29T10:00:00Z",
}  # fmt: skip


def recovering(**asked: Any) -> World:
    """One that left a compromised host."""
    world = World(**asked)
    world.raw["status"] = {"recovery": RECOVERY}
    world.raw["metadata"]["creationTimestamp"] = "2026-11-28T00:00:00Z"
    assert world.backup is not None
    world.backup["spec"]["sandboxName"] = "bob"
    world.backup["metadata"]["creationTimestamp"] = "2026-11-29T00:00:00Z"
    return world


def test_one_that_left_its_host_begins_with_the_backup_of_that_time_and_not_with_what_its_spec_names() -> None:
    world = recovering(backupName="another")
    assert world.look() is not None
    (wanted,) = world.helpers.ordered
    assert wanted.order["snapshot"] == SNAPSHOT
    world.helpers.helper = Helper(ended=True, result=DONE)
    world.look()
    assert world.raw["status"]["restore"]["state"] == "Restored"
    assert world.look() is None


def test_another_backup_by_the_name_of_the_one_that_was_found_is_not_restored() -> None:
    world = recovering()
    assert world.backup is not None
    world.backup["status"] = {"snapshot": "9" * 64}
    waits = world.look()
    assert waits is not None
    assert not waits.failed
    assert "another" in waits.message
    world.backup["status"] = {"snapshot": SNAPSHOT}
    # Nor another sandbox's, whoever wrote that into the status.
    world.backup["spec"]["sandboxName"] = "alice"
    assert "another" in str(world.look())
    world.backup["spec"]["sandboxName"] = "bob"
    world.backup["metadata"]["creationTimestamp"] = "2026-11-27T00:00:00Z"
    assert "another" in str(world.look())
    world.backup = None
    assert "There is no ClaudeSandboxBackup" in str(world.look())
    assert world.helpers.ordered == []


@pytest.mark.parametrize("reason", ["TargetUnreachable", "WrongPassword", "CredentialsRefused", "RepositoryBusy"])
def test_what_passes_is_tried_again_where_nobody_is_there_who_would_ask_again(reason: str) -> None:
    world = recovering()
    world.look()
    world.helpers.helper = Helper(ended=True, result={"outcome": "Failed", "reason": reason, "message": "no"})
    waits = world.look()
    assert waits is not None
    assert (waits.failed, "restore" in world.raw["status"]) == (False, False)
    assert waits.again
    assert reason in waits.message
    world.look()
    assert len(world.helpers.ordered) == 2


def test_what_does_not_pass_is_told_with_what_is_left_to_do() -> None:
    world = recovering()
    world.look()
    failed = {"outcome": "Failed", "reason": "WorkspaceNotEmpty", "message": "the workspace has 3 entries already"}
    world.helpers.helper = Helper(ended=True, result=failed)
    found = world.look()
    assert found is not None
    assert found.failed
    assert "make it anew" in found.message
    assert "Remove spec.restoreFrom" not in found.message


@pytest.mark.parametrize(("state", "failed"), [("Restored", False), ("Failed", True)])
def test_a_helper_whose_end_was_written_by_a_process_that_ended_then_is_taken_away(state: str, failed: bool) -> None:
    world = World()
    world.raw["status"] = {"restore": {"state": state, "message": "said"}}
    world.helpers.helper = Helper(ended=True, result=DONE)
    found = world.look()
    assert found == Restoring("said", failed, 0.0)
    assert world.helpers.removed == 1
    assert world.raw["status"]["restore"]["finishedAt"]
    assert world.look() == (Restoring("said", failed=True) if failed else None)
    assert (world.helpers.removed, world.helpers.ordered) == (1, [])


def test_one_that_left_its_host_goes_on_trying_whatever_is_lost() -> None:
    world = recovering()
    for _ in range(20):
        found = world.look()
        assert found is not None
        assert not found.failed
        assert found.again is not None
        assert found.again <= 300
        world.now += timedelta(seconds=found.again)
        if world.helpers.helper:
            world.helpers.helper = Helper(ended=True, message="it ended with code 137")
    assert len(world.helpers.ordered) == 10
