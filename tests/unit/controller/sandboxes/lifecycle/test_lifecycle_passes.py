"""What comes of spec.lifecycle, pass by pass: a sandbox, a backend that does as it is told, and a clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.meta import ANNOTATION_ACTIVE_AT
from claude_sandbox.api.status import Workload
from claude_sandbox.api.status_fields.usage import Answered
from claude_sandbox.backends.base import CpuUse, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.backends.gateway_reports import Report
from claude_sandbox.blueprint.model import Blueprint, Image, Site
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes.reconciler import Reconciler
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes
from claude_sandbox.kubernetes_api.errors import ApiError

KEY = Key("agents", "alice")
MADE = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOTHING = WorkloadState(ConditionStatus.FALSE, Reason.NO_WORKLOAD, "There is no workload.")
GOOD = (ConditionStatus.TRUE, Reason.ALL_CONTROLS_PASS, "39/39 required controls pass")


def wire(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Place:
    """A sandbox on a backend, of which each test says what becomes of it. It is its own reporter."""

    now: datetime = MADE
    ticks: timedelta = timedelta()
    """By how much the clock goes on each time that it is asked."""
    answered: datetime | None = None
    trouble: WorkloadState | None = None
    heard: bool = True
    """Whether its gateways can be."""
    changed: bool = False
    """Whether it runs by an earlier spec."""
    runs: bool = False
    starts: int = 0
    holds_on: bool = False
    events: list[tuple[str, str]] = field(default_factory=list)
    written: int = 0
    pasts: list[Past] = field(default_factory=list)
    deletions: list[Mapping[str, Any]] = field(default_factory=list)
    refuses: ApiError | None = None
    cpu: float | None = None
    """How many cores it keeps busy; None where nothing tells."""
    used: tuple[datetime, float] = (MADE, 0.0)
    held: bool = False
    backed_up: bool = False
    """Whether a backup of it is at work."""

    def __post_init__(self) -> None:
        self.sandboxes = Sandboxes()
        self.started = self.now
        self.restart()

    def restart(self) -> None:
        """Another operator process."""
        site = Site(Image("i", None, "Never"))
        self.loop = Reconciler(
            self.sandboxes,
            self,
            self,
            site,
            clock=self.seconds,
            delete=self._deleted,
            backups=self,
            now=self.tick,
        )

    def tick(self) -> datetime:
        self.now += self.ticks
        return self.now

    def seconds(self) -> float:
        return (self.now - MADE).total_seconds()

    @property
    def raw(self) -> Any:
        return self.sandboxes.get(KEY)

    @property
    def status(self) -> Any:
        return self.raw["status"]

    @property
    def ready(self) -> tuple[str, str]:
        found = next(one for one in self.status["conditions"] if one["type"] == "Ready")
        return found["reason"], found["message"]

    def change(self, lifecycle: Mapping[str, Any] | None, **more: Any) -> None:
        """Another generation of the spec."""
        before = self.raw or {"metadata": {"generation": 0}, "status": {}}
        delivery = "Brokered" if (lifecycle or {}).get("idleTimeout") else "Mounted"
        spec = {"credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": delivery}, **more}
        spec |= {} if lifecycle is None else {"lifecycle": lifecycle}
        self._put({**before, "spec": spec}, generation=before["metadata"]["generation"] + 1)

    def forge(self, status: Mapping[str, Any]) -> None:
        self._put({**self.raw, "status": status})

    def annotate(self, value: str) -> None:
        self._put(self.raw, annotations={ANNOTATION_ACTIVE_AT: value})

    def _put(self, raw: Any, **metadata: Any) -> None:
        version = int(raw["metadata"].get("resourceVersion", "0")) + 1
        fixed = {"namespace": "agents", "name": "alice", "uid": "0b0c7f1e-1111-2222-3333-444455556666"}
        fixed |= {"creationTimestamp": wire(MADE), "resourceVersion": str(version)}
        kind = {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeSandbox"}
        self.sandboxes.put({**raw, **kind, "metadata": {**raw["metadata"], **fixed, **metadata}})

    async def look(self) -> Result:
        """Passes, until nothing is left to be done at once; the last one's result."""
        for _ in range(6):
            result = await self.loop(KEY)
            if result.requeue_after != 0:
                return result
        raise AssertionError(f"never at rest: {result}")

    async def wait(self, passed: timedelta) -> Result:
        self.now += passed
        return await self.look()

    # The backend

    async def key(self, *_: Any) -> KeyState:
        return KeyState("7")

    async def ensure(self, blueprint: Blueprint, _key: Any, _spec: Any, past: Past) -> Outcome:
        self.pasts.append(past)
        if blueprint.running == self.runs:
            return Outcome(spec_changed=self.changed)
        self.runs = blueprint.running
        if self.runs:
            self.starts += 1
            self.started = self.now
            return Outcome(created=("Pod sandbox-alice",))
        return Outcome(removed=("Pod sandbox-alice",), ended=f"pod-{self.starts}")

    async def state(self, *_: Any) -> WorkloadState:
        if not self.runs and not self.holds_on:
            return NOTHING
        workload = Workload(name="sandbox-alice", uid=f"pod-{self.starts}", started_at=self.started)
        answered = None if self.answered is None else Answered(time=self.answered, generation="7")
        report = Report(self.now, answered=answered)
        found = self.trouble or WorkloadState(ConditionStatus.TRUE, Reason.SANDBOX_READY, "It runs.")
        state = WorkloadState(found.status, found.reason, found.message, workload, "7", report=report, heard=self.heard)
        return replace(state, cpu=self._cpu(workload.uid))

    def _cpu(self, container: str) -> CpuUse | None:
        if self.cpu is None:
            return None
        at, seconds = self.used
        self.used = self.now, seconds + self.cpu * (self.now - at).total_seconds()
        return CpuUse(self.used[1], container, self.now)

    async def of(self, *_: Any) -> None:
        return None

    async def at_work(self, _: Any) -> bool:
        return self.backed_up

    async def measure(self, *_: Any) -> Any:
        return None, GOOD, GOOD

    async def forget(self, *_: Any, **__: Any) -> None:
        self.sandboxes.lose(self.raw) if self.raw else None

    # Where reports go

    async def write_status(self, raw: Any, patch: Mapping[str, Any]) -> Any:
        self.written += 1
        version = str(int(raw["metadata"]["resourceVersion"]) + 1)
        return {
            **raw,
            "metadata": {**raw["metadata"], "resourceVersion": version},
            "status": merged(raw["status"], patch),
        }

    def tell(self, _raw: Any, reason: str, message: str, **_: Any) -> None:
        self.events.append((reason, message))

    def observe(self, *_: Any) -> None:
        pass

    async def _deleted(self, raw: Any) -> Any:
        self.deletions.append(raw)
        if self.refuses is not None:
            raise self.refuses
        if self.held:
            marked = {"deletionTimestamp": wire(self.now), "resourceVersion": raw["metadata"]["resourceVersion"] + "0"}
            return {**raw, "metadata": {**raw["metadata"], **marked}}
        return {"kind": "Status", "status": "Success"}

    def told(self, reason: str) -> list[str]:
        return [message for said, message in self.events if said == reason]


def merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(old)
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name) or {}, value) if isinstance(value, Mapping) else value
    return found


async def running(lifecycle: Mapping[str, Any], **more: Any) -> Place:
    place = Place()
    place.change(lifecycle, **more)
    await place.look()
    assert place.runs
    return place


async def test_a_sandbox_whose_time_is_over_is_suspended_and_comes_back_with_more_time() -> None:
    place = await running({"ttl": "8h"})
    assert place.status["lifecycle"] == {"endsAt": "2026-11-01T20:00:00Z"}
    assert (await place.look()).requeue_after == pytest.approx(8 * 3600 - 300)
    await place.wait(8 * HOUR)
    assert not place.runs
    reason, message = place.ready
    assert reason == "Suspended"
    assert "since 2026-11-01 20:00:00 UTC by spec.lifecycle.ttl" in message
    assert "the workspace is kept" in message
    assert "longer ttl" in message
    assert place.status["lifecycle"]["ended"] == {"by": "TTL", "at": "2026-11-01T20:00:00Z"}
    assert len(place.told("Ended")) == 1
    place.change({"ttl": "9h"})
    assert (await place.look()).requeue_after is not None
    assert place.runs
    assert place.ready[0] == "SandboxReady"
    assert place.status["lifecycle"] == {"endsAt": "2026-11-01T21:00:00Z"}


