"""What probing costs on a real node: as many sandboxes as it holds, probed as often as a thousand would be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.bench import account, probes
from tests.bench.lab import namespace, node_lab, operator_kubeconfig
from tests.bench.load import Slow
from tests.bench.objects import is_ready, sandbox
from tests.bench.process import Operator
from tests.bench.scenarios import Bench

from claude_sandbox.install.manifests import NAMESPACE, OPERATOR, PROBES
from claude_sandbox.kubernetes_api.resources import SANDBOXES
from claude_sandbox.localcluster import ports
from claude_sandbox.localcluster.images import build_image

Report = Callable[[str], None]

SPACES = tuple(f"agents-{number}" for number in range(8))
"""No namespace has more than a share of the probes that are at work at a time, so that it takes several."""
# What a sandbox may have at least: they do nothing.
_SMALL = {"cpu": "100m", "memory": "256Mi", "ephemeralStorage": "64Mi"}
_WITHIN = 1800.0
_AT_ONCE = 4
"""Sandboxes that start at a time."""


async def measure(
    count: int, interval: float, seconds: float, directory: Path, description: str, report: Report
) -> probes.Probed:
    """Needs root. Raises LocalClusterError, OperatorEnded, Slow."""
    sandboxes = await asyncio.to_thread(build_image, "sandbox", report)
    operators = await asyncio.to_thread(build_image, "operator", report)
    async with node_lab(directory, (sandboxes, operators), report) as here:
        for name in SPACES:
            await namespace(here, name)
        kubeconfig = await operator_kubeconfig(here)
        await account.count_separately(here.api, OPERATOR, NAMESPACE)

        @contextlib.asynccontextmanager
        async def begin(every: float) -> AsyncIterator[Bench]:
            (port,) = ports.allocate("bench-operator", ("operator",), ()).values()
            options = (
                f"--gateway-image={operators.pinned}",
                f"--pod-probe-interval={every:g}",
                f"--probe-control-namespace={PROBES}",
            )
            log = directory / "operator.log"
            operator = Operator(kubeconfig, NAMESPACE, port, log, sandboxes.pinned, options)
            try:
                async with account.Accountant(here.api, here.credentials) as accountant:
                    await operator.start()
                    yield Bench(here, operator, accountant)
            finally:
                await operator.stop()

        return await probes.measure(
            begin,
            count,
            interval,
            seconds,
            f"{description}; a node with containerd",
            report,
            fill=_fill,
            namespaces=SPACES,
            pretended=False,
        )


async def _fill(bench: Bench, count: int) -> None:
    """A few at a time: a node that starts all at once is busy with that for longer."""
    line = iter(range(count))

    async def worker() -> None:
        for number in line:
            space, name = SPACES[number % len(SPACES)], f"stay-{number}"
            body = sandbox(space, name)
            body["spec"]["resources"] = _SMALL
            await bench.lab.api.create(SANDBOXES, body, space)
            while not is_ready(await bench.lab.api.get(SANDBOXES, name, space)):  # noqa: ASYNC110
                await asyncio.sleep(1)

    try:
        async with asyncio.timeout(_WITHIN):
            await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    except TimeoutError:
        raise Slow(f"not all sandboxes were ready within {_WITHIN:.0f} s") from None
