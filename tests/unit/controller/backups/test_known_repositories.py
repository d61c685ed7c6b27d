"""Which repository was seen last at a place, by what backups say of themselves."""

from typing import Any

from claude_sandbox.controller.backups.repositories import known

PLACE = "/var/backups/agents"


def backup(repository: str, ended: str, *, helper_gone: bool) -> dict[str, Any]:
    complete = {"type": "Complete", "status": "True", "reason": "Stored", "lastTransitionTime": ended}
    status = {"location": PLACE, "repository": repository, "conditions": [complete]}
    return {"metadata": {"uid": repository}, "status": status | ({"completedAt": ended} if helper_gone else {})}


OLD = backup("of before", "2026-01-01T00:00:00Z", helper_gone=True)


def test_one_that_is_over_counts_also_while_its_helper_is_taken_away() -> None:
    for helper_gone in (False, True):
        new = backup("made anew", "2026-01-01T00:01:00Z", helper_gone=helper_gone)
        assert known({}, [OLD, new]) == known({}, [new, OLD]) == {PLACE: "made anew"}


def test_of_one_that_is_replaced_nothing_is_known() -> None:
    assert known({}, [OLD], "of before") == {}
