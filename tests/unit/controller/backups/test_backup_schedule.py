"""When a sandbox's schedule makes a backup, which of them go, and what is verified."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.api.fields.work.backup import Backup
from claude_sandbox.api.validate import parse_backup_spec, parse_spec
from claude_sandbox.controller.backups.schedule import MOST_FAILED, MOST_KEPT, at_work, manifest, name_for
from claude_sandbox.controller.backups.scheduling import REFUSED, Schedules
from claude_sandbox.controller.sandboxes.interfaces import Backed
from claude_sandbox.controller.sandboxes.store import Key, Raw
from claude_sandbox.kubernetes_api.errors import ApiError

MADE = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
DAILY = {"schedule": "30 2 * * *", "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "b"}}


class World:
    """One sandbox with a schedule, the API server's backups, and a clock."""

    def __init__(self, **asked: Any) -> None:
        self.now = MADE
        self.asked = DAILY | asked
        self.backups: dict[str, dict[str, Any]] = {}
        self.status: dict[str, Any] = {}
        self.refuses: ApiError | None = None
        self.unknown = ""

    async def known(self, _: str) -> str:
        return self.unknown

    def of(self, _: Key) -> list[Raw]:
        return list(self.backups.values())

    async def create(self, namespace: str, body: Mapping[str, Any]) -> None:
        if self.refuses is not None:
            raise self.refuses
        name = body["metadata"]["name"]
        if name in self.backups:
            raise ApiError(409, "AlreadyExists", "it is there")
        metadata = body["metadata"] | {"namespace": namespace, "creationTimestamp": self.now.isoformat()}
        assert parse_backup_spec(body).sandbox_name == "alice"
        self.backups[name] = {**body, "metadata": metadata}

    async def read(self, key: Key) -> Raw:
        return self.backups[key.name]

    async def delete(self, raw: Raw) -> None:
        del self.backups[raw["metadata"]["name"]]

    def at(self, when: datetime) -> "World":
        self.now = when
        return self

    def look(self, operators: int = 1) -> Backed:
        metadata = {"namespace": "agents", "name": "alice", "uid": "s", "creationTimestamp": MADE.isoformat()}
        spec = {
            "credentials": {"apiKeySecretRef": {"name": "key"}},
            "backend": {"type": "Docker"},
            "workspace": {"keepHome": {"size": "1Gi"}},
        }
        raw = {"metadata": metadata, "spec": spec | {"backup": self.asked}, "status": {"backup": self.status}}
        for _ in range(operators):
            found = asyncio.run(Schedules(self, lambda: self.now).of(raw, parse_spec(raw)))
        assert found is not None
        self.status = found.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        return found

    def ends(self, name: str, *, good: bool = True, **more: Any) -> None:
        verified = {"type": "BackupVerified", "status": "True" if good else "Unknown", "reason": "RestoredAndCompared"}
        complete = {"type": "Complete", "status": "True", "reason": "Stored"}
        if not good:
            complete |= {"status": "False", "reason": "TargetFull"}
        told = {"snapshot": f"snapshot of {name}"} if good else {}
        at = f"{self.now:%Y-%m-%dT%H:%M:%SZ}"
        self.backups[name]["status"] = {"conditions": [complete, verified], "completedAt": at} | told | more


def day(number: int, hour: int = 2, minute: int = 30) -> datetime:
    return datetime(2027, 3, number, hour, minute, tzinfo=UTC)


def test_nothing_is_made_before_the_first_time_of_the_schedule_and_then_it_is() -> None:
    world = World(includeHome=True, retention={"keepLast": 3})
    assert world.look().again == timedelta(hours=14, minutes=30).total_seconds()
    assert not world.backups
    world.at(day(2)).look()
    (made,) = world.backups.values()
    assert made["metadata"]["name"] == "alice-20270302-0230"
    assert made["spec"]["includeHome"]
    assert made["spec"]["retention"] == {"keepLast": 3}
    assert not made["metadata"].get("ownerReferences"), "it outlives its sandbox"
    assert world.status == {"lastScheduled": "2027-03-02T02:30:00Z", "lastBackup": "alice-20270302-0230"}


