"""What probing costs on Kubernetes: the operator's CPU and requests, and what it writes of sandboxes that do not
change. Pretended nodes run no program, so what stands for the kubelet says what one would have found. On a real node
programs run, in as many sandboxes as it holds, and what their probes cost it is measured as well."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from tests.bench.load import Slow
from tests.bench.objects import IMAGE
from tests.bench.scenarios import AGENTS, AtRest, Bench, at_rest, sandboxes

from claude_sandbox.api import meta
from claude_sandbox.compliance.reports.isolation import PROOF
from claude_sandbox.install.manifests import PROBES
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import PODS, SANDBOXES
from claude_sandbox.kubernetes_api.unstructured import Object
from claude_sandbox.probe import VERSION
from claude_sandbox.probe.kernel import ATTEMPTS

Report = Callable[[str], None]
Fill = Callable[[Bench, int], Awaitable[None]]

GOAL = (1000, 600.0)
"""So many sandboxes, each probed every so many seconds."""
_LOOK = 0.25


def options(interval: float) -> tuple[str, ...]:
    """Of the operator."""
    return (
        f"--gateway-image={IMAGE}",
        f"--pod-probe-interval={interval:g}",
        f"--probe-control-namespace={PROBES}",
    )


@dataclass
class Kubelets:
    """What counts the pods of probes, and `pretends`, where nothing runs them: then it ends them, and says that all is
    denied, whatever was asked for."""

    api: Api
    pretends: bool
    namespaces: tuple[str, ...]
    probes: int = 0
    controls: int = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        done: set[str] = set()
        while True:
            for where in (*self.namespaces, PROBES):
                for pod in (await self.api.list(PODS, where)).items:
                    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
                    control = where == PROBES
                    if uid not in done and (control or name.startswith(meta.PROBE_PREFIX)):
                        done.add(uid)
                        self.controls += control
                        self.probes += not control
                        if self.pretends:
                            await self._end(pod)
            await asyncio.sleep(_LOOK)

    async def _end(self, pod: Object) -> None:
        asked = orjson.loads(pod["spec"]["containers"][0]["args"][0])["targets"]
        attempts = [["self", "connected", "", 0]]
        attempts += [[one["name"], "connected" if one["allowed"] else "timeout", "", 3000] for one in asked]
        kernel = [[name, "denied", "EPERM"] for name in ATTEMPTS]
        told = {"version": VERSION, "attempts": attempts, "open": 0, "kernel": kernel, "strict": []}
        message = orjson.dumps(told).decode()
        ended = {"name": "probe", "image": IMAGE, "imageID": IMAGE, "ready": False, "restartCount": 0}
        ended["state"] = {"terminated": {"exitCode": 0, "message": message}}
        status = {"phase": "Succeeded", "containerStatuses": [ended]}
        with contextlib.suppress(ApiError):
            await self.api.patch_status(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"], status)


@dataclass(frozen=True)
class Probed:
    """What was measured. `before`: the same sandboxes, not probed."""

    description: str
    count: int
    interval: float
    probes: int
    controls: int
    before: AtRest
    during: AtRest

    @property
    def cpu_of_one(self) -> float:
        """The operator's CPU seconds for a probe, without what it takes at rest."""
        rest = self.before.cpu.by_name["operator"] / self.before.seconds * self.during.seconds
        return max(0.0, self.during.cpu.by_name["operator"] - rest) / max(1, self.probes)

    def shares(self) -> Iterator[tuple[str, float, float]]:
        """Of each process the percentage of a CPU that it took with probes, and without."""
        for name, seconds in self.during.cpu.by_name.items():
            before = self.before.cpu.by_name.get(name, 0.0) / self.before.seconds
            yield name, 100 * seconds / self.during.seconds, 100 * before

    @property
    def rate(self) -> float:
        """Probes a second."""
        return self.probes / self.during.seconds

    @property
    def status_writes(self) -> int:
        """Of sandboxes that do not change."""
        return self.during.account.operator.get("patch-sandbox-status", 0)

    @property
    def requests(self) -> dict[str, float]:
        """For one probe, by kind, but Leases and what is asked at rest as well."""
        found = {}
        for kind, number in self.during.account.operator.items():
            rest = self.before.account.operator.get(kind, 0) / self.before.seconds * self.during.seconds
            if kind != "lease":
                found[kind] = max(0.0, number - rest) / max(1, self.probes)
        return found

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "cpuOfOne": self.cpu_of_one, "requests": self.requests, "rate": self.rate}


