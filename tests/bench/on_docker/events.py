"""What an engine tells of what happens to its containers and networks, with the time at which it was told."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import docker
from tests.bench.load import Slow

Event = Mapping[str, Any]
Wanted = Callable[[Event], bool]


class Events:
    """Use with `async with`. Not by way of the socket that counts."""

    def __init__(self, endpoint: str) -> None:
        self._client = docker.APIClient(endpoint, version="auto", timeout=None)
        self._expected: list[tuple[Wanted, asyncio.Future[float]]] = []

    async def __aenter__(self) -> "Events":
        self._loop = asyncio.get_running_loop()
        self._stream = await asyncio.to_thread(self._client.events, decode=True)
        threading.Thread(target=self._follow, name="events", daemon=True).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._client.close()

    def expect(self, wanted: Wanted) -> "asyncio.Future[float]":
        """When the first such event from now on arrived, by time.perf_counter."""
        future: asyncio.Future[float] = self._loop.create_future()
        self._expected.append((wanted, future))
        return future

    def _follow(self) -> None:
        for event in self._stream:
            self._loop.call_soon_threadsafe(self._take, event, time.perf_counter())

    def _take(self, event: Event, now: float) -> None:
        for one in [one for one in self._expected if one[0](event)]:
            self._expected.remove(one)
            if not one[1].done():
                one[1].set_result(now)


async def within(seconds: float, future: "asyncio.Future[float]", what: str) -> float:
    """The time that the future gives. Raises Slow."""
    try:
        return await asyncio.wait_for(future, seconds)
    except TimeoutError:
        raise Slow(f"{what}: not within {seconds:.0f} s") from None


def happens(kind: str, action: str, **attributes: str) -> Wanted:
    """An event of a kind of object, with these attributes."""

    def wanted(event: Event) -> bool:
        found = event.get("Actor", {}).get("Attributes", {})
        named = attributes.items() <= found.items()
        return event.get("Type") == kind and event.get("Action") == action and named

    return wanted
