"""Of a sandbox on Docker: whether its gateway is heard, so that what it does not report did not happen."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.backends.docker.state import with_gateway

READY = WorkloadState(ConditionStatus.TRUE, Reason.SANDBOX_READY, "It runs.")
REPORT = {"at": "2026-11-01T12:00:00Z", "answered": {"time": "2026-11-01T11:59:00Z", "generation": "7"}}


def live(status: str = "running", health: str = "healthy") -> dict[str, Any]:
    output = json.dumps({"revision": "7.1", "report": REPORT})
    checks = {"Status": health, "FailingStreak": 0, "Log": [{"ExitCode": 0, "Output": output}]}
    return {"Name": "/gateway", "State": {"Status": status, "Running": status == "running", "Health": checks}}


def seen(container: dict[str, Any] | None, *, follows: bool = True, ready: WorkloadState = READY) -> WorkloadState:
    wanted: Any = SimpleNamespace(is_followed=lambda *_: follows, revision=lambda generation: f"{generation}.1")
    observed: Any = SimpleNamespace(gateway=SimpleNamespace(container=container), gateway_revision="7.1")
    return with_gateway(ready, wanted, observed)


def test_one_that_works_and_follows_is_heard() -> None:
    found = seen(live())
    assert found.heard
    assert found.report is not None
    assert found.report.answered is not None


@pytest.mark.parametrize(
    "found",
    [
        seen(None),
        seen(live(status="exited")),
        seen(live(health="unhealthy")),
        seen(live(), follows=False),
        seen(live(), ready=WorkloadState(ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, "Nobody answers.")),
        with_gateway(READY, None, SimpleNamespace()),  # type: ignore[arg-type]
    ],
)
def test_any_other_is_not(found: WorkloadState) -> None:
    assert not found.heard
