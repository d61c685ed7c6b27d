"""When a helper begins, what is said of it, and what is over."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.api.kinds.backups import BACKUP_CONDITIONS, BACKUP_MEANINGS, BackupConditionType, BackupReason
from claude_sandbox.backends.backups import Helper, NotNowError, Wanted, ordered
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.backups.reconciler import MOST_CONFLICTS, MOST_TRIES, BackupReconciler
from claude_sandbox.controller.backups.status import MOST_ATTEMPTS
from claude_sandbox.controller.machinery.merge_patch import merged
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes.store import Key, Raw
from claude_sandbox.kubernetes_api.errors import ApiError

KEY = Key("agents", "one")
NOW = datetime(2027, 3, 1, tzinfo=UTC)
ALICE = Identity("agents", "alice", "s", "n")
DONE = {
    "outcome": "Done", "snapshot": "f" * 64, "files": 3, "bytes": 10, "added": 4, "changed": 0, "unread": 0,
    "different": 0, "problem": "", "removed": 1,
}  # fmt: skip


@dataclass
class FakeHelpers:
    """What a backend would do."""

    helper: Helper | None = None
    refuses: NotNowError | None = None
    keeps: NotNowError | None = None
    """Why a helper can't be taken away."""
    did: list[str] = field(default_factory=list)
    ordered: list[Wanted] = field(default_factory=list)
    says: Mapping[str, Any] | None = None
    """How far it is."""
    asked: int = 0

    async def look(self, _: Wanted) -> Helper | None:
        return self.helper

    async def start(self, wanted: Wanted) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.did.append("start")
        self.ordered.append(wanted)
        self.helper = Helper(message="it is at work")
        return "somewhere"

    async def progress(self, _: Wanted) -> Mapping[str, Any] | None:
        self.asked += 1
        return self.says

    async def remove(self, _: Wanted) -> None:
        if self.keeps is not None:
            raise self.keeps
        self.did.append("remove")
        self.helper = None


