"""When a pod in quarantine counts as contained, by what is seen of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import virtual_clock

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.backends.base import Failure
from claude_sandbox.backends.containment import Evidence
from claude_sandbox.backends.kubernetes.containment import keeping
from claude_sandbox.backends.kubernetes.containment.stopping import (
    GRACE,
    LOG_TIME,
    SILENT_AFTER,
    _kernel,
    before_the_end,
    ends_soon,
    judged,
    not_had,
)
from claude_sandbox.backends.kubernetes.node_agents.agents import NodeAgents
from claude_sandbox.backends.kubernetes.node_agents.asking import AskingError
from claude_sandbox.backends.kubernetes.node_agents.told_evidence import PROCESSES
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api

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


class Agent:
    """In place of the agents on the nodes: one that can be made to do what a test needs no node for."""

    def __init__(self, does: Evidence | Exception | None) -> None:
        self._does = does

    async def evidence(self, _pod: Any, most: int) -> Evidence:
        assert most > 0
        if self._does is None:
            await asyncio.sleep(3600)
        if isinstance(self._does, Exception):
            raise self._does
        return self._does or Evidence()


@pytest.mark.parametrize(
    ("does", "missing"),
    [
        (Evidence({PROCESSES: b"{}\n"}, ["mounts: those of a container"]), ["mounts: those of a container"]),
        (AskingError("it hung up"), ["what the agent on its node tells: it hung up"]),
        (None, ["what the agent on its node tells: no answer in time"]),
    ],
)
def test_what_an_agent_does_not_tell_in_time_is_named_and_nobody_waits(does: Any, missing: list[str]) -> None:
    found = Evidence()

    async def main() -> float:
        begun = asyncio.get_running_loop().time()
        await _kernel(cast(NodeAgents, Agent(does)), pod(None), found, 1 << 20)
        return asyncio.get_running_loop().time() - begun

    assert virtual_clock.run(main()) <= LOG_TIME
    assert found.missing == missing
    assert not_had(found.files).startswith("changed files" if found.files else "processes, open connections")


class Nothing:
    """In place of the API server and the watches: they know nothing."""

    def get(self, *_: Any) -> Any:
        return None


async def test_whatever_goes_wrong_at_reading_the_pod_is_ended_all_the_same() -> None:
    of = pod(None) | {"spec": {"containers": []}}
    agent, identity = cast(NodeAgents, Agent(RecursionError())), Identity("agents", "alice", "u-1")
    # Nor is the API server's answer one: None is no coroutine.
    found = await before_the_end(cast(Api, Nothing()), cast(Watches, Nothing()), agent, identity, of, 1 << 20)
    assert {one.partition(":")[0] for one in found.evidence.missing[1:]} == {
        *("what the agent on its node tells", "pod.json")
    }


async def test_evidence_that_can_not_be_written_down_is_told_and_holds_up_nothing() -> None:
    what, identity = Evidence({}, ["half of a pair: \ud800"]), Identity("agents", "alice", "u-1")
    kept = await keeping.as_said(cast(Api, Nothing()), "operator", identity, what, NOW, lambda: NOW)
    assert isinstance(kept, Failure)
    # Who lifts it is not held up by what will never be kept.
    assert kept.permanent