async def measure(
    begin: Callable[[float], contextlib.AbstractAsyncContextManager[Bench]],
    count: int,
    interval: float,
    seconds: float,
    description: str,
    report: Report,
    *,
    fill: Fill | None = None,
    namespaces: tuple[str, ...] = (AGENTS,),
    pretended: bool = True,
) -> Probed:
    """`begin` starts an operator that probes each so many seconds; 0: never. `fill`: makes so many sandboxes in these
    namespaces. Raises Slow, OperatorEnded."""
    async with begin(0) as bench:
        report(f"{count} sandboxes, to stay, and {seconds:.0f} s at rest without probes.")
        if fill is None:
            await sandboxes(bench, count, None, "stay", keep=True)
        else:
            await fill(bench, count)
        before = await at_rest(bench, seconds)
    async with begin(interval) as bench, _ending(Kubelets(bench.lab.api, pretended, namespaces)) as kubelets:
        report("Until each was probed.")
        await _proven(bench, count, namespaces)
        # What was found is still being said of the last ones.
        await asyncio.sleep(15)
        probes, controls = kubelets.probes, kubelets.controls
        report(f"{seconds:.0f} s, each probed every {interval:.0f} s.")
        during = await at_rest(bench, seconds, quieted=False)
        return Probed(
            description, count, interval, kubelets.probes - probes, kubelets.controls - controls, before, during
        )


@contextlib.asynccontextmanager
async def _ending(kubelets: Kubelets) -> AsyncIterator[Kubelets]:
    task = asyncio.create_task(kubelets.run())
    try:
        yield kubelets
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _proven(bench: Bench, count: int, namespaces: tuple[str, ...], within: float = 1800.0) -> None:
    """Wait until each was probed. Raises Slow, OperatorEnded."""

    async def proven() -> int:
        bench.operator.must_run()
        lists = [await bench.lab.api.list(SANDBOXES, one) for one in namespaces]
        return sum(_is_proven(live) for listed in lists for live in listed.items)

    try:
        async with asyncio.timeout(within):
            while await proven() < count:  # noqa: ASYNC110
                await asyncio.sleep(2)
    except TimeoutError:
        raise Slow(f"not all were probed within {within:.0f} s") from None


def _is_proven(live: Object) -> bool:
    groups = ((live.get("status") or {}).get("compliance") or {}).get("passed") or ()
    return any(PROOF in group["controls"] for group in groups)


def page(found: Probed) -> str:
    """For people."""
    many, each = GOAL
    rate = many / each
    calls = sum(found.requests.values())
    lines = [
        found.description,
        "",
        f"{found.count} sandboxes at rest, each probed every {found.interval:.0f} s, for {found.during.seconds:.0f} s:",
        f"probes                                   {found.probes:8d}",
        f"probes a second (asked for: {found.count / found.interval:5.2f})       {found.rate:8.2f}",
        "CPU meanwhile, in percent of one, and before it, without probes",
        *(f"  {name:39}{during:8.2f}{before:8.2f}" for name, during, before in found.shares()),
        f"pods that were their control             {found.controls:8d}",
        f"the operator's CPU for one               {1000 * found.cpu_of_one:8.1f} ms",
        f"its requests for one                     {calls:8.1f}",
        *(f"  {kind:39}{number:8.2f}" for kind, number in sorted(found.requests.items()) if number >= 0.005),
        f"writes of a status                       {found.status_writes:8d}",
        "",
        f"By the figures for one, {many} sandboxes, each every {each:.0f} s, take:",
        f"the operator's CPU                       {100 * rate * found.cpu_of_one:8.2f} % of one",
        f"its requests                             {rate * calls:8.2f} /s",
    ]
    return "\n".join(lines)
