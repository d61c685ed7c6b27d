"""What a pod tells of what it ran out of."""

from typing import Any

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.kubernetes.state import state_of


def pod(ready: str, **container: Any) -> dict[str, Any]:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
    status["containerStatuses"] = [{"name": "agent", "state": {"running": {}}, **container}]
    return {"metadata": {"name": "sandbox-a", "uid": "u"}, "spec": {}, "status": status}


def test_a_container_that_was_ended_for_its_memory_is_told_though_it_runs_again() -> None:
    state = state_of(pod("True", lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}}))
    assert state.reason is Reason.SANDBOX_READY
    assert "needed more memory than spec.resources.memory" in state.message
    assert state.pressure
    assert "memory" not in state_of(pod("True", lastState={"terminated": {"reason": "Error"}})).message
    assert state_of(pod("True")).pressure == ()


def test_one_that_started_and_is_not_ready_is_not_said_to_be_starting() -> None:
    assert "home, which may be full" in state_of(pod("False", started=True)).message
    assert "does not answer in it yet" in state_of(pod("False", started=False)).message