async def test_its_end_is_warned_of_once() -> None:
    place = await running({"ttl": "8h"})
    first = await place.wait(8 * HOUR - 5 * MINUTE)
    assert first.requeue_after == pytest.approx(300)
    await place.wait(MINUTE)
    place.restart()
    await place.wait(MINUTE)
    (warning,) = place.told("EndsSoon")
    assert "2026-11-01 20:00:00 UTC" in warning
    assert "longer ttl" in warning
    place.change({"ttl": "16h"})
    await place.look()
    await place.wait(8 * HOUR)
    assert len(place.told("EndsSoon")) == 2


async def test_at_rest_nothing_is_written_neither_before_the_end_nor_after_it() -> None:
    for lifecycle in ({"ttl": "8h"}, {"idleTimeout": "4h"}, {"ttl": "5h", "idleTimeout": "6h"}):
        place = await running(lifecycle)
        await place.look()
        for passed in (MINUTE, HOUR, 10 * HOUR, HOUR):
            await place.wait(passed)
            written = place.written
            await place.look()
            await place.wait(timedelta(seconds=1))
            place.restart()
            await place.look()
            assert place.written == written, (lifecycle, passed)
        assert not place.runs


async def test_one_that_has_become_ready_is_written_once() -> None:
    place = Place(ticks=timedelta(seconds=1))
    place.change({"idleTimeout": "4h"})
    await place.look()
    assert place.ready[0] == "SandboxReady"
    written = place.written
    for _ in range(3):
        await place.look()
    assert place.written == written


async def test_a_time_that_passes_while_the_operator_is_away_takes_effect_when_it_comes() -> None:
    place = await running({"shutdownTime": "2026-11-01T13:00:00Z"})
    place.now += 5 * HOUR
    place.restart()
    await place.look()
    assert not place.runs
    assert "since 2026-11-01 13:00:00 UTC by spec.lifecycle.shutdownTime" in place.ready[1]
    assert not place.told("EndsSoon")
    place.now -= 5 * HOUR
    await place.look()
    assert not place.runs, "a clock that is set back resumes nothing"
    assert place.starts == 1


async def test_who_asks_nothing_of_the_model_is_idle_and_stays_suspended_until_somebody_resumes_it() -> None:
    place = await running({"idleTimeout": "30m"})
    place.answered = place.now + 20 * MINUTE
    await place.wait(21 * MINUTE)
    await place.wait(10 * MINUTE)
    assert place.runs
    await place.wait(18 * MINUTE)
    assert len(place.told("EndsSoon")) == 1
    await place.wait(MINUTE)
    assert not place.runs
    reason, message = place.ready
    assert reason == "Suspended"
    assert "since 2026-11-01 12:50:00 UTC by spec.lifecycle.idleTimeout" in message
    assert "claude-sandbox resume" in message
    assert place.status["lifecycle"]["lastActive"] == "2026-11-01T12:20:00Z"
    for passed in (MINUTE, HOUR, 100 * HOUR):
        place.restart()
        await place.wait(passed)
        assert place.starts == 1
    place.annotate(wire(place.now))
    await place.look()
    assert place.runs
    await place.wait(29 * MINUTE)
    assert place.runs
    await place.wait(2 * MINUTE)
    assert not place.runs


