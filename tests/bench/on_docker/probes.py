"""What probing costs on a Docker host: the operator's and the engine's CPU for a probe, the calls, and the probe's own
program. The containers that try are real ones; the sandboxes do not change."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.load import Slow
from tests.bench.on_docker import scenarios
from tests.bench.on_docker.place import AGENTS, Place, place
from tests.bench.on_docker.scenarios import AtRest

from claude_sandbox.compliance.reports.isolation import PROOF
from claude_sandbox.kubernetes_api.resources import SANDBOXES
from claude_sandbox.kubernetes_api.unstructured import Object

Report = Callable[[str], None]

DEFAULT = 600.0
"""Seconds between two probes of a sandbox where nobody says otherwise."""
_MADE = "POST /containers/create"
_RUNS = 5


@dataclass(frozen=True)
class Probed:
    """What was measured. `before`: the same sandboxes, not probed. `program`: CPU seconds of what runs in a probe's
    container, by itself on the machine; `writes`: how often a sandbox's resource changed meanwhile."""

    description: str
    count: int
    interval: float
    before: AtRest
    during: AtRest
    program: float
    writes: int

    @property
    def probes(self) -> int:
        """A container each; of sandboxes that do not change nothing else is made."""
        return self.during.calls.get(_MADE, 0)

    def of_one(self, name: str) -> float:
        """CPU seconds of a process for a probe, without what it takes at rest."""
        rest = self.before.cpu.by_name[name] / self.before.seconds * self.during.seconds
        return max(0.0, self.during.cpu.by_name[name] - rest) / max(1, self.probes)

    @property
    def calls(self) -> dict[str, float]:
        """To the engine for one probe, by kind, without those at rest."""
        kinds = self.during.calls.keys()
        rest = {kind: self.before.calls.get(kind, 0) / self.before.seconds * self.during.seconds for kind in kinds}
        found = {kind: (self.during.calls[kind] - rest[kind]) / max(1, self.probes) for kind in kinds}
        return {kind: number for kind, number in found.items() if number >= 0.05}

    def document(self) -> dict[str, Any]:
        """As JSON."""
        each = {name: self.of_one(name) for name in self.during.cpu.by_name}
        return {**asdict(self), "probes": self.probes, "cpuOfOne": each, "calls": self.calls}


async def measure(
    release: str, count: int, interval: float, rest: float, directory: Path, description: str, report: Report
) -> Probed:
    """Raises LocalClusterError, OperatorEnded, Slow."""
    async with place(directory, release, report, "--probe-interval=0") as here:
        report(f"{count} sandboxes, to stay, and {rest:.0f} s at rest without probes.")
        await scenarios.fill(here, count)
        before = await scenarios.at_rest(here, rest)
        await here.operator.restart(f"--probe-interval={interval:g}")
        report("Until each was probed.")
        await _proven(here, count)
        # What was found is still being said of the last ones.
        await asyncio.sleep(15)
        report(f"{rest:.0f} s, each probed every {interval:.0f} s.")
        versions = await _versions(here)
        during = await scenarios.at_rest(here, rest, quieted=False)
        changed = sum(1 for name, version in (await _versions(here)).items() if versions.get(name) != version)
        program = await asyncio.to_thread(_program)
    return Probed(f"{description}; Docker Engine {release}", count, interval, before, during, program, changed)


async def _versions(here: Place) -> dict[str, str]:
    found = (await here.api.list(SANDBOXES, AGENTS)).items
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in found}


async def _proven(here: Place, count: int, within: float = 600.0) -> None:
    try:
        async with asyncio.timeout(within):
            while sum(map(_is_proven, (await here.api.list(SANDBOXES, AGENTS)).items)) < count:  # noqa: ASYNC110
                await asyncio.sleep(1)
    except TimeoutError:
        raise Slow(f"not all were probed within {within:.0f} s") from None


def _is_proven(live: Object) -> bool:
    groups = ((live.get("status") or {}).get("compliance") or {}).get("passed") or ()
    return any(PROOF in group["controls"] for group in groups)


def _program() -> float:
    """The least of some runs of what runs in a probe's container, with nothing to try but itself and the kernel."""
    question = json.dumps({"nonce": "n", "seconds": 1, "targets": []}).encode()
    found = []
    for _ in range(_RUNS):
        reading, writing = os.pipe()
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", "claude_sandbox.probe"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reading, 0),
                (os.POSIX_SPAWN_CLOSE, writing),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            ],
        )
        os.close(reading)
        os.write(writing, question + b"\n")
        os.close(writing)
        _, _, used = os.wait4(child, 0)
        found.append(used.ru_utime + used.ru_stime)
        time.sleep(0.1)
    return min(found)


def page(found: Probed) -> str:
    """For people."""
    parts = {name: found.of_one(name) for name in found.during.cpu.by_name}
    each = sum(parts.values()) + found.program
    lines = [
        found.description,
        "",
        f"{found.count} sandboxes at rest, each probed every {found.interval:.0f} s, for {found.during.seconds:.0f} s:",
        f"probes                                   {found.probes:8d}",
        f"probes a second (asked for: {found.count / found.interval:5.2f})       "
        f"{found.probes / found.during.seconds:8.2f}",
        "CPU meanwhile, in percent of one",
        *(
            f"  {name:39}{100 * seconds / found.during.seconds:8.2f}"
            for name, seconds in found.during.cpu.by_name.items()
        ),
        "CPU for one",
        *(f"  {name:39}{1000 * seconds:8.1f} ms" for name, seconds in parts.items()),
        f"  {'its own program, run by itself':39}{1000 * found.program:8.1f} ms",
        f"calls to the engine for one              {sum(found.calls.values()):8.1f}",
        *(f"  {kind:39}{number:8.2f}" for kind, number in sorted(found.calls.items())),
        f"sandboxes whose resource was written     {found.writes:8d}",
        f"CPUs that others took meanwhile          {found.during.cpu.others / found.during.seconds:8.2f}",
        "",
        f"So 100 sandboxes, each every {DEFAULT:.0f} s, would take (by the figures for one; not measured):",
        f"CPU                                      {100 * 100 / DEFAULT * each:8.2f} % of one",
        f"calls to the engine                      {100 / DEFAULT * sum(found.calls.values()):8.2f} /s",
    ]
    return "\n".join(lines)
