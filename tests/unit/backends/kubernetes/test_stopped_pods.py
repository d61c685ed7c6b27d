"""When a pod in quarantine counts as contained, by what is seen of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.backends.kubernetes.containment.stopping import GRACE, SILENT_AFTER, ends_soon, judged

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
RUNNING = {"state": {"running": {"startedAt": "2026-11-29T11:00:00Z"}}}
ENDED = {"state": {"terminated": {"exitCode": 137}}}
NEVER = {"state": {"waiting": {"reason": "PodInitializing"}}}


def pod(asked: float | None = 1, grace: int = GRACE, phase: str = "Running", **statuses: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "sandbox-alice"}
    if asked is not None:
        at = (NOW - timedelta(seconds=asked)).isoformat()
        metadata |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": grace}
    return {"metadata": metadata, "spec": {"nodeName": "one"}, "status": {"phase": phase, **statuses}}


@pytest.mark.parametrize(
    ("of", "status"),
    [
        (None, ConditionStatus.TRUE),
        (pod(None, containerStatuses=[RUNNING]), ConditionStatus.FALSE),
        # One that has ended by itself, and that nobody has told to: another container of it may be started.
        (pod(None, phase="Failed", containerStatuses=[ENDED]), ConditionStatus.FALSE),
        (pod(containerStatuses=[RUNNING]), ConditionStatus.FALSE),
        (pod(containerStatuses=[ENDED]), ConditionStatus.FALSE),
        (pod(phase="Failed", containerStatuses=[ENDED]), ConditionStatus.TRUE),
        (pod(phase="Succeeded", initContainerStatuses=[ENDED], containerStatuses=[NEVER]), ConditionStatus.TRUE),
        (pod(phase="Failed", containerStatuses=[ENDED], ephemeralContainerStatuses=[RUNNING]), ConditionStatus.FALSE),
        (pod(phase="Failed", containerStatuses=[ENDED, RUNNING]), ConditionStatus.FALSE),
        # A controller's word for a pod whose node is lost, of which no kubelet has said anything.
        (pod(phase="Failed"), ConditionStatus.FALSE),
        (pod(SILENT_AFTER + 1, phase="Failed", containerStatuses=[RUNNING]), ConditionStatus.UNKNOWN),
    ],
)
def test_it_is_contained_once_its_kubelet_says_that_nothing_of_it_runs(of: Any, status: ConditionStatus) -> None:
    assert judged(of, NOW).status is status


def test_one_that_was_being_deleted_with_more_grace_is_not_left_it() -> None:
    assert not ends_soon(pod(None))
    assert not ends_soon(pod(grace=30))
    assert ends_soon(pod())
    assert ends_soon(pod(grace=0))