async def test_a_build_that_goes_on_after_the_last_use_is_not_cut_off_and_counts_once() -> None:
    place = await running({"idleTimeout": "30m"})
    place.cpu = 0.9
    for _ in range(11):
        await place.wait(5 * MINUTE)
        assert place.runs
    assert place.status["lifecycle"]["lastActive"] == "2026-11-01T12:00:00Z"
    assert place.status["lifecycle"]["cpu"]["state"] == "Busy"
    # A loop does not keep it for ever.
    await place.wait(2 * MINUTE)
    assert len(place.told("EndsSoon")) == 1
    assert place.runs
    await place.wait(3 * MINUTE)
    assert not place.runs
    assert "since 2026-11-01 13:00:00 UTC by spec.lifecycle.idleTimeout" in place.ready[1]
    for passed in (MINUTE, HOUR):
        place.restart()
        await place.wait(passed)
        assert place.starts == 1
    # Who uses it again has all of the time anew.
    place.annotate(wire(place.now))
    await place.look()
    for _ in range(11):
        await place.wait(5 * MINUTE)
        assert place.runs
    assert place.starts == 2


async def test_a_build_that_ends_has_the_timeout_begin_then() -> None:
    place = await running({"idleTimeout": "30m"})
    place.cpu = 1.0
    for _ in range(4):
        await place.wait(5 * MINUTE)
    place.cpu = 0.02
    await place.wait(29 * MINUTE)
    assert place.runs
    assert place.status["lifecycle"]["cpu"] == {"state": "Quiet", "busyAt": "2026-11-01T12:20:00Z"}
    await place.wait(MINUTE)
    assert not place.runs


@pytest.mark.parametrize("cores", [None, 0.02])
async def test_where_the_cpu_is_quiet_or_nothing_tells_of_it_the_time_is_as_long_as_ever(cores: float | None) -> None:
    place = await running({"idleTimeout": "30m"})
    place.cpu = cores
    await place.wait(10 * MINUTE)
    assert "cpu" not in place.status["lifecycle"]
    await place.wait(19 * MINUTE)
    assert place.status["lifecycle"]["cpu"] == {"state": "Unknown" if cores is None else "Quiet"}
    await place.wait(MINUTE)
    assert not place.runs


async def test_an_operator_that_has_just_begun_looks_twice_before_it_takes_anybody_for_idle() -> None:
    place = await running({"idleTimeout": "30m"})
    place.cpu = 1.0
    await place.wait(MINUTE)
    place.now += 30 * MINUTE
    place.restart()
    result = await place.look()
    assert place.runs
    assert result.requeue_after == pytest.approx(20)
    await place.wait(timedelta(seconds=20))
    assert place.runs
    assert place.status["lifecycle"]["cpu"]["state"] == "Busy"
    # One that is quiet is at its end then.
    other = await running({"idleTimeout": "30m"})
    other.cpu = 0.0
    other.now += 31 * MINUTE
    other.restart()
    await other.look()
    assert other.runs
    await other.wait(timedelta(seconds=20))
    assert not other.runs


async def test_a_busy_sandbox_is_not_written_with_each_look() -> None:
    place = await running({"idleTimeout": "10h"})
    place.cpu = 1.0
    await place.wait(6 * HOUR)
    written = place.written
    for _ in range(24):
        await place.wait(5 * MINUTE)
    assert place.written - written <= 3


@pytest.mark.parametrize("delivery", ["restarted", "at once"])
async def test_one_that_is_used_is_never_idle_however_long_the_operator_was_away(delivery: str) -> None:
    place = await running({"idleTimeout": "30m"})
    for _ in range(20):
        if delivery == "restarted":
            place.restart()
        place.answered = place.now + 3 * HOUR - MINUTE
        await place.wait(3 * HOUR)
        assert place.runs
    assert place.starts == 1