class World:
    """One backup of one sandbox."""

    def __init__(self, **more: Any) -> None:
        spec = {"sandboxName": "alice", "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "b"}}
        metadata = {"namespace": "agents", "name": "one", "uid": "u", "generation": 1}
        self.raw: dict[str, Any] = {"metadata": metadata, "spec": spec | more}
        self.sandbox: dict[str, Any] | None = {
            "metadata": {"namespace": "agents", "name": "alice", "uid": "s"}, "spec": {},
        }  # fmt: skip
        self.others: list[dict[str, Any]] = []
        self.helpers = FakeHelpers()
        self.events: list[tuple[str, bool]] = []
        self.writes = 0
        self.stored: dict[str, Any] | None = None
        """What the server has, where that is newer than what was seen."""

        self.now = NOW
        self.reconciler = BackupReconciler(
            lambda _: self.raw, lambda _: [self.raw, *self.others], lambda _: self.sandbox,
            lambda _: (self.helpers, ALICE), self.manifest, self, lambda: self.now,
        )  # fmt: skip

    def look(self) -> Result:
        return asyncio.run(self.reconciler(KEY))

    async def manifest(self, _: Raw) -> Mapping[str, Any]:
        return {"kind": "ClaudeSandbox"}

    async def write_status(self, raw: Raw, patch: Mapping[str, Any], *, as_seen: bool = False) -> Raw:
        if as_seen and self.stored is not None and raw is not self.stored:
            raise ApiError(409, "Conflict", "the object has been modified")
        self.writes += 1
        self.raw["status"] = merged(self.raw.get("status", {}), patch)
        return self.raw

    async def as_stored(self, raw: Raw) -> Raw | None:
        return self.stored or raw

    def tell(self, _: Raw, reason: str, message: str, *, warning: bool) -> None:
        assert message
        self.events.append((reason, warning))

    def condition(self, kind: str = "Complete") -> tuple[str, str]:
        (found,) = (one for one in self.raw["status"]["conditions"] if one["type"] == kind)
        return found["status"], found["reason"]


def test_a_helper_begins_with_what_goes_along_and_no_password() -> None:
    world = World(retention={"keepLast": 3, "keepWeekly": 2})
    assert world.look().requeue_after
    (wanted,) = world.helpers.ordered
    assert wanted.order["keep"] == {"last": 3, "weekly": 2}
    assert '"ClaudeSandbox"' in wanted.order["files"]["manifest.json"]
    assert world.condition() == ("False", "Running")
    assert (world.raw["status"]["attempts"], world.raw["status"]["location"]) == (1, "somewhere")


def is_complete() -> dict[str, Any]:
    over = {"type": "Complete", "status": "True", "reason": "Stored", "message": "", "observedGeneration": 1}
    return {"conditions": [over], "startedAt": "2027-03-01T00:00:00Z", "attempts": 1}


def test_what_another_process_ended_a_moment_ago_is_not_begun_again() -> None:
    world = World()
    world.stored = world.raw | {"status": is_complete()}
    # The watch did not tell of it yet, and the helper is gone.
    assert world.look().requeue_after
    assert (world.helpers.did, world.writes) == ([], 0)


@pytest.mark.parametrize(
    "seen",
    [
        Helper(message="it is at work"),
        Helper(ended=True, result=DONE),
        Helper(ended=True, result={"outcome": "TargetFull", "message": "m"}),
    ],
    ids=["at work", "stored", "failed"],
)
def test_what_another_process_ended_since_it_was_seen_is_neither_written_over_nor_told_again(seen: Helper) -> None:
    world = World()
    world.look()
    world.helpers.helper, before = seen, world.writes
    world.stored = world.raw | {"status": is_complete()}
    world.look()
    assert (world.writes, world.events, world.helpers.did) == (before, [], ["start"])


def test_what_can_not_be_now_is_not_written_over_what_another_process_ended() -> None:
    world = World()
    world.helpers.refuses = NotNowError(BackupReason.HELPER_NOT_STARTED, "The engine does not answer.")

    async def begins_late(wanted: Wanted) -> str:
        world.stored = world.raw | {"status": is_complete()}
        raise NotNowError(BackupReason.HELPER_NOT_STARTED, "The engine does not answer.")

    world.helpers.start = begins_late  # type: ignore[method-assign]
    assert world.look().requeue_after
    assert world.writes == 0


def test_a_server_that_refuses_each_write_as_a_conflict_is_tried_later() -> None:
    world = World()

    async def conflict(*_: Any, **__: Any) -> Raw:
        world.writes += 1
        raise ApiError(409, "Conflict", "the object has been modified")

    world.write_status = conflict  # type: ignore[method-assign]
    with pytest.raises(ApiError):
        world.look()
    assert world.writes == MOST_CONFLICTS


def test_what_another_process_began_is_counted() -> None:
    world = World()
    world.stored = world.raw | {"status": {"attempts": 4, "startedAt": "2027-03-01T00:00:00Z"}}
    world.look()
    assert (world.helpers.did, world.raw["status"]["attempts"]) == (["start"], MOST_ATTEMPTS)


def test_one_that_is_at_work_is_waited_for_without_writes() -> None:
    world = World()
    world.look()
    world.look()
    before = world.writes
    assert world.look().requeue_after
    assert (world.writes, world.helpers.did) == (before, ["start"])


def says(files: int, phase: str = "Save") -> dict[str, Any]:
    whole = {"files": 200, "bytes": 1000}
    return {"phase": phase, "done": {"files": files, "bytes": 5 * files}, "whole": whole}


def test_how_far_it_is_is_written_each_ten_seconds_at_most_and_not_once_it_is_over() -> None:
    world = World()
    world.look()
    began, written = world.writes, []
    for second in range(0, 61, 2):
        world.now = NOW + timedelta(seconds=second)
        # From half a minute on nothing goes on.
        world.helpers.says = says(min(second, 30))
        world.look()
        written.append(world.raw["status"]["progress"]["files"])
    assert sorted(set(written)) == [0, 10, 20, 30]
    assert world.writes - began == 4
    assert world.raw["status"]["progress"] == {
        "phase": "Save", "percent": 15, "files": 30, "totalFiles": 200, "sizeBytes": 150, "totalBytes": 1000,
        "at": "2027-03-01T00:00:30Z",
    }  # fmt: skip
    world.helpers.helper = Helper(ended=True, result=DONE)
    world.look()
    assert world.condition() == ("True", "Stored")
    assert "progress" not in world.raw["status"]
    asked = world.helpers.asked
    world.look()
    assert world.helpers.asked == asked


@pytest.mark.parametrize(
    "told", [{}, says(1, "Else"), says(1) | {"done": {"files": "x", "bytes": 1}}, says(1) | {"whole": []}]
)
def test_what_a_helper_says_otherwise_of_how_far_it_is_is_no_progress(told: dict[str, Any]) -> None:
    world = World()
    world.look()
    world.helpers.says = told
    world.look()
    assert (world.condition(), "progress" in world.raw["status"]) == (("False", "Running"), False)


def test_what_is_stored_and_compared_is_said_once_and_the_helper_goes() -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(ended=True, result=DONE)
    assert world.look() == Result()
    assert (world.condition(), world.condition("BackupVerified")) == (
        ("True", "Stored"), ("True", "RestoredAndCompared"),
    )  # fmt: skip
    assert world.helpers.did == ["start", "remove"]
    assert world.events == [("BackupVerified", False)]
    status = world.raw["status"]
    assert (status["files"], status["sizeBytes"], status["addedBytes"], status["removedSnapshots"]) == (3, 10, 4, 1)
    assert world.look() == Result()
    assert world.helpers.did == ["start", "remove"]


def test_what_is_over_stays_so_though_its_host_falls_silent_before_the_helper_went() -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(ended=True, result=DONE)
    world.helpers.keeps = NotNowError(BackupReason.HOST_UNREACHABLE, "it is silent")
    assert world.look().requeue_after
    assert (world.condition(), world.condition("BackupVerified")) == (
        ("True", "Stored"), ("True", "RestoredAndCompared"),
    )  # fmt: skip
    assert world.events == [("BackupVerified", False)]
    # It is asked again for a while, and for no longer: the host may be gone for good.
    for _ in range(MOST_TRIES - 2):
        assert world.look().requeue_after
        assert "completedAt" not in world.raw["status"]
    world.now += timedelta(minutes=2)
    assert world.look() == Result()
    # It ended when its end was seen.
    assert world.raw["status"]["completedAt"] == "2027-03-01T00:00:00Z"
    assert world.events == [("BackupVerified", False)]


def test_a_helper_goes_once_its_host_is_heard_of_by_a_process_that_has_just_begun() -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(ended=True, result=DONE)
    world.helpers.keeps = NotNowError(BackupReason.HOST_UNREACHABLE, "it has not answered yet")
    assert world.look().requeue_after
    world.helpers.keeps = None
    assert world.look() == Result()
    assert (world.helpers.did, "completedAt" in world.raw["status"]) == (["start", "remove"], True)


def test_a_copy_that_differs_is_stored_and_not_verified() -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(ended=True, result=DONE | {"different": 1, "examples": ["a: other content"]})
    world.look()
    assert (world.condition(), world.condition("BackupVerified")) == (("True", "Stored"), ("False", "Different"))
    assert world.events == [("Different", True)]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("WrongPassword", "WrongPassword"),
        ("TargetFull", "TargetFull"),
        ("Stored", "BackupFailed"),
        ("x", "BackupFailed"),
    ],
)
def test_what_failed_is_over_with_restics_reason(told: str, reason: str) -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(ended=True, result={"outcome": "Failed", "reason": told, "message": "so it says"})
    assert world.look() == Result()
    assert world.condition() == ("False", reason)
    assert world.condition("BackupVerified") == ("Unknown", "NotVerified")
    assert world.raw["status"]["conditions"][0]["message"].startswith("so it says")
    assert world.events == [(reason, True)]


