"""What is measured, one function for each question. All times in seconds."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench import load
from tests.bench.figures import Latency
from tests.bench.machine import Cpu, CpuMeter, Memory, memory
from tests.bench.objects import MOUNTED, is_ready
from tests.bench.on_docker.events import happens, within
from tests.bench.on_docker.place import AGENTS, IMAGE, SECRET, Place

from claude_sandbox.api import meta
from claude_sandbox.api.validate import parse_spec
from claude_sandbox.backends.docker.objects import documents
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

PATIENCE = 120.0
_READS = "GET"


def sandbox(name: str, delivery: str = MOUNTED) -> dict[str, Any]:
    """A small sandbox with a volume for its workspace."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.KIND,
        "metadata": {"namespace": AGENTS, "name": name},
        "spec": {
            "backend": {"type": "Docker"},
            "credentials": {"apiKeySecretRef": {"name": SECRET}, "delivery": delivery},
            "resources": {"cpu": "1", "memory": "512Mi"},
            "workspace": {"retention": "Delete"},
        },
    }


@dataclass(frozen=True)
class Created:
    """What became of a number of sandboxes or raw containers, each gone again before its worker made the next."""

    at_once: int
    latency: Latency
    seconds: tuple[float, ...]
    """Each by itself."""
    calls: Mapping[str, float]
    """Calls to the engine for one by kind, from the create until it is ready; only where there is one at a time."""


async def _in_turn(one: Callable[[str], Awaitable[float]], names: Sequence[str], at_once: int) -> list[float]:
    line, found = iter(names), list[float]()

    async def worker() -> None:
        for name in line:
            found.append(await one(name))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return found


async def raw_containers(here: Place, count: int, at_once: int) -> Created:
    """The floor: the container that a sandbox gets, by the very document, made as `docker run` makes it.

    From just before its network is made until the engine tells that its health check passes. The check is Claude
    Code's alone: nobody brings a raw container a key, which a sandbox's looks for first.
    """
    calls: Counter[str] = Counter()

    async def one(name: str) -> float:
        identity = Identity(AGENTS, name, f"raw-{name}")
        blueprint = build(identity, parse_spec(sandbox(name)), Site(parse_image(IMAGE, "Never")))
        wanted = documents(blueprint, "raw", await here.engine.capabilities())
        container = {**wanted.container, "Healthcheck": {**wanted.container["Healthcheck"], "Test": ["CMD", "claude"]}}
        healthy = here.events.expect(happens("container", "health_status: healthy", name=wanted.names.container))
        before, start = Counter(here.counted.requests), time.perf_counter()
        network = await here.engine.create_network(wanted.network)
        identifier = await here.engine.create_container(wanted.names.container, container)
        await here.engine.start(identifier)
        end = await within(PATIENCE, healthy, f"raw container {name}")
        calls.update(here.counted.requests - before)
        await here.engine.remove_container(identifier)
        await here.engine.remove_network(network)
        for volume in wanted.names.volumes:
            await here.engine.remove_volume(volume)
        return end - start

    found = await _in_turn(one, [f"raw-{at_once}-{number}" for number in range(count)], at_once)
    return Created(at_once, Latency.of(found), tuple(found), _each(calls, count) if at_once == 1 else {})


async def sandboxes(here: Place, count: int, at_once: int, delivery: str = MOUNTED) -> Created:
    """Sandboxes, from just before the request until the watch shows Ready=True."""
    arrivals = load.Arrivals(is_ready)
    calls: Counter[str] = Counter()

    async def one(name: str) -> float:
        before, start = Counter(here.counted.requests), time.perf_counter()
        await here.api.create(SANDBOXES, sandbox(name, delivery), AGENTS)
        await arrivals.all_of([name], PATIENCE)
        calls.update(here.counted.requests - before)
        await here.api.delete(SANDBOXES, name, AGENTS)
        async with asyncio.timeout(PATIENCE):
            while await _is_there(here, name):  # noqa: ASYNC110 - as good as a watch, out of the measured time
                await asyncio.sleep(0.05)
        return arrivals.seen[name] - start

    async with load.watching(here.api, SANDBOXES, AGENTS, arrivals.take):
        found = await _in_turn(one, [f"one-{at_once}-{number}" for number in range(count)], at_once)
    return Created(at_once, Latency.of(found), tuple(found), _each(calls, count) if at_once == 1 else {})


