"""What makes a move off a host that is being drained one that is under way, and how many there are."""

import asyncio
from typing import Any

import pytest

from claude_sandbox.api.docker_hosts.spec import DockerHostSpec
from claude_sandbox.api.spec import Backend, BackendType
from claude_sandbox.api.status import Placement
from claude_sandbox.api.validate import parse_host_spec, parse_spec
from claude_sandbox.backends.docker.hosts.capacity import Allocatable, Requests
from claude_sandbox.backends.docker.hosts.placement import Candidate, HostInfo, PlacementRequest
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.model import Identity, Image, Site
from claude_sandbox.controller.docker_hosts.drains import AT_A_TIME, Drains, lost_of
from claude_sandbox.controller.sandboxes.interfaces import Moving
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes

OLD, NEW = Placement(host="old", engine_id="e1"), Placement(host="new", engine_id="e2")
WISH = PlacementRequest("agents", None, Backend(type=BackendType.DOCKER), Requests(1000, 2**30))
BLANK: dict[str, Any] = {
    "kind": "ClaudeSandbox",
    "metadata": {"namespace": "agents", "name": "alice", "uid": "u", "resourceVersion": "1", "generation": 1},
    "spec": {
        "credentials": {"apiKeySecretRef": {"name": "key"}},
        "backend": {"type": "Docker"},
        "workspace": {"type": "EmptyDir"},
        "updateStrategy": {"type": "Recreate"},
    },
    "status": {"placement": {"host": "old", "engineId": "e1"}},
}


def _spec(**more: Any) -> DockerHostSpec:
    endpoint = {"endpoint": "unix:///var/run/docker.sock", "allowedNamespaces": {"names": ["agents"]}}
    return parse_host_spec({"spec": {**endpoint, **more}})


class Hosts:
    """One that is being drained, and another with room."""

    def host_info(self, name: str) -> HostInfo:
        return HostInfo(name, _spec(drain=name == "old"), "e1" if name == "old" else "e2")

    def candidates(self) -> list[Candidate]:
        room = Allocatable(10, None, 2**40)
        named = [self.host_info("old"), self.host_info("new")]
        return [Candidate(**vars(one), labels={}, answers=True, cores=8000, capacity=room, free=room) for one in named]

    def unseen(self) -> set[str]:
        return set()


class Fleet:
    """Two engines. The new one has never enough time to bring the image."""

    def __init__(self) -> None:
        self.problem: BaseException | None = None
        self.running = False

    def of(self, _: str) -> "Fleet":
        return self

    async def runs(self, _: Identity) -> bool:
        return self.running

    async def provide(self, _: Any) -> None:
        if self.problem is not None:
            raise self.problem


def _drains(
    sandboxes: Sandboxes, fleet: Fleet, told: list[str], choosing: asyncio.Lock, woken: list[Key] | None = None
) -> Drains:
    class Reporter:
        def tell(self, _raw: Any, reason: str, *_: Any, **__: Any) -> None:
            told.append(reason)

    def wake(key: Key, _: float) -> None:
        if woken is not None:
            woken.append(key)

    parts: Any = (sandboxes, Reporter(), fleet, Hosts(), lambda _: None, lambda _: None, choosing, wake, lambda _: None)
    return Drains(*parts)


@pytest.mark.parametrize("problem", [asyncio.CancelledError(), KeyError("an answer that makes no sense")])
async def test_a_move_that_is_ended_before_its_image_is_there_is_begun_anew(problem: BaseException) -> None:
    sandboxes, fleet = Sandboxes(), Fleet()
    told: list[str] = []
    sandboxes.put(BLANK)
    spec = parse_spec(BLANK)
    blueprint = build(Identity("agents", "alice", "u"), spec, Site(Image("i", None, "Never")))

    drains = _drains(sandboxes, fleet, told, asyncio.Lock())
    fleet.problem = problem
    with pytest.raises(type(problem)):
        await drains.move(BLANK, OLD, blueprint, spec, WISH)
    # Nothing is on its way there, and nobody was told so.
    assert list(drains.demands_on("new")) == []
    assert not drains.expects(Key("agents", "alice"), NEW)
    assert told == []
    fleet.problem = None
    assert isinstance(await drains.move(BLANK, OLD, blueprint, spec, WISH), Moving)
    assert told == ["Moving"]
    assert drains.expects(Key("agents", "alice"), NEW)


async def test_no_more_move_at_a_time_than_may_though_they_wait_for_the_same_lock() -> None:
    sandboxes, choosing = Sandboxes(), asyncio.Lock()
    told: list[str] = []
    drains = _drains(sandboxes, Fleet(), told, choosing)
    moves = []
    async with choosing:
        for name in ("alice", "bob", "carol", "dave"):
            raw = {**BLANK, "metadata": {**BLANK["metadata"], "name": name, "uid": name}}
            sandboxes.put(raw)
            spec = parse_spec(raw)
            blueprint = build(Identity("agents", name, name), spec, Site(Image("i", None, "Never")))
            moves.append(asyncio.create_task(drains.move(raw, OLD, blueprint, spec, WISH)))
        await asyncio.sleep(0.01)
    await asyncio.gather(*moves)
    assert told == ["Moving"] * AT_A_TIME
    assert len(list(drains.demands_on("new"))) == AT_A_TIME


@pytest.mark.parametrize("ran", [True, False], ids=["as its status said", "before its status said so"])
async def test_one_that_was_in_use_moves_as_soon_as_its_status_says_that_it_is_so_no_more(ran: bool) -> None:
    sandboxes, fleet, told, woken = Sandboxes(), Fleet(), list[str](), list[Key]()
    drains = _drains(sandboxes, fleet, told, asyncio.Lock(), woken)
    left_alone = {**BLANK, "spec": {**BLANK["spec"], "updateStrategy": {"type": "OnDelete"}}}
    running = {**left_alone, "status": {**BLANK["status"], **({"workload": {"uid": "c"}} if ran else {})}}
    sandboxes.put(running)
    spec, fleet.running = parse_spec(running), True
    blueprint = build(Identity("agents", "alice", "u"), spec, Site(Image("i", None, "Never")))
    assert await drains.move(running, OLD, blueprint, spec, WISH) is running
    assert drains.look("old", 0).moving == 0
    assert told == ["Stays"]
    assert woken == []
    sandboxes.put({**left_alone, "metadata": {**BLANK["metadata"], "resourceVersion": "2"}})
    # Where the status was behind what the pass saw, the pass is believed.
    assert drains.look("old", 0).moving == ran
    assert woken == ([Key("agents", "alice")] if ran else [])


def test_that_a_budget_is_counted_from_nothing_is_told_of_who_has_one() -> None:
    assert lost_of(BLANK) == ""
    budget = {**BLANK, "spec": {**BLANK["spec"], "budget": {"maxCostUSD": "20"}}}
    assert "budget" in lost_of(budget)
