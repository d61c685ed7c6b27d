"""The load: objects created at a fixed rate, whatever becomes of them, and the watch that tells when they are ready.

Both ends of every measured time are read from one clock in this one process, the same way for sandboxes and for the
raw pods that they are compared with.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.resources import Resource

Ready = Callable[[Obj], bool]

# How many creations are under way at a time where no rate is given.
_AT_ONCE = 16


class Slow(Exception):  # noqa: N818 - a result, not a fault of the program
    """Not everything came within the time."""


@dataclass(frozen=True)
class Run:
    """When each object was asked for and when the watch told that it is ready, by name, in seconds of one clock."""

    asked: Mapping[str, float]
    ready: Mapping[str, float]
    lag: float
    """By how much at most the load was behind its schedule."""

    @property
    def latencies(self) -> list[float]:
        return [self.ready[name] - asked for name, asked in self.asked.items()]

    @property
    def per_second(self) -> float:
        """Objects ready per second, from the first request until the last is ready."""
        return len(self.asked) / (max(self.ready.values()) - min(self.asked.values()))


class Arrivals:
    """For each object of a watch, when it was first seen in the state that one waits for."""

    def __init__(self, wanted: Ready) -> None:
        self._wanted = wanted
        self.seen: dict[str, float] = {}
        self.events = 0
        self._news = asyncio.Event()

    def take(self, event: Obj, now: float) -> None:
        """One event of the watch."""
        self.events += 1
        live = event["object"]
        name = live["metadata"].get("name")
        if event["type"] in ("ADDED", "MODIFIED") and name not in self.seen and self._wanted(live):
            self.seen[name] = now
            self._news.set()

    async def all_of(self, names: Sequence[str], within: float) -> None:
        """Wait until all of them were seen. Raises Slow where that takes longer than `within` seconds."""
        missing = set(names)
        try:
            async with asyncio.timeout(within):
                while missing := missing - self.seen.keys():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            example = ", ".join(sorted(missing)[:3])
            what = f"{len(missing)} of {len(names)} not there after {within:.0f} s, for example {example}"
            raise Slow(what) from None


@contextlib.asynccontextmanager
async def watching(
    api: Api, resource: Resource, namespace: str, take: Callable[[Obj, float], None]
) -> AsyncIterator[None]:
    """Follow all of a namespace's objects from now on, with the time at which each event arrived."""
    start = (await api.list(resource, namespace)).resource_version

    async def follow(version: str) -> None:
        while True:
            # The server ends watches whose client is slow to read; what happened meanwhile is told by the next.
            async for event in api.watch(resource, namespace, resource_version=version, timeout_seconds=7200):
                version = event["object"]["metadata"]["resourceVersion"]
                take(event, time.perf_counter())

    # The group ends what is done inside as soon as the watch fails.
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow(start))
        yield
        task.cancel()


async def create(
    api: Api,
    resource: Resource,
    bodies: Sequence[Mapping[str, Any]],
    *,
    rate: float | None,
    ready: Ready,
    within: float = 600.0,
) -> Run:
    """Create the objects of one namespace, `rate` a second (None: as fast as it goes), and wait until all are ready.

    Raises Slow where that takes longer than `within` seconds.
    """
    arrivals = Arrivals(ready)
    names = [body["metadata"]["name"] for body in bodies]
    asked: dict[str, float] = {}

    async def one(body: Mapping[str, Any]) -> None:
        asked[body["metadata"]["name"]] = time.perf_counter()
        await api.create(resource, body, body["metadata"]["namespace"], field_manager="bench")

    async with watching(api, resource, bodies[0]["metadata"]["namespace"], arrivals.take):
        lag = await (at_rate(one, bodies, rate) if rate else _unbounded(one, bodies))
        await arrivals.all_of(names, within)
    return Run(asked, {name: arrivals.seen[name] for name in names}, lag)


async def at_rate(one: Callable[[Any], Any], items: Sequence[Any], rate: float) -> float:
    """Do it with each item, `rate` of them a second, without waiting for any; the longest delay of a start."""
    start = time.perf_counter()
    lag = 0.0
    async with asyncio.TaskGroup() as group:
        for number, item in enumerate(items):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            lag = max(lag, time.perf_counter() - due)
            group.create_task(one(item))
    return lag


async def _unbounded(one: Callable[[Any], Any], items: Sequence[Any]) -> float:
    line = iter(items)

    async def worker() -> None:
        for item in line:
            await one(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(worker())
    return 0.0
