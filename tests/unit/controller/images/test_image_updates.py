"""When a newer image is taken, when the one before comes back, and what is remembered of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.fields.update_policy import UpdatePolicy, Window
from claude_sandbox.api.status import Workload
from claude_sandbox.api.status_fields.image import ImageResult, ImageStatus
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.controller.images.measured import Measured, measured_of
from claude_sandbox.controller.images.updates import NO_WORK, Newest, Work, events, replaces, stepped, withdrawn

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)  # a Monday
OLD, NEW, NEWER = ("sha256:" + letter * 64 for letter in "abc")
RUNS = ImageStatus(named="registry.test/a:1", digest=OLD, since=NOW - timedelta(days=9))


def policy(strategy: str = "Auto", **more: Any) -> UpdatePolicy:
    """Without a trial beside the workload, which is before all that is asked for here."""
    alone = {"canary": "None"} if strategy == "Auto" else {}
    return UpdatePolicy.model_validate({"strategy": strategy, **alone, **more})


def work(
    uid: str | None = "old",
    status: ConditionStatus = ConditionStatus.TRUE,
    reason: Reason = Reason.SANDBOX_READY,
    active: timedelta = timedelta(hours=1),
    *,
    heard: bool = True,
) -> Work:
    workload = None if uid is None else Workload(name="a", uid=uid, started_at=NOW)
    return Work(WorkloadState(status, reason, "so it is", workload=workload), NOW - active, heard)


FAILING = ConditionStatus.FALSE, Reason.CONTAINER_FAILING
WAITING = ConditionStatus.FALSE, Reason.POD_NOT_READY
UNKNOWN = ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED


def available(found: ImageStatus) -> str:
    assert found.available is not None
    assert found.rolling is None
    return found.available.message


def test_a_newer_image_is_told_of_and_nothing_else_is_done() -> None:
    found = stepped(policy("Notify"), RUNS, Newest(NEW), NO_WORK, NOW)
    assert "Notify" in available(found)
    assert found.available is not None
    assert (found.digest, found.available.digest, found.available.found_at) == (OLD, NEW, NOW)
    # Nothing is written anew as long as it is so.
    assert stepped(policy("Notify"), found, Newest(NEW), NO_WORK, NOW + timedelta(days=1)) == found
    assert stepped(policy("Notify"), found, None, NO_WORK, NOW) == found
    assert stepped(policy("Notify"), found, Newest(OLD), NO_WORK, NOW).available is None


@pytest.mark.parametrize(
    ("asked", "newest", "seen", "part"),
    [
        (policy(), Newest(NEW, False, "It is not signed."), work(), "not signed"),
        (policy(window={"start": "13:00", "hours": 2}), Newest(NEW), work(), "window"),
        (policy(window={"start": "11:00", "hours": 2, "days": ["Tue"]}), Newest(NEW), work(), "window"),
        (policy(), Newest(NEW), work(active=timedelta(minutes=9)), "idle"),
        (policy(), Newest(NEW), work(heard=False), "not heard"),
        (policy(), Newest(NEW), work("old", *WAITING), "ready"),
        (policy(), Newest(NEW), work("old", *UNKNOWN), "ready"),
        (policy(maxAge="1m"), Newest(NEW), work(active=timedelta()), "idle"),
        (policy(maxAge="0m"), Newest(NEW, False, "It is not signed."), work(), "not signed"),
    ],
)
def test_what_a_newer_image_waits_for(asked: UpdatePolicy, newest: Newest, seen: Work, part: str) -> None:
    assert part in available(stepped(asked, RUNS, newest, seen, NOW))


def test_what_is_not_known_to_be_permitted_is_not_rolled() -> None:
    assert stepped(policy(), RUNS, Newest(NEW, None), work(), NOW) == RUNS


def test_it_waits_for_an_idle_agent_no_longer_than_max_age() -> None:
    busy = work(active=timedelta())
    asked = policy(maxAge="7d")
    found = stepped(asked, RUNS, Newest(NEW), busy, NOW)
    assert "idle" in available(found)
    later = stepped(asked, found, Newest(NEW), busy, NOW + timedelta(days=7))
    assert later.rolling is not None
    assert stepped(policy(maxAge="0m"), RUNS, Newest(NEW), busy, NOW).rolling is not None


def rolling() -> ImageStatus:
    found = stepped(policy(), RUNS, Newest(NEW), work(), NOW)
    assert found.rolling is not None
    assert (found.digest, found.rolling.to, found.replaces) == (OLD, NEW, "old")
    assert replaces(found, work("old"))
    assert not replaces(found, work("new"))
    return found


def test_what_is_ready_for_as_long_as_the_gate_says_is_what_runs() -> None:
    found = stepped(policy(), rolling(), Newest(NEW), work("new"), NOW + timedelta(minutes=1))
    assert found.rolling is not None
    assert found.rolling.ready_at == NOW + timedelta(minutes=1)
    assert stepped(policy(), found, Newest(NEW), work("new"), NOW + timedelta(minutes=5)) == found
    done = stepped(policy(), found, Newest(NEW), work("new"), NOW + timedelta(minutes=6))
    assert (done.digest, done.rolling, done.failed) == (NEW, None, None)
    assert done.last is not None
    assert (done.last.result, done.last.before, done.last.to) == (ImageResult.ROLLED, OLD, NEW)
    assert not replaces(done, work("new"))


def test_the_workload_before_says_nothing_of_the_newer_image() -> None:
    began = rolling()
    assert stepped(policy(), began, Newest(NEW), work("old"), NOW + timedelta(minutes=9)).rolling is not None


@pytest.mark.parametrize("missed", [None, timedelta(minutes=60)], ids=["another process", "a silent engine"])
@pytest.mark.parametrize("seen", [work("new"), work("new", *WAITING), work(None, *WAITING)])
def test_time_in_which_nobody_looked_counts_for_nothing(seen: Work, missed: timedelta | None) -> None:
    found = stepped(policy(), rolling(), Newest(NEW), seen, NOW + timedelta(minutes=1))
    again = NOW + timedelta(minutes=61)
    found = stepped(policy(), found, Newest(NEW), replace(seen, missed=missed), again)
    assert (found.rolling is not None, found.failed) == (True, None)
    is_ready = seen.state.status is ConditionStatus.TRUE
    lasts = timedelta(minutes=5 if is_ready else 10)
    assert stepped(policy(), found, Newest(NEW), seen, again + lasts - timedelta(seconds=30)) == found
    over = stepped(policy(), found, Newest(NEW), seen, again + lasts)
    assert (over.rolling, over.failed) == (None, None if is_ready else [NEW])


@pytest.mark.parametrize(
    ("seen", "after"),
    [
        pytest.param(work("new", *FAILING), timedelta(seconds=5), id="crashes"),
        pytest.param(work("new", *WAITING), timedelta(minutes=10), id="never ready"),
        pytest.param(work(None, *WAITING), timedelta(minutes=10), id="never there"),
    ],
)
def test_what_does_not_work_goes_and_is_never_tried_again(seen: Work, after: timedelta) -> None:
    # That the one before it takes long to go is not its fault.
    began = stepped(policy(), rolling(), Newest(NEW), work("old", *WAITING), NOW + timedelta(days=1))
    began = stepped(policy(), began, Newest(NEW), work(None, *WAITING), NOW + timedelta(days=1))
    found = stepped(policy(), began, Newest(NEW), seen, NOW + timedelta(days=1) + after)
    assert (found.digest, found.rolling, found.failed) == (OLD, None, [NEW])
    assert found.last is not None
    assert found.last.result is ImageResult.ROLLED_BACK
    assert replaces(found, seen) is (seen.uid is not None)
    assert "not tried again" in available(stepped(policy(), found, Newest(NEW), work(), NOW + timedelta(days=1)))
    # One that is newer still is.
    assert stepped(policy(), found, Newest(NEWER), work(), NOW + timedelta(days=1)).rolling is not None


def test_what_was_ready_and_is_no_more_goes_at_once() -> None:
    ready = stepped(policy(), rolling(), Newest(NEW), work("new"), NOW + timedelta(minutes=1))
    found = stepped(policy(), ready, Newest(NEW), work("new", *WAITING), NOW + timedelta(minutes=2))
    assert (found.digest, found.failed) == (OLD, [NEW])


def test_what_cannot_be_seen_neither_fails_nor_passes() -> None:
    began = rolling()
    assert stepped(policy(), began, Newest(NEW), work("new", *UNKNOWN), NOW + timedelta(days=1)) == began


def test_who_asks_for_no_updates_any_more_has_the_image_before_back() -> None:
    assert stepped(policy("Notify"), rolling(), Newest(NEW), work("new"), NOW).digest == OLD
    refused = withdrawn(rolling(), work("new"), NOW)
    assert (refused.rolling, refused.failed) == (None, None)


def stalled(reason: Reason, at: datetime) -> dict[str, Any]:
    told = {"type": "Stalled", "status": "True", "reason": reason.value, "lastTransitionTime": at.isoformat()}
    return {"conditions": [{"type": "Ready", "status": "False"}, told]}


BEGAN = replace(work(), generation=3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"generation": 4}, "The spec was changed meanwhile."),
        ({"status": stalled(Reason.SECRET_NOT_FOUND, NOW)}, "Meanwhile there was SecretNotFound."),
        ({"status": stalled(Reason.CONFIG_MAP_NOT_FOUND, NOW)}, "Meanwhile there was ConfigMapNotFound."),
    ],
)
def test_an_image_is_not_blamed_for_what_somebody_changed_while_it_was_tried(change: dict[str, Any], said: str) -> None:
    began = stepped(policy(), RUNS, Newest(NEW), BEGAN, NOW)
    assert began.rolling is not None
    assert began.rolling.generation == 3
    seen = replace(work("new", *FAILING), **{"generation": 3} | change)
    found = stepped(policy(), began, Newest(NEW), seen, NOW + timedelta(minutes=1))
    assert (found.digest, found.rolling, found.failed) == (OLD, None, None)
    assert found.last is not None
    assert found.last.message.startswith(f"{said} It is tried again.")
    [(_, event, _)] = events(began, found)
    assert "not tried again" not in event
    # Once all is well again it is, and then it is blamed.
    well = replace(BEGAN, **{"generation": 3} | change)
    again = stepped(policy(), found, Newest(NEW), well, NOW + timedelta(minutes=5))
    assert again.rolling is not None
    assert stepped(policy(), again, Newest(NEW), seen, NOW + timedelta(minutes=6)).failed == [NEW]


@pytest.mark.parametrize(
    "status",
    [
        stalled(Reason.SECRET_NOT_FOUND, NOW - timedelta(seconds=1)),
        stalled(Reason.IMAGE_NOT_USABLE, NOW),
        stalled(Reason.REJECTED, NOW),
        {},
    ],
)
def test_it_is_blamed_beside_what_was_so_before_and_what_it_brings_about(status: dict[str, Any]) -> None:
    began = stepped(policy(), RUNS, Newest(NEW), BEGAN, NOW)
    seen = replace(work("new", *FAILING), generation=3, status=status)
    found = stepped(policy(), began, Newest(NEW), seen, NOW + timedelta(minutes=1))
    assert found.failed == [NEW]
    assert "write its digest into spec.image" in available(stepped(policy(), found, Newest(NEW), BEGAN, NOW))


def test_only_so_many_are_remembered_and_the_newest_of_them() -> None:
    many = RUNS.model_copy(update={"failed": [f"sha256:{n:064}" for n in range(8)]})
    found = stepped(policy(), many, Newest(NEW), work(), NOW)
    found = stepped(policy(), found, Newest(NEW), work("new", *FAILING), NOW)
    assert found.failed == [*(f"sha256:{n:064}" for n in range(1, 8)), NEW]


def test_each_change_is_told_once() -> None:
    told = stepped(policy(), RUNS, Newest(NEW), work(active=timedelta()), NOW)
    began = stepped(policy(), told, Newest(NEW), work(), NOW)
    back = stepped(policy(), began, Newest(NEW), work("new", *FAILING), NOW)
    steps = [None, RUNS, told, told, began, began, back, back]
    reasons = [[one[0] for one in events(*pair)] for pair in pairwise(steps)]
    assert reasons == [[], ["ImageAvailable"], [], ["ImageRolling"], [], ["ImageRolledBack"], []]
    assert [one[2] for one in events(began, back)] == [True]


@pytest.mark.parametrize(
    ("start", "hours", "days", "now", "is_open"),
    [
        ("12:00", 1, [], NOW, True),
        ("11:00", 1, [], NOW, False),
        ("22:00", 15, [], NOW, True),
        ("22:00", 15, ["Sun"], NOW, True),
        ("22:00", 15, ["Mon"], NOW, False),
        ("12:00", 24, ["Mon"], NOW + timedelta(hours=23, minutes=59), True),
        ("12:00", 24, ["Mon"], NOW + timedelta(hours=24), False),
    ],
)
def test_a_window_is_open(start: str, hours: int, days: list[str], now: datetime, is_open: bool) -> None:
    assert Window.model_validate({"start": start, "hours": hours, "days": days}).is_open(now) is is_open


def test_a_state_without_a_change_is_the_same() -> None:
    seen = replace(work(), active=None)
    assert stepped(policy(), RUNS, Newest(OLD), seen, NOW) == RUNS


COMPLIANT = policy(healthGate={"requires": "Compliant"})
BEFORE = Measured(frozenset({"RES-07"}), frozenset({"NET-06"}))


def judged(measured: Measured | None, after: timedelta, asked: UpdatePolicy = COMPLIANT) -> ImageStatus:
    """A newer image that is ready a minute after it was begun, with these controls for so long after that."""
    begun = stepped(asked, RUNS, Newest(NEW), replace(work(), measured=BEFORE), NOW)
    assert begun.rolling is not None
    ready, found = NOW + timedelta(minutes=1), begun
    for passed in (timedelta(), timedelta(minutes=5), after):
        found = stepped(asked, found, Newest(NEW), replace(work("new"), measured=measured), ready + passed)
    return found


@pytest.mark.parametrize(
    "measured",
    [
        BEFORE,
        Measured(),
        pytest.param(Measured(unknown=frozenset({"RES-07"})), id="failed before, unknown now"),
    ],
)
def test_what_was_as_bad_before_holds_no_newer_image_back(measured: Measured) -> None:
    assert judged(measured, timedelta(minutes=6)).digest == NEW


@pytest.mark.parametrize(
    "measured",
    [
        pytest.param(Measured(frozenset({"RES-07", "FS-08"}), frozenset({"NET-06"})), id="fails"),
        pytest.param(Measured(frozenset({"RES-07", "FS-08", "NET-06"})), id="fails, and one that was unknown"),
    ],
)
def test_a_control_that_fails_and_did_not_before_has_the_image_before_back_and_is_named(measured: Measured) -> None:
    found = judged(measured, timedelta(minutes=5))
    assert (found.digest, found.rolling, found.failed) == (OLD, None, [NEW])
    assert found.last is not None
    assert found.last.result is ImageResult.ROLLED_BACK
    assert "FS-08" in found.last.message
    assert "RES-07" not in found.last.message
    assert ("NET-06" in found.last.message) == ("NET-06" in measured.failed)
    # Who does not ask for it is not asked.
    assert judged(measured, timedelta(minutes=6), policy()).digest == NEW


@pytest.mark.parametrize("measured", [Measured(frozenset(), frozenset({"NET-01"})), None])
def test_what_is_unknown_does_not_pass_and_is_waited_for_as_long_as_the_gate_says(measured: Measured | None) -> None:
    found = judged(measured, timedelta(minutes=14))
    assert (found.digest, found.rolling is not None) == (OLD, True)
    known = stepped(
        COMPLIANT, found, Newest(NEW), replace(work("new"), measured=Measured()), NOW + timedelta(minutes=15)
    )
    assert known.digest == NEW
    given_up = judged(measured, timedelta(minutes=15))
    assert (given_up.digest, given_up.failed) == (OLD, [NEW])
    assert given_up.last is not None
    assert ("NET-01" if measured else "not measured") in given_up.last.message


def test_what_was_not_measured_yet_is_no_measure_for_a_newer_image() -> None:
    assert "measured" in available(stepped(COMPLIANT, RUNS, Newest(NEW), work(), NOW))


def test_only_required_controls_of_the_very_workload_count() -> None:
    def control(name: str, result: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "title": "it", "result": result, "severity": "Low", **more}

    controls = [
        control("FS-08", "Fail", required=True),
        control("NET-01", "Unknown", required=True),
        control("OPS-02", "Fail"),
        control("RES-05", "Fail", exceptedUntil="2027-01-01"),
    ]
    summary = {"pass": 1, "fail": 2, "unknown": 1, "notApplicable": 0, "required": "1/3"}
    compliance = {"summary": summary, "evaluatedAt": "2026-06-01T12:00:00Z", "controls": controls}
    status = {"workload": {"name": "a", "uid": "new"}, "compliance": compliance}
    assert measured_of(status, "new") == Measured(frozenset({"FS-08"}), frozenset({"NET-01"}))
    for uid, said in (("old", status), (None, status), ("new", {**status, "compliance": {"summary": 3}}), ("new", {})):
        assert measured_of(said, uid) is None
