"""One probe from its pod's making to its end: what goes wrong is told, and nothing is left."""

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from test_probe_pods import IDENTITY, IMAGE, WANTED, ended_of, running, said

from claude_sandbox.backends.kubernetes.probing import controls
from claude_sandbox.backends.kubernetes.probing import running as probes
from claude_sandbox.backends.kubernetes.probing.running import Questions, ask
from claude_sandbox.backends.probing.schedule import NothingFoundError
from claude_sandbox.backends.probing.wanted import Wanted
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.kubernetes_api.errors import ApiError

Object = dict[str, Any]


@dataclass
class Cluster:
    """An API server with a kubelet behind it, and the watch of both. `refused`: what it says to a create."""

    there: dict[str, Object] = field(default_factory=dict)
    refused: ApiError | None = None
    status: Object | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    created: int = 0

    async def create(self, _resource: Any, body: Object, _namespace: str) -> Object:
        self.begun.set()
        await asyncio.sleep(0)
        if self.refused is not None:
            message = self.refused.message.format(body["metadata"]["name"])
            raise ApiError(self.refused.status, self.refused.reason, message)
        self.created += 1
        made = copy.deepcopy(body)
        made["metadata"] |= {"uid": f"p-{self.created}", "generation": 1}
        live = ended_of(made)
        state = {"terminated": {"exitCode": 0, "message": said("connected", "timeout")}}
        live["status"]["containerStatuses"][0]["state"] = state
        live["status"] |= self.status or {}
        self.there[made["metadata"]["name"]] = live
        return made

    async def get(self, _resource: Any, name: str, _namespace: str) -> Object:
        return self.there[name]

    async def delete(self, _resource: Any, name: str, _namespace: str, *, uid: str, grace_seconds: int) -> None:
        if name in self.there and self.there[name]["metadata"]["uid"] == uid:
            del self.there[name]

    # The watch.

    def watched(self, _resource: Any, _namespace: str, name: str) -> Object | None:
        return self.there.get(name)

    def of(self, *_: Any) -> Any:
        return self

    @property
    def store(self) -> Any:
        return self

    def by_namespace(self, _namespace: str) -> tuple[Object, ...]:
        return tuple(self.there.values())


class Watch:
    def __init__(self, cluster: Cluster) -> None:
        self.get = cluster.watched
        self.of = cluster.of


@pytest.fixture(autouse=True)
def _answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def here(wanted: tuple[Wanted, ...], _seconds: float) -> dict[str, bool]:
        return {one.name: True for one in wanted if one.elsewhere}

    monkeypatch.setattr(controls, "tried_here", here)
    monkeypatch.setattr(probes, "LOOK", 0.001)


async def once(cluster: Any, enough: float = 20.0) -> ProbeReport:
    watch: Any = Watch(cluster)
    asked = Questions(IDENTITY, running(), WANTED, enough)
    return await ask(cluster, watch, IMAGE, asked, controls.Controls(cluster, IMAGE, None))


async def test_a_probe_says_what_it_found_and_is_gone() -> None:
    cluster = Cluster()
    report = await once(cluster)
    assert [one.outcome for one in report.tried] == ["connected", "timeout"]
    assert cluster.there == {}


async def test_who_refuses_a_probe_is_told_in_the_same_words_each_time() -> None:
    quota = 'pods "{}" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1'
    cluster = Cluster(refused=ApiError(403, "Forbidden", quota))
    words = set()
    for _ in range(3):
        with pytest.raises(NothingFoundError) as told:
            await once(cluster)
        words.add(str(told.value))
    assert len(words) == 1
    assert "exceeded quota: small" in words.pop()


async def test_one_that_does_not_end_says_what_it_waits_for_and_is_gone() -> None:
    waiting = {"restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    cluster = Cluster(status={"phase": "Pending", "containerStatuses": [waiting]})
    with pytest.raises(NothingFoundError, match="ImagePullBackOff"):
        await once(cluster, enough=0.05)
    assert cluster.there == {}


# As a kubelet leaves a pod that it never began, one that it ended, and one whose container it lost sight of meanwhile.
CUT_SHORT: tuple[tuple[Object, ...], ...] = (
    (),
    ({"restartCount": 0, "state": {"terminated": {"exitCode": 137, "reason": "Error"}}},),
    ({"restartCount": 1, "state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}},),
)


@pytest.mark.parametrize("reason", ["OutOfcpu", "Evicted", "DeadlineExceeded"])
async def test_one_that_its_node_refused_or_ended_says_why_in_the_same_words(reason: str) -> None:
    words = set()
    for statuses in CUT_SHORT:
        cluster = Cluster(status={"phase": "Failed", "reason": reason, "containerStatuses": list(statuses)})
        with pytest.raises(NothingFoundError) as told:
            await once(cluster)
        words.add(str(told.value))
        assert cluster.there == {}
    assert words == {f"its pod did not run to its end: {reason}"}


async def test_what_an_operator_left_is_removed_and_pods_of_others_are_not() -> None:
    cluster = Cluster()
    owner = {"kind": "ClaudeSandbox", "name": "alice", "uid": IDENTITY.uid, "controller": True}
    named = {"left": "probe-alice-1", "workload": "sandbox-alice", "others": "probe-alice-2"}
    for kind, name in named.items():
        owners = [{**owner, "uid": "another"}] if kind == "others" else [owner]
        cluster.there[name] = {
            "metadata": {"name": name, "namespace": "agents", "uid": name, "ownerReferences": owners}
        }
    await once(cluster)
    assert set(cluster.there) == {"sandbox-alice", "probe-alice-2"}


async def test_one_that_is_given_up_while_it_is_made_leaves_none() -> None:
    """The API server makes it all the same, whoever has stopped waiting for it."""
    cluster = Cluster()
    task = asyncio.create_task(once(cluster))
    await cluster.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cluster.created == 1
    assert cluster.there == {}