def test_a_time_that_has_not_come_yet_puts_nothing_off() -> None:
    """A clock was ahead for a moment; or somebody who may make backups wrote it to one."""
    world = World()
    world.at(datetime(2127, 1, 1, tzinfo=UTC)).look()
    (wrong,) = world.backups.values()
    wrong["metadata"]["creationTimestamp"] = day(2).isoformat()
    world.at(day(2, 1)).ends("alice-21261231-0230")
    world.at(day(3)).look()
    assert "alice-20270303-0230" in world.backups
    assert world.status["lastScheduled"] == "2027-03-03T02:30:00Z"


def test_of_times_that_were_missed_one_is_made_up_for() -> None:
    world = World()
    world.at(day(9, 17)).look()
    assert list(world.backups) == ["alice-20270309-0230"]
    world.look()
    assert list(world.backups) == ["alice-20270309-0230"]


def test_one_that_is_under_way_is_waited_for_be_it_made_by_hand() -> None:
    world = World()
    world.at(day(2)).look()
    world.backups["by-hand"] = world.backups.pop("alice-20270302-0230")
    world.backups["by-hand"]["metadata"] |= {"name": "by-hand", "labels": {}, "annotations": {}}
    world.at(day(3)).look()
    assert list(world.backups) == ["by-hand"]
    world.ends("by-hand")
    world.at(day(3, 4)).look()
    assert list(world.backups) == ["by-hand", "alice-20270303-0230"]


def test_while_it_is_not_known_which_there_are_none_is_made_and_what_was_said_stays() -> None:
    world = World()
    world.at(day(2)).look()
    world.ends("alice-20270302-0230")
    world.look()
    before, world.unknown = dict(world.status), "Which backups there are is not known: no."
    found = world.at(day(3)).look()
    assert (list(world.backups), world.status) == (["alice-20270302-0230"], before)
    assert found.said == world.unknown
    assert found.again == REFUSED


def test_two_operators_make_one() -> None:
    world = World()
    found = world.at(day(2)).look(operators=2)
    assert list(world.backups) == ["alice-20270302-0230"]
    assert not found.said


def test_a_second_operator_that_knows_of_none_yet_takes_what_is_there() -> None:
    world = World()
    world.at(day(2)).look()
    known, world.status = world.backups, {}
    world.of = lambda _: []  # type: ignore[method-assign]
    assert not world.look().said
    assert list(known) == ["alice-20270302-0230"]


def test_one_of_its_name_that_somebody_else_made_is_in_the_way_and_is_told() -> None:
    world = World()
    metadata = {"name": "alice-20270302-0230", "namespace": "agents", "creationTimestamp": MADE.isoformat()}
    world.backups["alice-20270302-0230"] = {"metadata": metadata, "spec": {"sandboxName": "bob"}}
    world.of = lambda _: []  # type: ignore[method-assign]
    assert "somebody else's" in world.at(day(2)).look().said


def test_what_was_removed_by_hand_is_not_made_again() -> None:
    world = World()
    world.at(day(2)).look()
    world.backups.clear()
    world.at(day(2, 9)).look()
    assert not world.backups
    world.at(day(3)).look()
    assert list(world.backups) == ["alice-20270303-0230"]


def test_a_refusal_is_told_and_tried_again_and_nothing_is_taken_for_made() -> None:
    world = World()
    world.refuses = ApiError(403, "Forbidden", "no")
    found = world.at(day(2)).look()
    assert found.again == REFUSED
    assert "refused" in found.said
    assert world.status == {}
    world.refuses = None
    world.at(day(2, 3)).look()
    assert list(world.backups) == ["alice-20270302-0230"]


