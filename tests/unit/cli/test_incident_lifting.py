"""What lifting an incident changes beside it."""

from typing import Any

import pytest

from claude_sandbox.cli.incident import command
from claude_sandbox.cli.work.errors import WorkError

QUARANTINED, COMPROMISED = {"state": "Quarantined"}, {"state": "KeyCompromised"}


@pytest.mark.parametrize(("workspace", "number"), [({}, 2), ({"instance": 2}, 3)])
def test_a_fresh_workspace_has_the_next_number(workspace: dict[str, Any], number: int) -> None:
    live = {"spec": {"incident": QUARANTINED, "workspace": workspace}}
    assert command._fresh(live) == {"workspace": {"instance": number}}


@pytest.mark.parametrize(("present", "highest", "number"), [(None, 3, 4), (1, 3, 4), (3, None, 4), (5, 3, 6)])
def test_none_that_was_used_is_taken_up_by_who_went_back_to_an_earlier_one(
    present: int | None, highest: int | None, number: int
) -> None:
    workspace = {} if present is None else {"instance": present}
    status = {} if highest is None else {"workspaces": highest}
    live = {"spec": {"incident": QUARANTINED, "workspace": workspace}, "status": status}
    assert command._fresh(live) == {"workspace": {"instance": number}}


def test_asked_for_again_a_fresh_workspace_is_not_put_aside_for_another() -> None:
    lifted = {"spec": {"workspace": {"instance": 2}}, "status": {"incident": QUARANTINED}}
    with pytest.raises(WorkError, match="no incident that could be lifted"):
        command._fresh(lifted)


def test_where_the_workspace_is_gone_anyway_there_is_no_fresh_one() -> None:
    with pytest.raises(WorkError, match="EmptyDir"):
        command._fresh({"spec": {"incident": QUARANTINED, "workspace": {"type": "EmptyDir"}}})


def test_a_compromised_key_is_not_declared_where_that_would_lift_a_quarantine_or_say_nothing() -> None:
    for live in ({}, {"spec": {"incident": COMPROMISED}, "status": {"incident": COMPROMISED}}):
        assert command._nothing_before(live) == {}
    with pytest.raises(WorkError, match="would lift"):
        command._nothing_before({"spec": {"incident": QUARANTINED}})
    with pytest.raises(WorkError, match="not seen yet"):
        command._nothing_before({"spec": {}, "status": {"incident": COMPROMISED}})
    over = {"incident": {**COMPROMISED, "endedAt": "2026-12-01T00:00:00Z"}}
    with pytest.raises(WorkError, match="over and not lifted"):
        command._nothing_before({"spec": {"incident": COMPROMISED}, "status": over})