def test_a_helper_that_ends_without_a_word_is_begun_anew_and_not_for_ever() -> None:
    world = World()
    for _ in range(MOST_ATTEMPTS):
        world.look()
        world.helpers.helper = Helper(ended=True, message="it ended with code 137")
        assert world.look().requeue_after
    assert world.look() == Result()
    assert world.condition() == ("False", "HelperLost")
    assert world.helpers.did == [*["start", "remove"] * MOST_ATTEMPTS, "remove"]


def test_what_is_missing_is_told_and_looked_for_again() -> None:
    world = World()
    world.sandbox = None
    assert world.look().requeue_after
    assert world.condition() == ("False", "SandboxNotFound")
    world = World()
    world.helpers.refuses = NotNowError(BackupReason.SECRET_NOT_FOUND, "there is none")
    assert world.look().requeue_after
    assert world.condition() == ("False", "SecretNotFound")
    assert "attempts" not in world.raw["status"]
    before = world.writes
    world.look()
    assert world.writes == before


def test_a_workspace_in_memory_and_a_spec_that_is_refused_are_over_at_once() -> None:
    world = World()
    assert world.sandbox is not None
    world.sandbox["spec"] = {"workspace": {"type": "EmptyDir"}}
    assert world.look() == Result()
    assert world.condition() == ("False", "NothingToKeep")
    world = World(target={"type": "VolumeClaim"})
    assert world.look() == Result()
    assert world.condition() == ("False", "InvalidSpec")


