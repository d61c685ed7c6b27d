"""One tenant holds a Docker host, or the whole operator: pulls that never end, calls that never end.

Pulls ran in the engine's eight threads, for up to a quarter of an hour each: eight images of a registry that trickles
stopped a host, and as many sandboxes as there were workers stopped the operator, whose passes waited for them. Now
pulls have threads of their own, so many by host and by namespace; no pass waits for one; a namespace has a share of an
engine's calls and of the passes on a host, and a host one of all passes; and a host whose work is late again and again
is given a rest and is not Ready, although its ping answers.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from docker_world import CLUSTER, IDENTITY, blueprint_of, spec_of

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.docker_hosts.conditions import HostReason
from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.validate import parse_host_spec
from claude_sandbox.backends.base import KeyState, Past
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.threads import SHARE, of_tenant
from claude_sandbox.backends.docker.hosts.hosts import LATE_CALLS, REST, Hosts, Target
from claude_sandbox.backends.docker.images.pulls import ImagePendingError, ImagePulls
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Image
from claude_sandbox.compliance.evidence.docker_hosts import EngineDocuments
from claude_sandbox.controller.docker_hosts.status import HostFindings, ready
from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.machinery.workers import Result, run_workers
from claude_sandbox.controller.operator import Operator
from claude_sandbox.controller.sandboxes.store import Key


class Trickling:
    """An engine whose pulls and whose containers called `slow` never come, until it is let go."""

    api_version, base_url, timeout = "1.47", "http://engine", 5

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.pulls = 0

    def request(self, method: str, url: str, **_: Any) -> Any:
        if "/images/create" in url:
            self.pulls += 1
            self.let_go.wait()
        elif "/slow" in url:
            self.let_go.wait()
        missing = "/images/" in url

        class Response:
            status_code = 404 if missing else 200
            content = b'{"message": "no such image"}' if missing else b"{}"

        return Response()


@pytest.fixture
def trickling() -> Iterator[tuple[Trickling, Engine]]:
    client = Trickling()
    engine = Engine(lambda: client)  # type: ignore[arg-type, return-value]
    with contextlib.closing(engine):
        yield client, engine
        client.let_go.set()


def image(number: int) -> Image:
    return Image(f"registry.example/big:{number}", None, "IfNotPresent")


async def _pass(engine: Engine, images: ImagePulls, namespace: str, name: str, wanted: Image | None) -> float:
    """One pass over a sandbox: it looks at what there is, and wants an image. How long it took, in seconds."""
    began = time.monotonic()
    with of_tenant(namespace):
        await asyncio.gather(*(engine.container(f"{name}-{one}") for one in range(4)))
        if wanted is not None:
            with contextlib.suppress(ImagePendingError):
                await images.provide(wanted, (namespace, name))
    return time.monotonic() - began


def test_whoever_pulls_from_a_registry_that_trickles_holds_up_nobody(trickling: tuple[Trickling, Engine]) -> None:
    client, engine = trickling

    async def main() -> list[float]:
        images = ImagePulls(engine)
        for number in range(40):
            await asyncio.wait_for(_pass(engine, images, "mallory", f"m{number}", image(number)), 5)
        others = [await asyncio.wait_for(_pass(engine, images, "alice", "a", None), 5) for _ in range(100)]
        # Her own image begins at once too.
        await asyncio.wait_for(_pass(engine, images, "alice", "a", image(100)), 5)
        await asyncio.sleep(0.1)
        assert "is being pulled" in images.state(image(100))
        assert "waits for its turn" in images.state(image(39))
        client.let_go.set()
        await images.close()
        return others

    took = sorted(asyncio.run(main()))
    assert took[98] < 1.0, f"p99 {took[98]:.3f} s"
    assert client.pulls == 3, "two for one namespace and one for the other"


def test_whoever_has_calls_that_never_end_holds_up_nobody(trickling: tuple[Trickling, Engine]) -> None:
    client, engine = trickling

    async def slow() -> None:
        with of_tenant("mallory"), contextlib.suppress(EngineError):
            await engine.container("slow")

    async def main() -> list[float]:
        held = [asyncio.create_task(slow()) for _ in range(100)]
        await asyncio.sleep(0.2)
        took = [await asyncio.wait_for(_pass(engine, ImagePulls(engine), "alice", "a", None), 5) for _ in range(100)]
        client.let_go.set()
        await asyncio.gather(*held)
        return took

    took = sorted(asyncio.run(main()))
    assert took[98] < 1.0, f"p99 {took[98]:.3f} s"
    assert SHARE < 32


def test_passes_on_a_host_that_hangs_leave_room_for_all_others() -> None:
    def limits(key: tuple[str, str]) -> dict[Any, int]:
        return {key[0]: 8}

    async def main() -> list[float]:
        queue: WorkQueue[tuple[str, str]] = WorkQueue(limits=limits)
        never, took = asyncio.Event(), []
        done: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        async def reconcile(key: tuple[str, str]) -> Result:
            if key[0] == "hangs":
                await never.wait()
            done.put_nowait(key)
            return Result()

        for number in range(500):
            queue.add(("hangs", f"{number}"))
        workers = asyncio.create_task(run_workers(queue, None, reconcile))
        await asyncio.sleep(0)
        for number in range(100):
            began = time.monotonic()
            queue.add(("Kubernetes", f"{number}"))
            await done.get()
            took.append(time.monotonic() - began)
        never.set()
        queue.shutdown()
        await workers
        return took

    assert sorted(asyncio.run(main()))[98] < 1.0


@pytest.mark.parametrize(
    ("status", "groups"),
    [
        ({"placement": {"host": "h", "engineID": "e"}}, {("host", "h"): 32, ("host", "h", "mallory"): 8}),
        ({}, {("homeless", "mallory"): 8}),
    ],
)
def test_a_sandbox_on_docker_takes_room_of_its_host_and_its_namespace_there(
    status: dict[str, Any], groups: dict[Any, int]
) -> None:
    on_docker = {"metadata": {}, "spec": {"backend": {"type": "Docker"}}, "status": status}
    known = {Key("mallory", "m"): on_docker, Key("alice", "a"): {"metadata": {}, "spec": {}}}
    operator: Any = SimpleNamespace(sandboxes=known, settings=SimpleNamespace(workers=24))
    assert Operator._limits(operator, Key("mallory", "m")) == groups
    assert not groups.keys() & Operator._limits(operator, Key("alice", "a")).keys()


def test_a_pass_over_a_host_that_hangs_ends_and_says_that_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_sandbox.backends.docker.backend.ENOUGH", 0.2)

    class Hanging:
        may_be_local = False

        def __getattr__(self, name: str) -> Any:
            async def never(*_: object, **__: object) -> None:
                await asyncio.Event().wait()

            return never

    async def main() -> None:
        backend = DockerBackend(Hanging(), CLUSTER, "host", Hanging(), Pacer())  # type: ignore[arg-type]
        outcome = await asyncio.wait_for(
            backend.ensure(blueprint_of(), KeyState("7"), spec_of(), Past(True, True, True)), 5
        )
        assert outcome.failure is not None
        assert not outcome.failure.permanent
        _, compliant, _ = await backend.measure(blueprint_of(), spec_of(), outcome)
        assert compliant[0] is not ConditionStatus.TRUE
        removal = await asyncio.wait_for(backend.remove(IDENTITY, retain=True), 5)
        assert not removal.done

    asyncio.run(main())


class _Answering:
    """A connection that answers its ping, and says what it is."""

    api = object()

    def ping(self) -> None:
        pass

    def documents(self) -> EngineDocuments:
        return EngineDocuments({"ID": "e", "ServerVersion": "29.0"}, {"Version": "29.0", "ApiVersion": "1.47"}, None)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["read", "change"])
def test_a_host_whose_work_is_late_is_not_ready_although_its_ping_answers(kind: str) -> None:
    now: list[float] = [0.0]
    woken: list[str] = []
    spec = parse_host_spec({"metadata": {"name": "h"}, "spec": {"endpoint": "unix:///run/docker.sock"}})

    async def main() -> None:
        hosts = Hosts(lambda _address, _credentials: _Answering(), clock=lambda: now[0], on_slow=woken.append)  # type: ignore[arg-type, return-value]
        target = Target(parse("unix:///run/docker.sock"))
        await hosts.look("h", target)
        other = "change" if kind == "read" else "read"
        for _ in range(LATE_CALLS):
            hosts.told("h", kind, False)
            hosts.told("h", other, True)
        assert woken == ["h"]
        known = await hosts.look("h", target)
        state = ready(HostFindings(spec, known=known))
        assert (state.status, state.reason) == (ConditionStatus.FALSE, HostReason.ENGINE_SLOW)
        assert hosts.engine("h") is None, "nothing is asked of it while it rests"
        now[0] += REST + 1
        known = await hosts.look("h", target)
        assert ready(HostFindings(spec, known=known)).status is ConditionStatus.TRUE
        assert hosts.engine("h") is not None
        # One more that is late is enough, and one that is not makes it well.
        hosts.told("h", kind, False)
        assert hosts.engine("h") is None
        now[0] += 2 * REST + 1
        await hosts.look("h", target)
        hosts.told("h", kind, True)
        hosts.told("h", kind, False)
        assert hosts.engine("h") is not None
        hosts.close()

    asyncio.run(main())


def test_what_a_tenant_makes_slow_says_nothing_of_the_host(trickling: tuple[Trickling, Engine]) -> None:
    client, _ = trickling
    told: list[tuple[str, bool]] = []
    engine = Engine(lambda: client, timeout=-4.8, timely=lambda kind, answered: told.append((kind, answered)))  # type: ignore[arg-type, return-value]

    async def main() -> None:
        for call in (
            engine.remove_volume("slow"), engine.remove_container("slow"), engine.put_archive("slow", "/", b""),
        ):  # fmt: skip
            with pytest.raises(EngineError):
                await call
        assert told == []
        with pytest.raises(EngineError):
            await engine.start("slow")
        assert told == [("change", False)]

    with contextlib.closing(engine):
        asyncio.run(main())
        client.let_go.set()


def test_a_pull_that_nobody_wants_any_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_sandbox.backends.docker.images.pulls.ABANDONED", 0.05)
    now, ended = [0.0], []

    class Waiting:
        async def image(self, _: str) -> None:
            return None

        async def pull(self, *_: object) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

    async def main() -> None:
        images = ImagePulls(Waiting(), clock=lambda: now[0])  # type: ignore[arg-type]
        with pytest.raises(ImagePendingError):
            await images.provide(image(1), ("mallory", "m"))
        await asyncio.sleep(0)
        assert ended == []
        now[0] += 61
        await asyncio.sleep(0.2)
        assert ended == [True]
        assert not images.pulls(image(1))
        await images.close()

    asyncio.run(main())
