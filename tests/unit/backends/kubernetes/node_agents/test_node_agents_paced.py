"""When agents are asked, what wakes a sandbox, and what is known meanwhile: on a clock that jumps."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
import virtual_clock

from claude_sandbox.backends.kubernetes.node_agents import NAMESPACE, agents
from claude_sandbox.backends.kubernetes.node_agents.agents import CERTIFICATES, FIRST, SOON, NodeAgents
from claude_sandbox.backends.kubernetes.node_agents.answers import (
    SETTLED,
    Answer,
    Container,
    Kind,
    MisunderstoodError,
)
from claude_sandbox.backends.kubernetes.node_agents.asking import PATIENCE, AskingError
from claude_sandbox.backends.kubernetes.node_agents.counted import cpu_use
from claude_sandbox.backends.kubernetes.watches.watches import MAX_AGE
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.informers.informer import Timings
from claude_sandbox.procfs.counters import Counters
from claude_sandbox.procfs.limits import Limits

INTERVAL = 100.0
AGENT = "a" * 64


def answer(confinement: str = "", seconds: float = SETTLED, used: int | None = None, refused: int = 0) -> Answer:
    kind = Kind(confinement, Process("", "", "", Limits(), confinement=confinement), 1, seconds)
    return Answer((Container(AGENT, (kind,), True, Counters(cpu_microseconds=used, refused=refused)),), True)


def pod(uid: str = "one", node: str = "node-1", phase: str = "Running") -> dict[str, Any]:
    return {"metadata": {"uid": uid}, "spec": {"nodeName": node}, "status": {"phase": phase}}


@dataclass
class World:
    """One agent, on node-1, whose answers a test gives; the last for ever."""

    answers: list[Answer | Exception] = field(default_factory=lambda: [answer()])
    asked: list[tuple[float, str]] = field(default_factory=list)
    woken: list[float] = field(default_factory=list)
    takes: float = 0.0
    nodes: NodeAgents = field(init=False)

    async def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = asyncio.get_running_loop().time
        self.nodes = NodeAgents(None, lambda *_: self.woken.append(now()), Timings(), INTERVAL)  # type: ignore[arg-type]

        async def ask(_address: str, _port: int, _context: object, uid: str) -> Answer:
            self.asked.append((now(), uid))
            await asyncio.sleep(self.takes)
            found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(found, Exception):
                raise found
            return found

        async def context(_: object) -> None:
            return None

        monkeypatch.setattr(agents, "ask", ask)
        monkeypatch.setattr(agents.Certificates, "context", context)
        store = self.nodes.informer.store
        metadata = {"name": "agent", "namespace": NAMESPACE, "uid": "1", "resourceVersion": "1"}
        store.replace([{"metadata": metadata, "node": "node-1", "address": "192.0.2.1"}])
        self.nodes.informer.settled.set()

    async def look(self, **of: Any) -> None:
        await self.nodes.look("agents", "alice", pod(**of))

    @property
    def known(self) -> object:
        found = self.nodes.known("agents", "alice")
        if not isinstance(found, Reading):
            return found
        return [one.confinement for container in found.value.containers for one in container.processes]


Story = Callable[[World], Awaitable[None]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], World]:
    def tell(story: Story) -> World:
        async def main() -> World:
            world = World()
            await world.begin(monkeypatch)
            await story(world)
            world.nodes.forget("agents", "alice")
            return world

        return virtual_clock.run(main())

    return tell


def test_a_new_pod_is_asked_about_at_once_and_the_pass_has_the_answer(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        await world.look()
        assert world.known == [""]

    world = told(story)
    assert len(world.asked) == 1
    assert world.woken == []


def test_at_rest_it_is_asked_now_and_then_and_wakes_nobody(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        for _ in range(36):
            await world.look()
            await asyncio.sleep(100)

    world = told(story)
    assert 3600 / (INTERVAL * 1.2) - 1 <= len(world.asked) <= 3600 / INTERVAL + 1
    assert world.woken == []


def _agent(number: int) -> dict[str, Any]:
    metadata = {"namespace": NAMESPACE, "resourceVersion": "1", "name": f"a-{number}", "uid": f"{number}"}
    return {"metadata": metadata, "node": f"node-{number}", "address": f"192.0.2.{number}"}


def test_a_node_that_is_lost_with_many_pods_keeps_no_other_from_being_asked(
    told: Callable[[Story], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        there = agents.ask

        async def ask(address: str, *more: Any) -> Answer:
            if address == "192.0.2.1":
                return await there(address, *more)
            # As a connection to a machine that is off.
            await asyncio.sleep(PATIENCE)
            raise AskingError("it did not answer")

        monkeypatch.setattr(agents, "ask", ask)
        world.nodes.informer.store.replace([_agent(one) for one in range(1, 4)])
        lost = [f"s-{number}" for number in range(110)]
        looks = [world.nodes.look("many", name, pod(name, f"node-{2 + at % 2}")) for at, name in enumerate(lost)]
        await asyncio.gather(*looks, world.look())
        await asyncio.sleep(3600)
        for name in lost:
            world.nodes.forget("many", name)

    asked = [at for at, _ in told(story).asked]
    # But for the beginning, at which nobody knows who is lost.
    assert max(later - before for before, later in pairwise(asked[1:])) <= INTERVAL * 1.2 + PATIENCE


def test_what_is_another_wakes_its_sandbox_once(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        world.answers = [answer(), answer("other")]
        await world.look()
        await asyncio.sleep(1000)
        assert world.known == ["other"]

    assert len(told(story).woken) == 1


def test_what_it_ran_out_of_wakes_its_sandbox_once(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        world.answers = [answer(), answer(refused=1), answer(refused=2)]
        await world.look()
        await asyncio.sleep(1000)

    assert len(told(story).woken) == 1


def test_agents_that_are_there_anew_get_their_certificate_before_long(
    told: Callable[[Story], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        doubts: list[int] = []
        monkeypatch.setattr(agents.Certificates, "doubt", lambda _: doubts.append(1))
        store = world.nodes.informer.store
        metadata = {"name": "agent", "namespace": NAMESPACE, "uid": "2", "resourceVersion": "2"}
        looking = asyncio.create_task(world.nodes._certify(lambda: True))
        await asyncio.sleep(10 * CERTIFICATES)
        assert doubts == []
        # Their namespace is gone, and so is the Secret; then one is there, and waits for it.
        for pods in ([], [{"metadata": metadata, "node": "node-1", "address": None}]):
            store.replace(pods)
            before = len(doubts)
            await asyncio.sleep(2 * CERTIFICATES)
            assert len(doubts) > before
        looking.cancel()

    told(story)


def running(container: str = AGENT) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "agent", "containerID": f"containerd://{container}"}]}}


def test_what_was_counted_wakes_nobody_and_is_known_until_it_is_old(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        world.answers = [answer(used=1_500_000), answer(used=9_000_000), AskingError("it is silent")]
        await world.look()
        counted = world.nodes.counted("agents", "alice")
        assert counted is not None
        found = cpu_use(running(), counted)
        assert found is not None
        assert (found.cpu_seconds, found.container, found.at) == (1.5, AGENT, counted.at)
        # Of a container that was started since nothing is known.
        assert cpu_use(running("b" * 64), counted) is None
        assert cpu_use({"status": {}}, counted) is None
        await asyncio.sleep(INTERVAL * 1.3)
        again = cpu_use(running(), world.nodes.counted("agents", "alice"))
        assert again is not None
        assert again.cpu_seconds == 9
        one = world.nodes._pods["agents", "alice"]
        assert one.counted is not None
        one.counted = replace(one.counted, at=one.counted.at - MAX_AGE)
        assert world.nodes.counted("agents", "alice") is None

    assert told(story).woken == []


def test_what_is_only_beginning_is_looked_at_again_soon(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        world.answers = [answer(seconds=1.0), answer(seconds=SETTLED)]
        await world.look()
        assert world.known is None
        await asyncio.sleep(SOON * 1.3)
        assert world.known == [""]

    assert len(told(story).woken) == 1


def test_another_pod_of_the_sandboxs_has_nothing_of_the_last_ones(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        world.answers = [answer("first"), answer(seconds=1.0)]
        await world.look()
        assert world.known == ["first"]
        await world.look(uid="two")
        assert world.known is None

    assert [uid for _, uid in told(story).asked] == ["one", "two"]


def test_a_pod_that_does_not_run_is_not_asked_about(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        await world.look()
        await world.look(phase="Pending")
        assert world.known is None
        await asyncio.sleep(1000)

    assert len(told(story).asked) == 1


def test_who_does_not_answer_is_asked_again_later_and_later_and_what_was_said_stays(
    told: Callable[[Story], World], caplog: pytest.LogCaptureFixture
) -> None:
    async def story(world: World) -> None:
        world.answers = [answer("said"), AskingError("it did not answer")]
        await world.look()
        await asyncio.sleep(3600)
        assert world.known == ["said"]

    world = told(story)
    assert world.woken == []
    pauses = [later - earlier for (earlier, _), (later, _) in zip(world.asked[1:], world.asked[2:], strict=False)]
    assert pauses[0] < 2 * SOON
    assert min(pauses[-5:]) >= INTERVAL
    # Once, and not at each try.
    assert [one.getMessage() for one in caplog.records] == ["the agent on node node-1 tells nothing: it did not answer"]


def test_a_node_that_is_left_is_forgotten_and_told_of_anew(
    told: Callable[[Story], World], caplog: pytest.LogCaptureFixture
) -> None:
    async def story(world: World) -> None:
        world.answers = [AskingError("it did not answer")]
        for number, node in enumerate(("node-2", "node-3", "node-2")):
            await world.look(uid=str(number), node=node)
            assert world.nodes.silent() == {node: True}
            assert world.nodes._silent == {node}

    told(story)
    assert [one.getMessage().split()[4] for one in caplog.records] == ["node-2", "node-3", "node-2"]


def test_where_there_is_no_agent_nobody_waits(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        before = asyncio.get_running_loop().time()
        await world.look(node="node-2")
        assert asyncio.get_running_loop().time() == before
        assert world.known is None

    assert told(story).asked == []


def test_one_that_hangs_holds_a_pass_up_for_a_few_seconds(told: Callable[[Story], World]) -> None:
    async def story(world: World) -> None:
        world.takes = 60.0
        before = asyncio.get_running_loop().time()
        await world.look()
        assert asyncio.get_running_loop().time() - before == pytest.approx(FIRST)
        await asyncio.sleep(60)
        assert world.known == [""]

    # The first answer came after the pass, which has to be made up for.
    assert len(told(story).woken) == 1


@pytest.mark.parametrize("error", [MisunderstoodError("ValueError"), RuntimeError("whatever")])
def test_an_answer_that_is_none_is_told_and_not_taken(told: Callable[[Story], World], error: Exception) -> None:
    async def story(world: World) -> None:
        world.answers = [answer(), error]
        await world.look()
        await asyncio.sleep(2 * INTERVAL)
        assert isinstance(world.known, Unread)

    assert len(told(story).woken) == 1


def test_an_agent_that_tells_nothing_is_shown_until_it_does_or_nobody_of_its_node_is_asked_about(
    told: Callable[[Story], World],
) -> None:
    async def story(world: World) -> None:
        world.answers = [answer(), AskingError("away"), AskingError("away"), answer()]
        await world.look()
        shown = [world.nodes.silent()]
        for _ in range(3):
            await asyncio.sleep(INTERVAL * 1.3)
            shown.append(world.nodes.silent())
        assert shown[0] == {"node-1": False}
        assert {"node-1": True} in shown
        assert shown[-1] == {"node-1": False}
        world.answers = [AskingError("away")]
        await asyncio.sleep(INTERVAL * 1.3)
        assert world.nodes.silent() == {"node-1": True}
        world.nodes.forget("agents", "alice")
        assert world.nodes.silent() == {}

    told(story)
