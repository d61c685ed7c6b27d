"""When sandboxes on Docker are probed, and what is known of them meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from docker_world import CLUSTER, IDENTITY, NEW, blueprint_of, desired_of, live_of

from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import PROBE, labels_of, names_of
from claude_sandbox.backends.docker.probing import probes
from claude_sandbox.backends.docker.probing.probes import Probes
from claude_sandbox.backends.docker.probing.running import Questions, ask
from claude_sandbox.backends.docker.seen import Seen
from claude_sandbox.backends.probing import schedule
from claude_sandbox.backends.probing.schedule import Found, Probing
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.compliance.evidence.probes import Expected, ProbeReport, Tried
from claude_sandbox.compliance.evidence.readings import Reading, Unread

IMAGE = Image("example.org/operator:1", None, "Never")
GOOD = ProbeReport(True, (Tried("the metadata service", Expected.DENIED, "no-route"),))
DESIRED = desired_of()


def seen_of(**change: Any) -> Seen:
    observed = live_of(DESIRED)
    container = {**(observed.container or {}), **change}
    return Seen(DESIRED.documents, replace(observed, container=container), NEW, datetime.now(UTC), (), blueprint_of())


@dataclass
class World:
    """An engine with one container, whatever is asked for; and probes of it, which a test answers."""

    container: dict[str, Any] | None = field(default_factory=lambda: dict(seen_of().observed.container or {}))
    answers: list[ProbeReport | Exception] = field(default_factory=list)
    asked: list[Questions] = field(default_factory=list)
    woken: list[tuple[str, str]] = field(default_factory=list)
    at_work: int = 0
    most: int = 0
    during: Callable[[], None] = lambda: None
    blocked: asyncio.Event | None = None

    async def engine_container(self, _: str) -> Any:
        return self.container

    async def ask(self, _engine: Any, _image: Image, asked: Questions) -> ProbeReport:
        self.asked.append(asked)
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            if self.blocked is not None:
                await self.blocked.wait()
            await asyncio.sleep(0)
            self.during()
            answer = self.answers.pop(0) if self.answers else GOOD
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.at_work -= 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(probes, "ask", made.ask)
    monkeypatch.setattr(schedule, "SOON", 0.0)
    monkeypatch.setattr(schedule, "FIRST_AGAIN", 0.0)
    return made


class Engine:
    def __init__(self, world: World) -> None:
        self.container = world.engine_container


@pytest.fixture
async def probing(world: World) -> AsyncIterator[Probes]:
    made = of(world)
    yield made
    await made.close()


def of(world: World, interval: float = 3600.0) -> Probes:
    engine: Any = Engine(world)
    return Probes(engine, CLUSTER, IMAGE, Probing(interval), lambda *key: world.woken.append(key))


async def told(probing: Probes, seen: Seen, until: Callable[[Found], bool]) -> Found:
    async with asyncio.timeout(20):
        while not until(found := probing.known(IDENTITY, seen)):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return found


def is_read(found: Found) -> bool:
    return isinstance(found, Reading)


async def test_nobody_waits_for_a_probe_and_its_end_wakes_the_sandbox(world: World, probing: Probes) -> None:
    assert probing.known(IDENTITY, seen_of()) is schedule.UNDER_WAY
    found = await told(probing, seen_of(), is_read)
    assert isinstance(found, Reading)
    assert found.value == GOOD
    assert world.woken == [("agents", "alice")]
    for _ in range(5):
        assert probing.known(IDENTITY, seen_of()) == found
    assert len(world.asked) == 1
    assert world.asked[0].sandbox == seen_of().observed.container


async def test_it_is_tried_again_and_again_and_wakes_nobody_while_nothing_changes(world: World) -> None:
    probing = of(world, interval=0.001)
    probing.known(IDENTITY, seen_of())
    async with asyncio.timeout(20):
        while len(world.asked) < 10:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert world.woken == [("agents", "alice")]
    world.answers = [replace(GOOD, ways=("10.0.0.0/8 by eth1",))] * 1000
    await told(probing, seen_of(), lambda found: isinstance(found, Reading) and bool(found.value.ways))
    assert len(world.woken) == 2
    await probing.close()


async def test_another_place_makes_what_was_found_worth_nothing(world: World, probing: Probes) -> None:
    await told(probing, seen_of(), is_read)
    moved = seen_of(NetworkSettings={"Networks": {"other": {"NetworkID": "3" * 64}}})
    world.container = dict(moved.observed.container or {})
    # Other than with an operator that starts anew, it is known that it changed.
    assert probing.known(IDENTITY, moved) is schedule.CHANGED
    await told(probing, moved, is_read)
    assert len(world.asked) == 2


async def test_a_place_that_changed_meanwhile_is_thrown_away(world: World, probing: Probes) -> None:
    def join() -> None:
        world.container = {**(world.container or {}), "NetworkSettings": {"Networks": {"other": {"NetworkID": "3"}}}}

    world.during = join
    found = await told(probing, seen_of(), lambda found: found is not schedule.UNDER_WAY)
    assert isinstance(found, Unread)
    assert "networks changed" in found.reason


async def test_one_that_failed_is_tried_again(world: World, probing: Probes) -> None:
    world.answers = [EngineError(500, "the engine is ill"), RuntimeError("odd"), GOOD]
    found = await told(probing, seen_of(), is_read)
    assert isinstance(found, Reading)
    assert len(world.asked) == 3


async def test_few_are_at_work_at_a_time_and_one_on_a_sandbox(world: World, probing: Probes) -> None:
    world.blocked = asyncio.Event()
    many = [Identity("agents", f"s{number}", f"uid-{number}") for number in range(20)]
    for one in many:
        probing.known(one, seen_of())
    async with asyncio.timeout(20):
        while world.at_work < probes.AT_A_TIME:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    world.blocked.set()
    async with asyncio.timeout(20):
        while len(world.asked) < len(many):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert world.most == probes.AT_A_TIME
    assert len({asked.identity for asked in world.asked}) == len(many)


async def test_what_is_gone_is_probed_no_more(world: World, probing: Probes) -> None:
    world.blocked = asyncio.Event()
    probing.known(IDENTITY, seen_of())
    async with asyncio.timeout(20):
        while not world.at_work:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await probing.forget(IDENTITY)
    assert world.at_work == 0
    assert world.woken == []


async def test_what_does_not_run_or_must_not_be_probed_says_so(world: World) -> None:
    engine: Any = Engine(world)
    for image, how in ((None, Probing(600)), (IMAGE, None)):
        off = Probes(engine, CLUSTER, image, how, lambda *_: None)
        assert off.known(IDENTITY, seen_of()) is probes.OFF
    probing = of(world)
    found = probing.known(IDENTITY, seen_of(State={"Running": False}))
    assert isinstance(found, Unread)
    assert "does not run" in found.reason
    assert world.asked == []


async def test_one_that_is_given_up_while_its_container_is_made_leaves_none() -> None:
    """The engine makes it all the same, whoever has stopped waiting for it."""
    begun, there = asyncio.Event(), set[str]()

    class Slow:
        async def container(self, _: str) -> Any:
            return None

        async def capabilities(self) -> Any:
            return NEW

        async def create_container(self, *_: Any) -> str:
            begun.set()
            for _ in range(10):
                await asyncio.sleep(0)
            there.add("1")
            return "1"

        async def remove_container(self, identifier: str) -> None:
            there.discard(identifier)

    engine: Any = Slow()
    asked = Questions(IDENTITY, CLUSTER, names_of(CLUSTER, IDENTITY), {"Id": "1" * 64}, (), ())
    task = asyncio.create_task(ask(engine, IMAGE, asked))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert there == set()


async def test_a_container_of_others_under_its_name_is_left_alone() -> None:
    removed: list[str] = []

    class Taken:
        def __init__(self, labels: dict[str, str]) -> None:
            self.labels = labels

        async def container(self, _: str) -> Any:
            return {"Id": "7" * 64, "Config": {"Labels": self.labels}}

        async def remove_container(self, identifier: str) -> None:
            removed.append(identifier)

        async def capabilities(self) -> Any:
            return NEW

        async def create_container(self, *_: Any) -> str:
            raise EngineError(500, "enough")

    asked = Questions(IDENTITY, CLUSTER, names_of(CLUSTER, IDENTITY), {"Id": "1" * 64}, (), ())
    for labels, match in (({}, "of others"), (labels_of(CLUSTER, IDENTITY, PROBE), "enough")):
        engine: Any = Taken(labels)
        with pytest.raises(EngineError, match=match):
            await ask(engine, IMAGE, asked)
    assert removed == ["7" * 64]
