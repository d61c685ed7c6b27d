"""A newer image is tried beside the workload, which is replaced only where that went well."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.fields.update_policy import UpdatePolicy
from claude_sandbox.api.status import Workload
from claude_sandbox.api.status_fields.image import ImageResult, ImageStatus
from claude_sandbox.backends.base import Trial, WorkloadState
from claude_sandbox.blueprint.model import Image
from claude_sandbox.controller.images.canaries import MOST_ATTEMPTS, under_way
from claude_sandbox.controller.images.gate import Admission
from claude_sandbox.controller.images.updates import Newest, Work, events, stepped
from claude_sandbox.controller.sandboxes.canaries import is_exchanged

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
OLD, NEW, NEWER = ("sha256:" + letter * 64 for letter in "abc")
RUNS = ImageStatus(named="registry.test/a:1", digest=OLD, since=NOW - timedelta(days=9))


def policy(**more: Any) -> UpdatePolicy:
    return UpdatePolicy.model_validate({"strategy": "Auto", "maxAge": "0m", **more})


def work(trial: Trial | None = None, status: ConditionStatus = ConditionStatus.TRUE) -> Work:
    workload = Workload(name="a", uid="old", started_at=NOW)
    state = WorkloadState(status, Reason.SANDBOX_READY, "so it is", workload=workload)
    return Work(state, NOW - timedelta(hours=1), True, trial or Trial())


def begun() -> ImageStatus:
    found = stepped(policy(), RUNS, Newest(NEW), work(), NOW)
    canary = under_way(found)
    assert canary is not None
    assert (canary.to, found.rolling, found.digest) == (NEW, None, OLD)
    return found


def at(found: ImageStatus, trial: Trial, minutes: float, **more: Any) -> ImageStatus:
    return stepped(policy(**more), found, Newest(NEW), work(trial), NOW + timedelta(minutes=minutes))


def test_it_is_tried_before_the_window_opens_and_while_the_agent_works() -> None:
    asked = UpdatePolicy.model_validate({"strategy": "Auto", "window": {"start": "13:00", "hours": 1}})
    busy = Work(work().state, NOW, True)
    found = stepped(asked, RUNS, Newest(NEW), busy, NOW)
    assert under_way(found) is not None
    assert found.available is not None
    assert "beside" in found.available.message
    ready = stepped(asked, found, Newest(NEW), Work(busy.state, NOW, True, Trial("c", ready=True)), NOW)
    later = NOW + timedelta(minutes=5)
    over = stepped(asked, ready, Newest(NEW), Work(busy.state, NOW, True, Trial("c", ready=True)), later)
    assert under_way(over) is None
    waits = stepped(asked, over, Newest(NEW), busy, later)
    assert waits.rolling is None
    assert waits.available is not None
    assert "window" in waits.available.message
    assert stepped(asked, waits, Newest(NEW), busy, later) == waits


@pytest.mark.parametrize(
    ("newest", "seen"),
    [(Newest(NEW, False, "It is not signed."), work()), (Newest(NEW), work(status=ConditionStatus.FALSE))],
)
def test_what_may_not_run_and_where_nothing_works_is_not_tried(newest: Newest, seen: Work) -> None:
    found = stepped(policy(), RUNS, newest, seen, NOW)
    assert (found.canary, found.rolling) == (None, None)
    assert stepped(policy(), RUNS, Newest(NEW, None), work(), NOW) == RUNS


def test_others_go_first() -> None:
    found = stepped(policy(), RUNS, Newest(NEW), work(), NOW, "It waits for its turn.")
    assert found.canary is None


def test_what_is_ready_for_as_long_as_the_gate_says_replaces_the_workload() -> None:
    found = at(begun(), Trial("c"), 1)
    found = at(found, Trial("c", ready=True), 2)
    assert at(found, Trial("c", ready=True), 6) == found
    over = at(found, Trial("c", ready=True), 7)
    assert (under_way(over), over.rolling) == (None, None)
    assert over.canary is not None
    rolling = at(over, Trial(), 8)
    assert rolling.rolling is not None
    assert (rolling.rolling.to, rolling.replaces) == (NEW, "old")


@pytest.mark.parametrize(
    ("seen", "minutes", "why"),
    [
        (Trial("c", failed="it ended with exit code 1"), 1, "it ended with exit code 1"),
        (Trial("c", message="Claude Code does not answer in it"), 11, "not ready within 10m: Claude Code does not"),
        (Trial(message="The image can't be had"), 10, "not ready within 10m: The image can't be had"),
    ],
)
def test_what_does_not_work_never_touches_the_workload(seen: Trial, minutes: float, why: str) -> None:
    found = at(at(begun(), seen, 0), seen, minutes)
    assert (found.canary, found.rolling, found.replaces, found.digest) == (None, None, None, OLD)
    assert found.failed == [NEW]
    assert found.last is not None
    assert (found.last.result, found.last.before, found.last.to) == (ImageResult.NOT_ROLLED, OLD, NEW)
    assert why in found.last.message
    after = at(found, Trial(), 20)
    assert (after.canary, after.rolling) == (None, None)
    assert under_way(stepped(policy(), after, Newest(NEWER), work(), NOW + timedelta(hours=1))) is not None


def test_what_was_ready_and_is_no_more_has_failed() -> None:
    found = at(begun(), Trial("c", ready=True), 1)
    assert at(found, Trial("c", message="no answer"), 2).failed == [NEW]


def test_another_one_begins_anew_and_what_cannot_be_seen_says_nothing() -> None:
    ready = at(begun(), Trial("c", ready=True), 1)
    assert at(ready, Trial(seen=False), 60) == ready
    other = at(ready, Trial("d"), 9)
    assert other.failed is None
    assert other.canary is not None
    assert (other.canary.uid, other.canary.ready_at) == ("d", None)
    assert other.canary.started_at == NOW + timedelta(minutes=9)


def test_what_is_gone_is_given_its_whole_time_to_be_made_again() -> None:
    """A pod that a node ended goes for a while before there can be another."""
    ready = at(begun(), Trial("c", ready=True), 1, healthGate={"stableFor": "1h"})
    gone = at(ready, Trial(message="an earlier one is being removed"), 15)
    assert gone.failed is None
    assert gone.canary is not None
    assert (gone.canary.uid, gone.canary.ready_at, gone.canary.attempts) == (None, None, 1)
    assert at(gone, Trial(message="an earlier one is being removed"), 24) == gone
    other = at(gone, Trial("d"), 24)
    assert other.canary is not None
    assert (other.canary.uid, other.canary.attempts) == ("d", 2)
    assert at(gone, Trial(message="an earlier one is being removed"), 25).failed == [NEW]


@pytest.mark.parametrize("missed", [None, timedelta(minutes=60)], ids=["another process", "a silent engine"])
@pytest.mark.parametrize("is_ready", [True, False], ids=["ready", "not ready"])
def test_time_in_which_nobody_looked_counts_for_nothing(missed: timedelta | None, is_ready: bool) -> None:
    trial = Trial("c", ready=is_ready)
    found = at(begun(), trial, 1)
    again = replace(work(trial), missed=missed)
    found = stepped(policy(), found, Newest(NEW), again, NOW + timedelta(minutes=61))
    assert (under_way(found) is not None, found.failed) == (True, None)
    lasts = 5 if is_ready else 10
    assert under_way(at(found, trial, 61 + lasts - 0.5)) is not None
    over = at(found, trial, 61 + lasts)
    assert (under_way(over), over.failed) == (None, None if is_ready else [NEW])


def test_a_moment_in_which_nobody_looked_is_all_that_is_taken_off() -> None:
    found = at(begun(), Trial("c", ready=True), 1)
    again = replace(work(Trial("c", ready=True)), missed=timedelta(minutes=1))
    found = stepped(policy(), found, Newest(NEW), again, NOW + timedelta(minutes=6))
    assert under_way(found) is not None
    assert under_way(at(found, Trial("c", ready=True), 7)) is None


def test_one_that_is_ended_again_and_again_has_failed() -> None:
    """A program that kills itself, or says that it was killed, would else be tried for ever."""
    found = begun()
    for number in range(MOST_ATTEMPTS):
        found = at(at(found, Trial(f"c{number}"), number), Trial(), number)
        assert (found.failed, found.canary and found.canary.attempts) == (None, number + 1)
    found = at(found, Trial("another"), MOST_ATTEMPTS)
    assert (found.failed, found.canary) == ([NEW], None)
    assert found.last is not None
    assert "ended 5 times" in found.last.message


def test_without_room_it_goes_on_without_and_says_so() -> None:
    # More words than a status takes.
    long = f"The namespace's quota has no room for it: exceeded quota{': pods, requested' * 20}"
    over = at(begun(), Trial(no_room=long), 1)
    assert over.canary is not None
    assert "quota" in over.canary.message
    assert ImageStatus.model_validate(over.model_dump()) == over
    assert len(over.canary.message) <= 256
    rolling = at(over, Trial(), 1)
    assert rolling.rolling is not None
    assert rolling.failed is None
    new = WorkloadState(
        ConditionStatus.TRUE, Reason.SANDBOX_READY, "", workload=Workload(name="a", uid="new", started_at=NOW)
    )
    for minutes in (2, 9):
        rolling = stepped(policy(), rolling, Newest(NEW), Work(new), NOW + timedelta(minutes=minutes))
    assert (rolling.digest, rolling.canary) == (NEW, None)
    assert rolling.last is not None
    assert "quota" in rolling.last.message


@pytest.mark.parametrize(
    ("asked", "newest"),
    [
        (UpdatePolicy.model_validate({"strategy": "Notify"}), Newest(NEW)),
        (policy(canary="None"), Newest(NEW)),
        (policy(), Newest(NEWER)),
        (policy(), Newest(OLD)),
        (policy(), Newest(NEW, False, "It is not signed.")),
    ],
)
def test_what_is_not_wanted_any_more_is_not_tried_any_more(asked: UpdatePolicy, newest: Newest) -> None:
    canary = under_way(stepped(asked, begun(), newest, work(Trial("c", ready=True)), NOW))
    assert canary is None or canary.to == NEWER


def test_a_silent_registry_ends_no_trial() -> None:
    ready = at(begun(), Trial("c", ready=True), 1)
    over = stepped(policy(), ready, None, work(Trial("c", ready=True)), NOW + timedelta(minutes=6))
    assert over.canary is not None
    assert over.canary.ended_at is not None


def test_each_step_is_told_once() -> None:
    tried = begun()
    failed = at(tried, Trial("c", failed="it ended with exit code 1"), 1)
    told = [list(events(*pair)) for pair in pairwise([None, RUNS, tried, tried, failed, failed])]
    reasons = [[one[0] for one in each] for each in told]
    assert reasons == [[], ["ImageAvailable", "ImageTried"], [], ["ImageNotRolled"], []]
    (_, message, warning) = told[3][0]
    assert warning
    assert OLD in message
    assert "runs as it did" in message


def test_a_workload_that_gives_way_to_another_image_is_no_loss_when_it_is_gone() -> None:
    image = Image("registry.test/a:1", NEW, "IfNotPresent")
    seen: dict[str, Any] = {"status": {"workload": {"uid": "old"}}}
    gives_way = Admission(image, RUNS.model_copy(update={"replaces": "old"}))
    assert is_exchanged(gives_way, seen)
    assert not is_exchanged(gives_way, {"status": {"workload": {"uid": "new"}}})
    assert not is_exchanged(Admission(image, RUNS), seen)
    assert not is_exchanged(Admission(image, RUNS), {"status": {}})
    assert not is_exchanged(None, seen)