def _each(calls: Mapping[str, int], count: int) -> dict[str, float]:
    return {kind: number / count for kind, number in calls.items()}


async def _is_there(here: Place, name: str) -> bool:
    try:
        await here.api.get(SANDBOXES, name, AGENTS, metadata_only=True)
    except ApiError as error:
        if not error.is_not_found:
            raise
        return False
    return True


@dataclass(frozen=True)
class Filled:
    """Sandboxes that stay: the names of their containers, and how long all took."""

    containers: tuple[str, ...]
    seconds: float


async def fill(here: Place, count: int) -> Filled:
    """Sandboxes to stay, as fast as it goes."""
    bodies = [sandbox(f"stay-{number}") for number in range(count)]
    run = await load.create(here.api, SANDBOXES, bodies, rate=None, ready=is_ready, within=PATIENCE + 5 * count)
    found = (await here.api.list(SANDBOXES, AGENTS)).items
    return Filled(tuple(one["status"]["workload"]["name"] for one in found), count / run.per_second)


async def network_attached(here: Place, containers: Sequence[str]) -> Latency:
    """From just before a container is put on another network until the engine tells that it is off it again."""
    other = await here.engine.create_network({"Name": "bench-other", "Driver": "bridge"})

    async def one(name: str) -> float:
        identifier = await _identifier(here, name)
        off = here.events.expect(happens("network", "disconnect", container=identifier, name="bench-other"))
        start = time.perf_counter()
        await here.engine.connect(other, identifier)
        return await within(PATIENCE, off, f"network of {name}") - start

    found = await _in_turn(one, containers, 1)
    await here.engine.remove_network(other)
    return Latency.of(found)


async def limit_loosened(here: Place, containers: Sequence[str]) -> Latency:
    """From just before a container's memory limit is doubled until the engine tells that it was changed again."""

    async def one(name: str) -> float:
        identifier = await _identifier(here, name)
        ours = here.events.expect(happens("container", "update", name=name))
        start = time.perf_counter()
        doubled = asyncio.create_task(here.engine.update(identifier, {"Memory": 1 << 30, "MemorySwap": 1 << 30}))
        await within(PATIENCE, ours, f"our own update of {name}")
        end = await within(PATIENCE, here.events.expect(happens("container", "update", name=name)), f"limit of {name}")
        await doubled
        return end - start

    return Latency.of(await _in_turn(one, containers, 1))


async def killed(here: Place, containers: Sequence[str]) -> Latency:
    """From just before a container is killed until the engine tells that it was started again."""

    async def one(name: str) -> float:
        identifier = await _identifier(here, name)
        again = here.events.expect(happens("container", "start", name=name))
        start = time.perf_counter()
        await here.engine.stop(identifier, 0)
        return await within(PATIENCE, again, f"start of {name}") - start

    return Latency.of(await _in_turn(one, containers, 1))


async def _identifier(here: Place, name: str) -> str:
    found = await here.engine.container(name)
    assert found is not None, name
    return str(found["Id"])


@dataclass(frozen=True)
class AtRest:
    """The operator and the engine while nothing happens."""

    seconds: float
    calls: Mapping[str, int]
    cpu: Cpu
    memory: Memory

    def per_minute(self, *, writes_only: bool = False) -> float:
        """Calls to the engine."""
        counted = sum(n for kind, n in self.calls.items() if not (writes_only and kind.startswith(_READS)))
        return counted * 60 / self.seconds


async def at_rest(here: Place, seconds: float, *, quieted: bool = True) -> AtRest:
    """Look on for so long; `quieted`: once nothing is written to the engine any more."""
    if quieted:
        await _quiet(here)
    before, meter, start = Counter(here.counted.requests), CpuMeter(here.pids), time.monotonic()
    await asyncio.sleep(seconds)
    calls = here.counted.requests - before
    return AtRest(time.monotonic() - start, dict(calls), meter.read(), memory(here.operator.pid))


async def _quiet(here: Place, seconds: float = 10.0) -> None:
    """Wait until nothing but reading was asked of the engine for so long."""

    def written() -> int:
        return sum(count for kind, count in here.counted.requests.items() if not kind.startswith(_READS))

    async with asyncio.timeout(600):
        last, since = written(), time.monotonic()
        while time.monotonic() - since < seconds:
            await asyncio.sleep(0.5)
            if (now := written()) != last:
                last, since = now, time.monotonic()
