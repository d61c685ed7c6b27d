"""How long a suspended sandbox takes until it can be worked with again, beside a new one: of each both, in turn."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import load
from tests.bench.figures import Latency
from tests.bench.lab import Lab, namespace
from tests.bench.objects import BROKERED, is_ready
from tests.bench.objects import sandbox as in_cluster
from tests.bench.on_docker.place import place
from tests.bench.on_docker.scenarios import sandbox as on_engine

from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.resources import SANDBOXES

Report = Callable[[str], None]

_PATIENCE = 180.0
_PAUSE = 0.3
GOAL = 1.2


@dataclass(frozen=True)
class Resumes:
    """Seconds until Ready: of new sandboxes, and of the same ones when they are resumed."""

    description: str
    new: Latency
    resumed: Latency

    @property
    def ratio(self) -> float:
        """How much longer it takes to resume, p50."""
        return self.resumed.p50 / self.new.p50

    def document(self) -> dict[str, Any]:
        """As JSON. Seconds."""
        return dataclasses.asdict(self)


def _is_suspended(live: Obj) -> bool:
    conditions = live.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["reason"] == "Suspended" for one in conditions)


async def of_each(api: Api, bodies: Iterator[Mapping[str, Any]], count: int) -> tuple[list[float], list[float]]:
    """One sandbox after the other: made, suspended, resumed. Raises Slow."""
    new, resumed = list[float](), list[float]()
    for _ in range(count + 1):
        body = next(bodies)
        name, where = body["metadata"]["name"], body["metadata"]["namespace"]
        for wanted, found in ((None, new), ("Suspended", None), ("Running", resumed)):
            arrivals = load.Arrivals(_is_suspended if wanted == "Suspended" else is_ready)
            async with load.watching(api, SANDBOXES, where, arrivals.take):
                start = time.perf_counter()
                if wanted is None:
                    await api.create(SANDBOXES, body, where, field_manager="bench")
                else:
                    await api.patch(SANDBOXES, name, where, {"spec": {"operatingMode": wanted}})
                await arrivals.all_of([name], _PATIENCE)
            if found is not None:
                found.append(arrivals.seen[name] - start)
            # Whatever is written of it then is not to be the next step's.
            await asyncio.sleep(_PAUSE)
        await api.delete(SANDBOXES, name, where)
    # The first one brings along what all share.
    return new[1:], resumed[1:]


async def on_docker(release: str, count: int, directory: Path, description: str, report: Report) -> Resumes:
    """On an engine, each with a gateway. Raises LocalClusterError, OperatorEnded, Slow."""
    async with place(directory, release, report) as here:
        report(f"{count} sandboxes, each made, suspended and resumed.")
        bodies = (on_engine(f"resumed-{number}", BROKERED) for number in range(count + 1))
        new, resumed = await of_each(here.api, bodies, count)
    return Resumes(f"{description}; Docker Engine {release}", Latency.of(new), Latency.of(resumed))


async def on_kubernetes(place: Lab, count: int, description: str, report: Report) -> Resumes:
    """In a namespace that has its gateway. Raises Slow."""
    await namespace(place, "resumes")
    await load.create(place.api, SANDBOXES, [in_cluster("resumes", "stays", BROKERED)], rate=None, ready=is_ready)
    report(f"{count} sandboxes, each made, suspended and resumed.")
    bodies = (in_cluster("resumes", f"resumed-{number}", BROKERED) for number in range(count + 1))
    new, resumed = await of_each(place.api, bodies, count)
    return Resumes(description, Latency.of(new), Latency.of(resumed))


def page(found: Resumes) -> str:
    """For people."""
    lines = [found.description, "", "Until Ready, in ms.", f"{'':24}{'count':>8}{'p50':>8}{'p90':>8}{'longest':>10}"]
    for label, of in (("a new sandbox", found.new), ("the same one resumed", found.resumed)):
        figures = "".join(f"{1000 * value:8.0f}" for value in (of.p50, of.p90))
        lines.append(f"{label:24}{of.count:8}{figures}{1000 * of.longest:10.0f}")
    lines.append(f"Resuming takes {found.ratio:.2f} times as long (p50; goal: at most {GOAL}).")
    return "\n".join(lines)