def test_the_last_that_was_verified_is_told_though_its_object_is_gone_and_a_later_one_failed() -> None:
    world = World()
    world.at(day(2)).look()
    world.at(day(2, 3)).ends("alice-20270302-0230")
    found = world.look()
    assert (found.status.last_verified, found.status.verified_backup) == (day(2, 3, 30), "alice-20270302-0230")
    world.at(day(3)).look()
    world.ends("alice-20270303-0230", good=False)
    del world.backups["alice-20270302-0230"]
    found = world.look()
    assert found.status.last_verified == day(2, 3, 30)
    assert found.status.last_backup == "alice-20270303-0230"
    assert "alice-20270303-0230 ended with TargetFull" in found.said


def test_backups_of_an_earlier_sandbox_of_the_name_count_for_nothing() -> None:
    world = World()
    world.at(MADE - timedelta(days=1))
    asyncio.run(world.create("agents", {"metadata": {"name": "old"}, "spec": DAILY_OF_ALICE}))
    world.ends("old")
    assert world.at(MADE).look().status.last_verified is None


DAILY_OF_ALICE = {"sandboxName": "alice", "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "b"}}


def test_an_object_goes_when_its_snapshot_went_and_those_made_by_hand_stay() -> None:
    world = World(retention={"keepLast": 1})
    for number in (2, 3):
        world.at(day(number)).look()
        world.ends(f"alice-2027030{number}-0230", snapshot=f"{number}" * 64)
    asyncio.run(world.create("agents", {"metadata": {"name": "by-hand"}, "spec": DAILY_OF_ALICE}))
    world.ends("by-hand", snapshot="a" * 64)
    world.backups["alice-20270303-0230"]["status"]["removed"] = ["2" * 64, "a" * 64]
    world.look()
    assert sorted(world.backups) == ["alice-20270303-0230", "by-hand"]


def test_of_those_that_stay_the_newest_are_kept_and_always_the_one_that_was_verified_last() -> None:
    world = World(schedule="0 * * * *")
    first = MADE
    for number in range(1, MOST_KEPT + 10):
        world.at(first + timedelta(hours=number)).look()
        name = name_for("alice", world.now)
        world.ends(name)
        if number > 1:
            # Stored, and not verified.
            world.backups[name]["status"]["conditions"][1]["status"] = "Unknown"
    for _ in range(3):
        world.look()
    assert len(world.backups) == MOST_KEPT + 1
    assert name_for("alice", first + timedelta(hours=1)) in world.backups
    for number in range(MOST_KEPT + 10, MOST_KEPT + 16):
        world.at(first + timedelta(hours=number)).look()
        world.ends(name_for("alice", world.now), good=False)
    world.look()
    failed = [one for one in world.backups.values() if not one["status"].get("snapshot")]
    assert len(failed) == MOST_FAILED


@settings(max_examples=50)
@given(st.data())
def test_whatever_happens_no_time_has_two_and_none_is_older_than_the_last(data: st.DataObject) -> None:
    world = World(schedule=data.draw(st.sampled_from(["*/15 * * * *", "0 */6 * * *", "5,6 1-3 * * 1-5"])))
    made: list[str] = []
    for _ in range(data.draw(st.integers(1, 25))):
        world.at(world.now + timedelta(minutes=data.draw(st.integers(0, 3000))))
        before = set(world.backups)
        found = world.look(operators=data.draw(st.integers(1, 2)))
        new = sorted(set(world.backups) - before)
        assert len(new) <= 1
        assert not made or all(name > made[-1] for name in new)
        made += new
        assert found.again is not None
        assert found.again > 0
        for name, one in list(world.backups.items()):
            if not one.get("status") and data.draw(st.booleans()):
                world.ends(name, good=data.draw(st.booleans()))
        if world.backups and data.draw(st.integers(0, 9)) == 0:
            world.backups.clear()


FIELDS = (
    st.sampled_from(["0", "59", "1,2,3,4", "*/15", "*/59"]), st.sampled_from(["*", "*/2", "0-23/3", "1,5-7", "23"]),
    st.sampled_from(["*", "1-31/2", "31", "30,31", "*/99"]), st.sampled_from(["*", "2", "12", "1-3", "4,6", "*/5"]),
    st.sampled_from(["*", "0", "7", "1-5", "5-7", "*/2"]),
)  # fmt: skip


@given(st.tuples(*FIELDS))
def test_what_the_schema_takes_comes_at_some_time_or_is_told_never_to(fields: tuple[str, ...]) -> None:
    asked = DAILY | {"schedule": " ".join(fields)}
    try:
        Backup.model_validate(asked)
    except ValueError:
        with pytest.raises(CronSimError):
            CronSim(asked["schedule"], MADE)
        return
    world = World(schedule=asked["schedule"])
    found = world.at(MADE + timedelta(days=2000)).look()
    assert (found.again is None) == ("no time that ever comes" in found.said)
    assert bool(world.backups) == (found.again is not None)


def test_that_the_repository_is_gone_is_said_until_one_is_verified_again() -> None:
    world = World()
    world.at(day(2)).look()
    world.ends("alice-20270302-0230", repository="a" * 64, location="somewhere")
    assert not world.look().gone
    assert (world.status["repository"], world.status["location"]) == ("a" * 64, "somewhere")
    world.at(day(3)).look()
    gone = {"type": "Complete", "status": "False", "reason": "RepositoryGone"}
    world.ends("alice-20270303-0230", good=False, conditions=[gone])
    found = world.look()
    assert found.gone
    assert "RepositoryGone" in found.said
    # The next time it is tried again, and what is known of the lost one stays known.
    world.at(day(4)).look()
    assert world.status["repository"] == "a" * 64
    world.ends("alice-20270304-0230", repository="a" * 64, location="somewhere")
    assert not world.look().gone


@pytest.mark.parametrize("asked", [{}, {"className": "fast", "storageClassName": "slow"}, None])
def test_each_is_of_one_moment_where_that_is_asked_for(asked: dict[str, str] | None) -> None:
    spec = DAILY | {"target": {"type": "VolumeClaim", "claimName": "backups"}, "volumeSnapshot": asked}
    sandbox = {"metadata": {"namespace": "agents", "name": "alice", "uid": "s"}}
    made = manifest(sandbox, Backup.model_validate(spec), day(2))
    assert made["spec"].get("volumeSnapshot") == asked
    parse_backup_spec({**made, "metadata": made["metadata"] | {"namespace": "agents"}})


@pytest.mark.parametrize(
    ("backup", "status", "waits"),
    [
        ({}, {"startedAt": "2027-03-01T02:00:00Z"}, True),
        ({}, {}, False),
        ({"sandboxName": "bob"}, {"startedAt": "2027-03-01T02:00:00Z"}, False),
        ({}, {"startedAt": "2027-02-28T02:00:00Z"}, False),
        ({}, {"startedAt": "2027-03-01T02:00:00Z", "conditions": [{"type": "Complete", "reason": "Stored"}]}, False),
    ],
    ids=["begun", "waits itself", "another's", "too long ago", "over"],
)
def test_which_backup_the_end_of_a_sandbox_waits_for(
    backup: dict[str, Any], status: dict[str, Any], waits: bool
) -> None:
    sandbox = {"metadata": {"name": "alice", "creationTimestamp": "2027-01-01T00:00:00Z"}}
    made = {"creationTimestamp": "2027-02-01T00:00:00Z"}
    one = {"metadata": made, "spec": {"sandboxName": "alice"} | backup, "status": status}
    assert at_work(sandbox, [one], day(1)) == waits
    # One of an earlier sandbox of the name is another's.
    assert not at_work(sandbox, [one | {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}], day(1))
