"""An operator that starts anew takes no claim of isolation back only because it has not tried yet."""

import copy
from typing import Any

from claude_sandbox.controller.sandboxes.reporting.probing import may_wait

CLAIMED: dict[str, Any] = {
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "SandboxReady"},
        {"type": "IsolationVerified", "status": "True", "reason": "PolicyInPlace", "message": "proven"},
        {"type": "Compliant", "status": "True", "reason": "AllControlsPass", "message": "2 required controls pass"},
    ],
    "workload": {"uid": "1"},
    "compliance": {
        "summary": {"pass": 2, "unknown": 0},
        "passed": [
            {"source": "Inspect", "controls": ["NET-08"]},
            {"source": "NetworkProbe", "controls": ["NET-03"], "observedAt": "2026-03-01T12:00:00Z"},
            {"source": "KernelProbe", "controls": ["KERN-07"], "observedAt": "2026-03-01T12:00:00Z"},
        ],
        "controls": [],
    },
}


def begun(**more: Any) -> dict[str, Any]:
    """What the first pass after a start finds."""
    found = copy.deepcopy(CLAIMED)
    found["conditions"][1] |= {"status": "Unknown", "reason": "ProbeUnderWay", "message": "under way"} | more
    found["compliance"] = {
        "summary": {"pass": 1, "unknown": 1},
        "passed": copy.deepcopy(CLAIMED["compliance"]["passed"][:1]),
        "controls": [{"id": "NET-03", "result": "Unknown"}, {"id": "KERN-07", "result": "Unknown"}],
    }
    found["conditions"][2]["message"] = "1 required control passes"
    return found


def test_a_claim_stays_while_the_first_probe_is_under_way_and_nothing_else_is_new() -> None:
    assert may_wait(CLAIMED, begun())


def test_a_place_that_changed_or_a_probe_that_failed_is_said_at_once() -> None:
    assert not may_wait(CLAIMED, begun(reason="NotProbed"))
    assert not may_wait(CLAIMED, begun(status="False", reason="DestinationReached"))


def test_whatever_else_is_new_is_said_and_this_with_it() -> None:
    for change in (
        lambda one: one["workload"].update(uid="2"),
        lambda one: one["conditions"][0].update(status="False"),
        lambda one: one["compliance"]["controls"].append({"id": "NET-08", "result": "Fail"}),
        lambda one: one["compliance"]["passed"][0].update(controls=[]),
        lambda one: one.update(compliance=None),
    ):
        found = begun()
        change(found)
        assert not may_wait(CLAIMED, found)


def test_that_a_probe_could_prove_nothing_stays_said_as_well() -> None:
    before = begun(reason="NotProbed", message="a route leads somewhere else")
    assert may_wait(before, begun())
    assert not may_wait(before, begun(reason="NotProbed", message="another route"))


def test_what_was_reached_stays_said_until_it_is_tried_again() -> None:
    before = begun(status="False", reason="DestinationReached", message="the API server can be reached")
    before["conditions"][2] |= {"status": "False", "reason": "ControlsFail", "message": "Failing: NET-03"}
    assert may_wait(before, begun())


def test_what_was_never_claimed_is_not_kept_from_being_said() -> None:
    before = copy.deepcopy(CLAIMED)
    before["conditions"][1]["status"] = "False"
    assert not may_wait(before, begun())
    assert not may_wait({}, begun())
