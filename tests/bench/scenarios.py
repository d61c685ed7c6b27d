"""What is measured, one function for each question. All times in seconds, memory in bytes."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench import load
from tests.bench.account import Account, Accountant
from tests.bench.figures import Latency
from tests.bench.lab import Lab
from tests.bench.machine import Cpu, CpuMeter, Memory, cpu_seconds, forget_peak, memory
from tests.bench.objects import is_ready, raw_pod, sandbox
from tests.bench.process import Operator

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.resources import NETWORK_POLICIES, PODS, SANDBOXES, SERVICE_ACCOUNTS, Resource

FLOOR, AGENTS = "floor", "agents"

_DELETIONS_AT_ONCE = 32


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    lab: Lab
    operator: Operator
    accountant: Accountant

    def meter(self) -> CpuMeter:
        """CPU from now on, of the operator and of everything that it keeps busy."""
        return CpuMeter(self.lab.pids | {"operator": self.operator.pid})


@dataclass(frozen=True)
class Created:
    """What became of a number of objects that were created."""

    rate: float | None
    """Objects a second that were asked for; None: as fast as it went."""
    latency: Latency
    per_second: float
    """Ready, from the first request until the last was ready."""
    lag: float
    """By how much at most the load was behind its schedule."""
    cpu: Cpu
    requests: Mapping[str, int]
    """The operator's, by kind."""

    @property
    def seconds(self) -> float:
        """From the first request until the last was ready."""
        return self.latency.count / self.per_second


async def raw_pods(bench: Bench, count: int, rate: float | None, run: str) -> Created:
    """The floor: raw pods, gone again afterwards."""
    bodies = [raw_pod(FLOOR, f"{run}-{number}") for number in range(count)]
    result = await _created(bench, PODS, bodies, rate)
    await _remove(bench, PODS, FLOOR)
    return result


async def sandboxes(bench: Bench, count: int, rate: float | None, run: str, *, keep: bool = False) -> Created:
    """Sandboxes, gone again afterwards unless they are to be kept."""
    bodies = [sandbox(AGENTS, f"{run}-{number}") for number in range(count)]
    result = await _created(bench, SANDBOXES, bodies, rate)
    if not keep:
        await _remove(bench, SANDBOXES, AGENTS)
    return result


async def _created(
    bench: Bench, resource: Resource, bodies: Sequence[Mapping[str, Any]], rate: float | None
) -> Created:
    before, meter = await bench.accountant.read(), bench.meter()
    run = await load.create(bench.lab.api, resource, bodies, rate=rate, ready=is_ready)
    cpu = meter.read()
    await quiet(bench)
    requests = (await bench.accountant.read()).since(before).operator
    return Created(rate, Latency.of(run.latencies), run.per_second, run.lag, cpu, requests)


async def quiet(bench: Bench, seconds: float = 3.0, within: float = 120.0) -> None:
    """Wait until nothing but Leases was written for so long. Raises TimeoutError."""
    async with asyncio.timeout(within):
        last, since = await bench.accountant.read(), time.monotonic()
        while time.monotonic() - since < seconds:
            await asyncio.sleep(0.5)
            now = await bench.accountant.read()
            if set(now.since(last).written) - {"leases"}:
                since = time.monotonic()
            last = now


async def _remove(bench: Bench, resource: Resource, namespace: str) -> None:
    api = bench.lab.api
    line = iter([live["metadata"]["name"] for live in (await api.list(resource, namespace)).items])

    async def worker() -> None:
        for name in line:
            await api.delete(resource, name, namespace, grace_seconds=0 if resource is PODS else None)

    await asyncio.gather(*(worker() for _ in range(_DELETIONS_AT_ONCE)))
    async with asyncio.timeout(600):
        for kind in (resource, PODS, NETWORK_POLICIES, SERVICE_ACCOUNTS):
            while any(map(_is_childs, (await api.list(kind, namespace)).items)):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
    await quiet(bench)


def _is_childs(live: Mapping[str, Any]) -> bool:
    return live["metadata"]["name"] not in ("default", meta.BASELINE_POLICY)


async def conditions(bench: Bench) -> Mapping[str, int]:
    """How many sandboxes have which condition, as `Compliant=True`: whether what was measured was the real thing."""
    found = (await bench.lab.api.list(SANDBOXES, AGENTS)).items
    each = (condition for live in found for condition in live["status"]["conditions"])
    return dict(Counter(f"{condition['type']}={condition['status']}" for condition in each))


@dataclass(frozen=True)
class Healed:
    """How long it took until deleted NetworkPolicies were there again."""

    latency: Latency
    requests: Mapping[str, int]


async def policies_deleted(bench: Bench, count: int, rate: float = 10.0) -> Healed:
    """Delete the policies of so many sandboxes; from each request until the watch shows a new policy."""
    api = bench.lab.api
    sandboxes = (await api.list(SANDBOXES, AGENTS)).items[:count]
    names = [meta.child_name(live["metadata"]["name"]) for live in sandboxes]
    asked: dict[str, float] = {}
    arrivals = load.Arrivals(lambda live: live["metadata"]["name"] in asked)

    async def one(name: str) -> None:
        asked[name] = time.perf_counter()
        await api.delete(NETWORK_POLICIES, name, AGENTS)

    before = await bench.accountant.read()
    async with load.watching(api, NETWORK_POLICIES, AGENTS, arrivals.take):
        await load.at_rate(one, names, rate)
        await arrivals.all_of(names, 120)
    await quiet(bench)
    requests = (await bench.accountant.read()).since(before).operator
    return Healed(Latency.of([arrivals.seen[name] - asked[name] for name in names]), requests)


@dataclass(frozen=True)
class AtRest:
    """The operator while nothing happens."""

    seconds: float
    memory: Memory
    cpu: Cpu
    account: Account
    reconciles: int


async def at_rest(bench: Bench, seconds: float, *, quieted: bool = True) -> AtRest:
    """Look on for so long. `quieted`: once nothing is written any more, which is never where sandboxes are probed."""
    if quieted:
        await quiet(bench, 10)
    forget_peak(bench.operator.pid)
    before, meter = await bench.accountant.read(), bench.meter()
    start, reconciles = time.monotonic(), await bench.operator.reconciles()
    await asyncio.sleep(seconds)
    account, cpu = (await bench.accountant.read()).since(before), meter.read()
    reconciles = await bench.operator.reconciles() - reconciles
    return AtRest(time.monotonic() - start, memory(bench.operator.pid), cpu, account, reconciles)


@dataclass(frozen=True)
class Restarted:
    """A new process of the operator and everything that is there already."""

    stopped: float
    """Until the old process had ended."""
    leading: float
    """From the start of the new process until it led."""
    observed: float
    """From the start of the new process until it had looked at every sandbox."""
    account: Account
    cpu: float
    """Seconds of CPU that the new process took until then."""
    memory: Memory


async def restart(bench: Bench, count: int) -> Restarted:
    """Stop the operator as its pod is stopped, and start it again beside `count` sandboxes."""
    before = await bench.accountant.read()
    stop = time.perf_counter()
    await bench.operator.stop()
    start = time.perf_counter()
    await bench.operator.start()
    leading = time.perf_counter()
    observed = await bench.operator.observed(count, 300)
    cpu = cpu_seconds(bench.operator.pid)
    await quiet(bench)
    account = (await bench.accountant.read()).since(before)
    return Restarted(start - stop, leading - start, observed - start, account, cpu, memory(bench.operator.pid))
