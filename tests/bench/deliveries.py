"""What a gateway costs a sandbox that comes to be: create to Ready with one and without, in one run, in turn."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import load
from tests.bench.figures import Latency
from tests.bench.lab import Lab, namespace
from tests.bench.objects import BROKERED, DELIVERIES, MOUNTED, is_ready, sandbox
from tests.bench.on_docker.place import place
from tests.bench.on_docker.scenarios import sandboxes as on_engine

from claude_sandbox.kubernetes_api.resources import NAMESPACES, SANDBOXES

Report = Callable[[str], None]
Lot = Callable[[str, int], Awaitable[Sequence[float]]]
"""Makes so many sandboxes of a delivery, and tells how long each took."""

_LOTS = 5
_PAUSE = 0.3


@dataclass(frozen=True)
class Compared:
    """By delivery; and of a namespace's first sandbox, for which its gateway has to come first."""

    description: str
    by_delivery: Mapping[str, Latency]
    first: Latency | None = None

    @property
    def ratio(self) -> float:
        """How much longer it takes with a gateway, p50."""
        return self.by_delivery[BROKERED].p50 / self.by_delivery[MOUNTED].p50

    def document(self) -> dict[str, Any]:
        """As JSON. Seconds."""
        return dataclasses.asdict(self)


async def compared(lot: Lot, count: int, report: Report) -> dict[str, Latency]:
    """Lots of both in turn, so that whatever else the machine does is the same for both."""
    found: dict[str, list[float]] = {delivery: [] for delivery in DELIVERIES}
    each = max(1, count // _LOTS)
    for turn in range(_LOTS):
        report(f"{each} sandboxes that hold their key, then as many with a gateway ({turn + 1} of {_LOTS}).")
        for delivery in DELIVERIES:
            found[delivery] += await lot(delivery, each)
    return {delivery: Latency.of(seconds) for delivery, seconds in found.items()}


async def on_docker(release: str, count: int, directory: Path, description: str, report: Report) -> Compared:
    """One at a time, on an engine. Raises LocalClusterError, OperatorEnded, Slow."""
    async with place(directory, release, report) as here:

        async def lot(delivery: str, size: int) -> Sequence[float]:
            return (await on_engine(here, size, 1, delivery)).seconds

        for delivery in DELIVERIES:
            await lot(delivery, 1)
        return Compared(f"{description}; Docker Engine {release}", await compared(lot, count, report))


async def on_kubernetes(place: Lab, count: int, firsts: int, description: str, report: Report) -> Compared:
    """One at a time, in a namespace for each; and `firsts` namespaces with nothing in them. Raises Slow."""
    for delivery in DELIVERIES:
        await namespace(place, delivery.lower())

    async def lot(delivery: str, size: int) -> Sequence[float]:
        return await _one_by_one(place, delivery.lower(), delivery, size)

    for delivery in DELIVERIES:
        await lot(delivery, 5)
    by_delivery = await compared(lot, count, report)
    report(f"The first sandbox of {firsts} namespaces.")
    first = []
    for number in range(firsts):
        name = f"first-{number}"
        await namespace(place, name)
        first += await _one_by_one(place, name, BROKERED, 1)
        await place.api.delete(NAMESPACES, name)
    return Compared(description, by_delivery, Latency.of(first))


_numbers = iter(range(1_000_000))


async def _one_by_one(place: Lab, where: str, delivery: str, count: int) -> list[float]:
    found = []
    for _ in range(count):
        body = sandbox(where, f"one-{next(_numbers)}", delivery)
        run = await load.create(place.api, SANDBOXES, [body], rate=None, ready=is_ready)
        found += run.latencies
        # Whatever is written of it when it is ready is not to be the next one's.
        await asyncio.sleep(_PAUSE)
    # The last one stays, so that its namespace's gateway does.
    for live in (await place.api.list(SANDBOXES, where)).items[:-1]:
        await place.api.delete(SANDBOXES, live["metadata"]["name"], where)
    return found


def page(found: Compared) -> str:
    """For people."""
    return "\n".join([found.description, "", *_rows(found)])


def _rows(found: Compared) -> Iterator[str]:
    yield "Create to Ready, in ms."
    yield f"{'':42}{'count':>8}{'p50':>8}{'p90':>8}{'longest':>10}"
    yield _row("holds its key itself (Mounted)", found.by_delivery[MOUNTED])
    yield _row("with a gateway (Brokered)", found.by_delivery[BROKERED])
    if found.first is not None:
        yield _row("the first of its namespace, with a gateway", found.first)
    yield f"With a gateway it takes {found.ratio:.2f} times as long (p50)."


def _row(label: str, of: Latency) -> str:
    return (
        f"{label:42}{of.count:8}"
        + "".join(f"{1000 * value:8.0f}" for value in (of.p50, of.p90))
        + (f"{1000 * of.longest:10.0f}")
    )