def test_every_condition_and_reason_is_explained() -> None:
    assert set(BACKUP_CONDITIONS) == set(BackupConditionType)
    assert set(BACKUP_MEANINGS) == set(BackupReason)


def test_with_the_home_where_the_sandbox_keeps_one() -> None:
    world = World(includeHome=True)
    world.look()
    assert world.condition() == ("False", "NothingToKeep")
    assert not world.helpers.ordered
    world = World(includeHome=True)
    assert world.sandbox is not None
    world.sandbox["spec"] = {"workspace": {"keepHome": {"size": "1Gi"}}}
    world.look()
    (wanted,) = world.helpers.ordered
    assert wanted.home
    assert wanted.order["parts"] == ["workspace", "home"]


def test_a_torn_repository_is_no_verified_backup_and_one_that_was_damaged_before_is() -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(True, DONE | {"torn": 1, "tornExamples": ["a/.git: git fsck finds it damaged"]})
    world.look()
    assert world.condition("BackupVerified") == ("False", "RepositoryTorn")
    assert world.raw["status"]["tornRepositories"] == 1
    world = World()
    world.look()
    told = DONE | {"repositories": 2, "damaged": 1, "sessions": 0, "gone": ["0123abcd"]}
    world.helpers.helper = Helper(True, told)
    world.look()
    assert world.condition("BackupVerified") == ("True", "RestoredAndCompared")
    message = next(one["message"] for one in world.raw["status"]["conditions"] if one["type"] == "BackupVerified")
    assert "2 git repositories are whole" in message
    assert "no session of Claude Code" in message
    assert world.raw["status"]["removed"] == ["0123abcd"]


OLD, NEW, AT = "a" * 64, "b" * 64, "somewhere"
S3 = {
    "type": "S3",
    "s3": {"endpoint": "https://s3.example.org", "bucket": "backups"},
    "credentialsSecretRef": {"name": "b"},
}


