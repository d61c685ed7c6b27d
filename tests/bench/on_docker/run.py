"""One run of it, and the page that it prints."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import Latency
from tests.bench.on_docker import scenarios
from tests.bench.on_docker.place import place
from tests.bench.on_docker.scenarios import AtRest, Created, Filled

Report = Callable[[str], None]

_TOGETHER = 4


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    release: str
    count: int
    population: int
    rest: float


@dataclass(frozen=True)
class Results:
    """Everything of one run."""

    description: str
    pairs: tuple[tuple[Created, Created], ...]
    """Raw containers and sandboxes, one right after the other; one at a time, and several."""
    filled: Filled
    healed: dict[str, Latency]
    at_rest: AtRest

    def document(self) -> dict[str, Any]:
        """As JSON. Seconds and bytes."""
        return dataclasses.asdict(self)


async def measure(sizes: Sizes, directory: Path, description: str, report: Report) -> Results:
    """Bring everything up, measure, and take it down. Raises LocalClusterError, OperatorEnded, Slow."""
    async with place(directory, sizes.release, report) as here:
        await scenarios.raw_containers(here, 2, 1)
        await scenarios.sandboxes(here, 2, 1)
        pairs = []
        for at_once in (1, _TOGETHER):
            report(f"{sizes.count} raw containers, then as many sandboxes, {at_once} at a time.")
            floor = await scenarios.raw_containers(here, sizes.count, at_once)
            pairs.append((floor, await scenarios.sandboxes(here, sizes.count, at_once)))
        report(f"{sizes.population} sandboxes, to stay.")
        filled = await scenarios.fill(here, sizes.population)
        report(f"{sizes.rest:.0f} s at rest.")
        at_rest = await scenarios.at_rest(here, sizes.rest)
        report("Drift.")
        third = len(filled.containers) // 3
        parts = [filled.containers[n * third : (n + 1) * third] for n in range(3)]
        healed = {
            "network attached, off it again": await scenarios.network_attached(here, parts[0]),
            "memory limit doubled, as it was": await scenarios.limit_loosened(here, parts[1]),
            "container killed, started again": await scenarios.killed(here, parts[2]),
        }
    return Results(f"{description}; Docker Engine {sizes.release}", tuple(pairs), filled, healed, at_rest)


def page(results: Results) -> str:
    """For people."""
    parts = (_created(results), _healed(results), _rest(results))
    return "\n\n".join([results.description, *("\n".join(part) for part in parts)])


def _created(results: Results) -> Iterator[str]:
    yield "Create to Ready, in ms, against a raw `docker run` of the same container until its health check passes."
    yield f"{'':14}{'':10}{'p50':>8}{'p90':>8}{'p99':>8}{'calls':>8}"
    for floor, ours in results.pairs:
        for label, run in (("raw", floor), ("sandbox", ours)):
            times = "".join(f"{1000 * value:8.0f}" for value in (run.latency.p50, run.latency.p90, run.latency.p99))
            calls = f"{sum(run.calls.values()):8.1f}" if run.calls else ""
            yield f"{f'{run.at_once} at a time':14}{label:10}{times}{calls}"
        yield f"{'':14}{'ratio':10}{ours.latency.p50 / floor.latency.p50:8.2f}"
    (_, ours), *_ = results.pairs
    each = sorted(ours.calls.items(), key=lambda one: -one[1])
    yield f"Calls for one sandbox: {', '.join(f'{kind} {number:.1f}' for kind, number in each)}"
    filled = results.filled
    yield f"{len(filled.containers)} sandboxes as fast as it goes: all Ready after {filled.seconds:.0f} s"


def _healed(results: Results) -> Iterator[str]:
    yield "Drift until healed, one at a time, in ms."
    for what, latency in results.healed.items():
        yield (
            f"  {what}: p50 {1000 * latency.p50:.0f}, p99 {1000 * latency.p99:.0f}, longest "
            f"{1000 * latency.longest:.0f} ({latency.count} times)"
        )


def _rest(results: Results) -> Iterator[str]:
    rest = results.at_rest
    yield (
        f"{len(results.filled.containers)} sandboxes, {rest.seconds:.0f} s at rest: {rest.per_minute():.0f} calls to "
        f"the engine per minute, {rest.per_minute(writes_only=True):.0f} of them writes; the operator has "
        f"{rest.memory.resident / 1e6:.0f} MB"
    )
    for kind, count in sorted(rest.calls.items(), key=lambda one: -one[1]):
        yield f"  {kind}: {count * 60 / rest.seconds:.1f}"
    spent = ", ".join(f"{name} {100 * seconds / rest.seconds:.1f} %" for name, seconds in rest.cpu.by_name.items())
    yield f"  of one CPU: {spent}; others {100 * rest.cpu.others / rest.seconds:.0f} %"
