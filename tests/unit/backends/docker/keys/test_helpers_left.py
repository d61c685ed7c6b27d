"""Which helpers a pass takes away: those that nobody is at work with, and not those of another process that leads."""

from typing import Any

import pytest

from claude_sandbox.backends.docker.keys.delivery import is_left

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("state", "age", "left"),
    [
        ("created", 0, False),
        ("created", 14, False),
        # Its operator ended before it could start it.
        ("created", 15, True),
        ("running", 59, False),
        # No pass lasts as long: its connection may be one that nobody has ended.
        ("running", 60, True),
        ("exited", 0, True),
        ("dead", 0, True),
        ("paused", 0, True),
        # Of a clock that goes ahead.
        ("running", -1, True),
    ],
)
def test_one_is_left_where_no_pass_can_be_at_work_with_it(state: str, age: int, left: bool) -> None:
    assert is_left({"State": state, "Created": NOW - age}, NOW + 0.5 if age >= 0 else NOW) is left


@pytest.mark.parametrize("helper", [{}, {"State": "running"}, {"State": "running", "Created": "now"}, {"Created": NOW}])
def test_one_of_which_nothing_is_known_is_taken_away(helper: dict[str, Any]) -> None:
    assert is_left(helper, NOW)