def another(name: str, target: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    spec = {"sandboxName": name, "target": target or {"type": "HostDirectory"}, "passwordSecretRef": {"name": "b"}}
    return {"metadata": {"namespace": "agents", "name": name, "uid": name}, "spec": spec, "status": status}


def stored(repository: str, day: int) -> dict[str, Any]:
    return {"repository": repository, "location": AT, "completedAt": f"2027-02-0{day}T00:00:00Z"}


def test_the_repository_that_was_there_last_is_to_be_there_again() -> None:
    world = World()
    world.others = [another("new", **stored(NEW, 2)), another("old", **stored(OLD, 1))]
    world.look()
    (wanted,) = world.helpers.ordered
    assert wanted.repositories == {AT: NEW}


def test_a_schedule_remembers_it_when_all_backups_were_removed() -> None:
    world = World()
    assert world.sandbox is not None
    world.sandbox["status"] = {"backup": stored(OLD, 1)}
    world.look()
    assert world.helpers.ordered[0].repositories == {AT: OLD}


@pytest.mark.parametrize(("replaces", "left"), [(NEW, {}), (OLD, {AT: NEW})])
def test_what_is_replaced_needs_not_be_there_and_what_was_replaced_before_changes_nothing(
    replaces: str, left: dict[str, str]
) -> None:
    world = World(replacesRepository=replaces)
    world.others = [another("new", **stored(NEW, 2)), another("old", **stored(OLD, 1))]
    world.look()
    assert world.helpers.ordered[0].repositories == left


def test_the_helper_is_told_whose_list_it_may_read() -> None:
    world = World()
    made = {"creationTimestamp": "2027-02-01T00:00:00Z"}
    last = another("alice", **stored(NEW, 2), snapshot="a" * 64, sizeBytes=1 << 30, conditions=[
        {"type": "Complete", "status": "True"}, {"type": "BackupVerified", "status": "True"},
    ])  # fmt: skip
    last["metadata"] |= made
    assert world.sandbox is not None
    world.sandbox["metadata"] |= made
    world.others = [last]
    world.look()
    (wanted,) = world.helpers.ordered
    assert ordered(wanted, AT)["verified"] == "a" * 64
    assert ordered(wanted, "elsewhere")["verified"] == ""


def test_which_repository_it_is_in_is_told() -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(ended=True, result=DONE | {"repository": OLD})
    world.look()
    assert world.raw["status"]["repository"] == OLD


@pytest.mark.parametrize("reason", ["RepositoryGone", "AnotherRepository"])
def test_a_repository_that_is_not_what_it_was_is_told_with_the_way_to_begin_anew(reason: str) -> None:
    world = World()
    world.look()
    told = {"outcome": "Failed", "reason": reason, "message": f"the repository {OLD} is not there any more"}
    world.helpers.helper = Helper(ended=True, result=told)
    assert world.look() == Result()
    assert world.condition() == ("False", reason)
    (message,) = (one["message"] for one in world.raw["status"]["conditions"] if one["type"] == "Complete")
    assert OLD in message
    assert "spec.replacesRepository" in message
    assert world.events == [(reason, True)]


def test_on_a_server_one_makes_the_repository_and_the_others_wait_for_that() -> None:
    world = World(target=S3)
    world.others = [another("bob", S3, startedAt="2027-02-28T23:30:00Z")]
    assert world.look().requeue_after
    assert (world.condition(), world.helpers.ordered) == (("False", "HelperNotStarted"), [])
    # It is not waited for without end, nor once there is one.
    world.others = [another("bob", S3, startedAt="2027-02-28T22:30:00Z")]
    world.look()
    assert world.condition() == ("False", "Running")
    world = World(target=S3)
    world.others = [another("bob", S3, startedAt="2027-02-28T23:30:00Z"), another("carol", S3, **stored(OLD, 1))]
    world.look()
    assert world.condition() == ("False", "Running")


def test_of_two_that_begin_at_the_same_moment_one_makes_the_repository() -> None:
    world = World(target=S3)
    second = another("two", S3)
    metadata = {"namespace": "agents", "generation": 1}
    raws = {"one": world.raw, "two": second | {"metadata": second["metadata"] | metadata, "status": {}}}
    world.raw["metadata"]["uid"] = "one"
    begins, starting = asyncio.Event(), asyncio.Event()

    async def start(wanted: Wanted) -> str:
        world.helpers.ordered.append(wanted)
        begins.set()
        await starting.wait()
        return AT

    world.helpers.start = start  # type: ignore[method-assign]
    reconciler = BackupReconciler(
        lambda key: raws[key.name], lambda _: list(raws.values()), lambda _: world.sandbox,
        lambda _: (world.helpers, ALICE), world.manifest, world, lambda: NOW,
    )  # fmt: skip

    async def both() -> None:
        async with asyncio.timeout(30):
            first = asyncio.create_task(reconciler(KEY))
            await begins.wait()
            assert (await reconciler(Key("agents", "two"))).requeue_after
            starting.set()
            await first

    asyncio.run(both())
    assert [one.uid for one in world.helpers.ordered] == ["one"]


def test_a_helper_whose_end_was_written_by_a_process_that_ended_then_is_taken_away() -> None:
    world = World()
    world.look()
    world.helpers.helper = Helper(ended=True, result=DONE | {"location": AT})
    world.look()
    assert world.raw["status"]["completedAt"]
    del world.raw["status"]["completedAt"]
    world.look()
    assert world.helpers.did == ["start", "remove", "remove"]
    assert world.raw["status"]["completedAt"] == "2027-03-01T00:00:00Z"
    writes = world.writes
    assert world.look() == Result()
    assert (world.writes, world.helpers.did) == (writes, ["start", "remove", "remove"])


def test_one_that_was_begun_by_a_process_that_ended_then_tells_where_it_is_and_when_it_began() -> None:
    world = World()
    world.helpers.helper = Helper(ended=True, result=DONE | {"repository": OLD, "location": AT})
    world.look()
    status = world.raw["status"]
    assert (status["location"], status["attempts"], status["startedAt"]) == (AT, 1, "2027-03-01T00:00:00Z")


OF_ONE_MOMENT = {"volumeSnapshot": {}, "target": {"type": "VolumeClaim", "claimName": "c"}}


def test_what_comes_before_the_helper_is_of_the_same_attempt_and_its_moment_is_told() -> None:
    world = World(**OF_ONE_MOMENT)
    world.look()
    assert world.helpers.ordered[0].volume_snapshot is not None
    world.helpers.helper = Helper(message="it is being made")
    world.look()
    moment = NOW + timedelta(seconds=5)
    world.helpers.helper = Helper(is_prepared=True, moment=moment)
    world.look()
    status = world.raw["status"]
    assert (world.helpers.did, status["attempts"]) == (["start", "start"], 1)
    assert status["volumeSnapshotAt"] == "2027-03-01T00:00:05Z"
    world.helpers.helper = Helper(ended=True, result=DONE, moment=moment)
    world.look()
    assert world.condition() == ("True", "Stored")


def test_one_that_is_prepared_in_the_last_attempt_begins() -> None:
    world = World(**OF_ONE_MOMENT)
    world.raw["status"] = {"attempts": MOST_ATTEMPTS, "startedAt": "2027-03-01T00:00:00Z"}
    world.helpers.helper = Helper(is_prepared=True)
    world.look()
    assert (world.helpers.did, world.raw["status"]["attempts"]) == (["start"], MOST_ATTEMPTS)


def test_a_helper_that_somebody_removes_each_time_is_lost_though_its_snapshot_stays() -> None:
    world = World(**OF_ONE_MOMENT)
    world.look()
    moment, counted = NOW + timedelta(seconds=5), []
    while world.condition() == ("False", "Running") and len(counted) < 2 * MOST_ATTEMPTS:
        world.helpers.helper = Helper(is_prepared=True, moment=moment)
        world.look()
        counted.append(world.raw["status"]["attempts"])
    assert counted == [1, 2, 3, 4, 5, 5]
    assert world.condition() == ("False", "HelperLost")
    # What it was to read goes too, and that is noted last.
    assert (world.helpers.did[-1], world.helpers.did.count("start")) == ("remove", 1 + MOST_ATTEMPTS)
    assert "completedAt" in world.raw["status"]


def test_another_snapshot_in_a_later_attempt_is_read_within_that() -> None:
    world = World(**OF_ONE_MOMENT)
    world.raw["status"] = {
        "attempts": 2, "startedAt": "2027-03-01T00:00:00Z", "volumeSnapshotAt": "2027-03-01T00:00:05Z",
    }  # fmt: skip
    world.helpers.helper = Helper(is_prepared=True, moment=NOW + timedelta(seconds=9))
    world.look()
    assert world.raw["status"]["attempts"] == 2


def test_a_crash_before_it_was_noted_counts_as_one_attempt() -> None:
    world = World(**OF_ONE_MOMENT)
    world.helpers.helper = Helper(is_prepared=True)
    world.look()
    assert (world.raw["status"]["attempts"], "startedAt" in world.raw["status"]) == (1, True)


def test_what_can_not_be_had_ends_it_and_is_told_and_what_there_is_goes() -> None:
    world = World(**OF_ONE_MOMENT)
    world.helpers.refuses = NotNowError(BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE, "install it")
    assert world.look() == Result()
    assert world.condition() == ("False", "VolumeSnapshotNotPossible")
    assert world.helpers.did == ["remove"]
    assert "completedAt" in world.raw["status"]
    assert world.events == [("VolumeSnapshotNotPossible", True)]
    world.look()
    assert len(world.events) == 1


def test_a_snapshot_that_fails_ends_it_with_the_remedy() -> None:
    world = World(**OF_ONE_MOMENT)
    world.look()
    failed = {"outcome": "Failed", "reason": "VolumeSnapshotFailed", "message": "the array is full"}
    world.helpers.helper = Helper(ended=True, result=failed)
    assert world.look() == Result()
    assert world.condition() == ("False", "VolumeSnapshotFailed")
    (told,) = (one["message"] for one in world.raw["status"]["conditions"] if one["type"] == "Complete")
    assert "the array is full. See" in told
    assert world.helpers.did == ["start", "remove"]