@pytest.mark.parametrize(
    "trouble",
    [
        WorkloadState(ConditionStatus.FALSE, Reason.GATEWAY_NOT_READY, "The gateway does not work."),
        WorkloadState(ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, "The engine does not answer."),
        WorkloadState(ConditionStatus.FALSE, Reason.CONTAINER_FAILING, "It does not stay up."),
    ],
)
async def test_what_can_not_be_known_makes_nobody_idle(trouble: WorkloadState) -> None:
    place = await running({"idleTimeout": "30m"})
    place.trouble = trouble
    await place.wait(20 * MINUTE)
    await place.wait(5 * HOUR)
    assert place.runs
    # When it works again, it has the whole time.
    place.trouble = None
    await place.look()
    await place.wait(29 * MINUTE)
    assert place.runs
    await place.wait(MINUTE)
    assert not place.runs


@pytest.mark.parametrize("what", ["heard", "changed"])
async def test_while_its_gateway_is_not_heard_or_may_not_be_its_way_out_nobody_is_idle(what: str) -> None:
    place = await running({"idleTimeout": "30m"})
    setattr(place, what, what == "changed")
    await place.wait(5 * HOUR)
    assert place.runs


async def test_a_workload_that_was_lost_while_nobody_looked_is_made_again_and_not_taken_for_idle() -> None:
    place = await running({"idleTimeout": "30m"})
    place.runs = False
    await place.wait(5 * HOUR)
    assert place.starts == 2
    assert place.pasts[-1].settled


async def test_an_end_is_another_wish_and_no_loss() -> None:
    place = await running({"ttl": "8h"})
    await place.look()
    assert place.pasts[-1].settled
    await place.wait(8 * HOUR)
    assert not place.pasts[-1].settled
    await place.look()
    assert place.pasts[-1].settled


async def test_resuming_by_the_operating_mode_is_a_sign_of_activity() -> None:
    place = await running({"idleTimeout": "30m"})
    await place.wait(HOUR)
    assert not place.runs
    place.change({"idleTimeout": "30m"}, operatingMode="Suspended")
    await place.look()
    assert "operatingMode" in place.ready[1]
    await place.wait(HOUR)
    place.change({"idleTimeout": "30m"}, operatingMode="Running")
    await place.look()
    assert place.runs
    await place.wait(29 * MINUTE)
    assert place.runs


@pytest.mark.parametrize("ahead", [6 * MINUTE, HOUR, timedelta(days=9999)])
async def test_a_time_to_come_is_no_sign_of_activity(ahead: timedelta) -> None:
    place = await running({"idleTimeout": "30m"})
    place.annotate(wire(place.now + ahead + 31 * MINUTE))
    await place.wait(31 * MINUTE)
    assert not place.runs


async def test_what_is_no_time_is_refused_with_an_example() -> None:
    place = await running({"idleTimeout": "30m"})
    place.annotate("yesterday")
    await place.look()
    stalled = next(one for one in place.status["conditions"] if one["type"] == "Stalled")
    assert stalled["reason"] == "InvalidSpec"
    assert "claudesandbox.dev/active-at" in stalled["message"]
    assert "2027-03-31T18:00:00Z" in stalled["message"]
    assert "lastActive" in place.status["lifecycle"]


@pytest.mark.parametrize("policy", ["Suspend", "Delete"])
async def test_whoever_may_write_a_status_ends_nothing_by_it(policy: str) -> None:
    for lifecycle, by in (({"ttl": "8h"}, "TTL"), ({"idleTimeout": "30m", "ttl": "8h"}, "IdleTimeout")):
        place = await running(lifecycle | {"shutdownPolicy": policy})
        place.answered = place.now + 20 * MINUTE
        await place.wait(20 * MINUTE)
        for told in (place.now - HOUR, place.now + 9 * HOUR):
            forged = {"ended": {"by": by, "at": wire(told)}, "lastActive": wire(MADE - 10 * HOUR)}
            place.forge({**place.status, "lifecycle": forged})
            await place.look()
            assert place.starts == 1
            assert place.runs
            assert "ended" not in place.status["lifecycle"]
        assert not place.deletions


