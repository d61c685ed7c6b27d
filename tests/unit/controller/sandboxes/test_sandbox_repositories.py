"""What is said of a sandbox's repositories."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Workload
from claude_sandbox.backends.base import Cloning, WorkloadState
from claude_sandbox.backends.gateway_reports import Report
from claude_sandbox.blueprint.model import Clone
from claude_sandbox.controller.sandboxes.reporting.repositories import condition, reported

A, B = "https://git.example.org/team/a", "https://git.example.org/team/b"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DECLARED = tuple(Clone(f"/workspace/{path}", url, None, None, False, False) for path, url in (("a", A), ("b", B)))
WISHED = (("a", A), ("b", B))


def state(cloning: Cloning | None) -> WorkloadState:
    workload = Workload(name="sandbox-alice", uid="u")
    return WorkloadState(ConditionStatus.TRUE, Reason.SANDBOX_READY, "fine", workload=workload, cloning=cloning)


@pytest.mark.parametrize(
    ("cloning", "status", "reason", "words"),
    [
        (Cloning(WISHED), "False", "Cloning", "a, b"),
        (Cloning(WISHED, waits="ErrImagePull: no such image"), "False", "CloneFailed", "no such image"),
        (Cloning(WISHED, ("Failed remote: no", "Cloned x")), "False", "CloneFailed", "a can't be cloned"),
        (Cloning(WISHED, ("Failed no", "Failed why")), "False", "CloneFailed", "again: no. b can't either: why."),
        (Cloning(WISHED, (f"Cloned {COMMIT}", "Failed fatal: x")), "False", "CloneFailed", "fatal: x"),
        (Cloning(WISHED, (f"Cloned {COMMIT}", "Cloned y"), done=True), "True", "Cloned", "2 of 2"),
        (Cloning(WISHED, ("Kept", "Cloned y"), done=True), "True", "Cloned", "1 of them were there before"),
        (Cloning(WISHED, ("Other", "Cloned y"), done=True), "False", "OtherRepository", "a:"),
        # What nobody can read says nothing of what was there before.
        (Cloning(WISHED, None, done=True), "True", "Cloned", "2 of 2"),
        # A workload from before they were declared, or from before another URL was.
        (None, "False", "NotCloned", "a, b"),
        (Cloning((("a", A),), ("Kept",), done=True), "False", "NotCloned", "b"),
        (Cloning((("a", B), ("b", B)), ("Kept", "Kept"), done=True), "False", "OtherRepository", "a:"),
    ],
)
def test_the_condition_says_how_far_they_are(cloning: Cloning | None, status: str, reason: str, words: str) -> None:
    said = condition(DECLARED, state(cloning))
    assert (said[0], said[1]) == (status, reason)
    assert words in said[2]


def test_while_they_are_cloned_it_is_said_how_much_has_come() -> None:
    said = Report(datetime(2026, 1, 2, tzinfo=UTC), fetching={"git.example.org/team/b": 13 << 19, "other.org/x": 7})
    assert condition(DECLARED, replace(state(Cloning(WISHED)), report=said))[2] == (
        "a, b: being cloned (b: 6.5 MiB received)."
    )
    # Once they are there, or can't be had, that is no news.
    for one in (Cloning(WISHED, ("Cloned x", "Cloned y"), done=True), Cloning(WISHED, ("Failed fatal: x", "Cloned y"))):
        assert "received" not in condition(DECLARED, replace(state(one), report=said))[2]


def test_what_clones_before_there_is_a_workload_is_told_of() -> None:
    said = replace(state(Cloning(WISHED, ("Failed remote: no", "Cloned x"))), workload=None)
    assert condition(DECLARED, said)[:2] == ("False", "CloneFailed")


def test_without_a_workload_nothing_is_known() -> None:
    none = WorkloadState(ConditionStatus.FALSE, Reason.NO_WORKLOAD, "There is no pod.")
    lost = WorkloadState(ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, "the engine is silent")
    assert [condition(DECLARED, one)[:2] for one in (none, lost)] == [
        ("Unknown", "NoWorkload"),
        ("Unknown", "ObservationFailed"),
    ]


def test_what_was_cloned_is_remembered_while_it_stays() -> None:
    done = Cloning(WISHED, (f"Cloned {COMMIT}", "Cloned y"), done=True)
    first = reported(None, DECLARED, state(done))
    assert first is not None
    assert [(one.path, one.url, one.commit) for one in first] == [("a", A, COMMIT), ("b", B, "y")]
    before = [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in first]
    kept = Cloning(WISHED, ("Kept", "Kept"), done=True)
    assert reported(before, DECLARED, state(kept)) == first
    # Cut off in between, or not looked at: what was told stays told.
    assert reported(before, DECLARED, state(Cloning(WISHED))) == first
    assert reported(before, None, state(None)) == first
    assert reported(before, (), state(None)) is None
    # Of what was there before the sandbox was nobody knows more.
    found = reported(None, DECLARED, state(kept))
    assert found is not None
    assert [one.commit for one in found] == [None, None]