async def test_nothing_is_deleted_before_its_time_by_the_clock() -> None:
    place = await running(DELETE)
    place.runs = False
    place.forge({**place.status, "lifecycle": {"ended": {"by": "TTL", "at": wire(MADE + 8 * HOUR)}}})
    await place.look()
    assert not place.deletions


DELETE = {"ttl": "8h", "shutdownPolicy": "Delete"}


async def test_with_delete_its_pod_ends_first_and_then_it_is_deleted_as_it_was_seen() -> None:
    place = await running(DELETE)
    place.holds_on = True
    await place.wait(8 * HOUR)
    assert not place.runs
    assert not place.deletions, "somebody else's finalizer could hold it for ever, and its pod must not run meanwhile"
    (said,) = place.told("Ended")
    assert "it is deleted" in said
    place.holds_on = False
    seen = place.raw
    await place.look()
    assert place.deletions == [seen]
    assert place.raw is None
    assert len(place.told("Ended")) == 1


async def test_one_that_is_being_backed_up_ends_in_time_and_goes_with_the_end_of_that() -> None:
    """What says of the backup that it is whole would else go with it, and so would the workspace."""
    place = await running(DELETE)
    place.backed_up = True
    await place.wait(8 * HOUR)
    result = await place.look()
    assert not place.runs
    assert not place.deletions
    assert result.requeue_after is None or result.requeue_after > 60
    place.backed_up = False
    await place.look()
    assert len(place.deletions) == 1


async def test_one_that_another_finalizer_holds_is_on_its_way() -> None:
    place = await running(DELETE)
    place.held = True
    await place.wait(8 * HOUR)
    assert len(place.deletions) == 1
    assert place.raw is None or "deletionTimestamp" in place.raw["metadata"]


@pytest.mark.parametrize("status", [404, 409])
async def test_whoever_changed_it_a_moment_ago_keeps_it(status: int) -> None:
    place = await running(DELETE)
    place.now += 8 * HOUR
    place.refuses = ApiError(status, "Conflict" if status == 409 else "NotFound", "it is another version")
    result = await place.look()
    if status == 404:
        assert place.raw is None
        return
    assert result.requeue_after
    place.change({"ttl": "16h", "shutdownPolicy": "Delete"})
    place.refuses = None
    await place.look()
    assert place.runs
    assert len(place.deletions) == 1


async def test_an_operator_that_may_not_delete_suspends_and_says_what_to_do() -> None:
    place = await running(DELETE)
    place.refuses = ApiError(403, "Forbidden", "no")
    await place.wait(8 * HOUR)
    await place.look()
    assert not place.runs
    assert place.ready[0] == "PermissionDenied"
    assert "manifests/rbac/roles" in place.ready[1]
    assert len(place.told("Ended")) == 1


async def test_an_idle_one_is_deleted_too_where_that_is_asked_for() -> None:
    place = await running({"idleTimeout": "30m", "shutdownPolicy": "Delete"})
    await place.wait(HOUR)
    assert not place.runs
    assert len(place.deletions) == 1


async def test_one_that_a_person_suspended_is_not_idle() -> None:
    place = await running({"idleTimeout": "30m", "shutdownPolicy": "Delete"})
    place.change({"idleTimeout": "30m", "shutdownPolicy": "Delete"}, operatingMode="Suspended")
    await place.look()
    await place.wait(24 * HOUR)
    assert not place.deletions


async def test_of_a_workspace_that_is_not_kept_it_says_so() -> None:
    place = await running({"ttl": "8h"}, workspace={"type": "EmptyDir"})
    await place.wait(8 * HOUR)
    assert "is not kept" in place.ready[1]
