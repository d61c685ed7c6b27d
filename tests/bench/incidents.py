"""How long it takes until an incident is contained, by drills with somebody at work in the sandbox: on a real engine,
or on a real node, where a tenant's policy allows the sandbox everything."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import Latency
from tests.bench.lab import may_read_logs, namespace, node_lab, operator_kubeconfig
from tests.bench.on_docker.place import AGENTS, place
from tests.bench.process import Operator

from claude_sandbox.cli.incident.drilling import Drilled, drill
from claude_sandbox.cli.local.engine_address import Tls
from claude_sandbox.cli.where import Where
from claude_sandbox.install.manifests import NAMESPACE
from claude_sandbox.localcluster import ports
from claude_sandbox.localcluster.images import build_image

Report = Callable[[str], None]

CONTAINED = "Quarantined: contained"
GOALS = {"Docker": 1.0, "Kubernetes": 2.0}
"""Seconds within which it is contained, of 99 in a hundred."""
_PATIENCE = 120.0
_DRILLS = "drills"


@dataclass(frozen=True)
class Incidents:
    """Of each thing how long it took, and what got out. `backend`: Docker or Kubernetes."""

    description: str
    backend: str
    by_thing: Mapping[str, Latency]
    got_out: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON. Seconds."""
        return dataclasses.asdict(self)


async def on_docker(release: str, count: int, directory: Path, description: str, report: Report) -> Incidents:
    """On an engine, each with a program in it that gives nothing up. Raises LocalClusterError, OperatorEnded."""
    spec = {"backend": {"type": "Docker"}}
    async with place(directory, release, report) as here:
        where = Where(AGENTS, str(here.kubeconfig), None, f"unix://{here.made.socket_path}", Tls())
        found = []
        for number in range(count):
            report(f"Drill {number + 1} of {count}.")
            found.append(await drill(here.api, AGENTS, spec, where, _PATIENCE))
    return _of(found, f"{description}; Docker Engine {release}", "Docker")


async def on_kubernetes(count: int, directory: Path, description: str, report: Report) -> Incidents:
    """On a node of its own, with the operator's own account. Raises LocalClusterError, OperatorEnded."""
    sandbox = await asyncio.to_thread(build_image, "sandbox", report)
    operators = await asyncio.to_thread(build_image, "operator", report)
    async with node_lab(directory, (sandbox, operators), report) as here:
        await namespace(here, _DRILLS)
        await may_read_logs(here)
        kubeconfig = await operator_kubeconfig(here)
        (port,) = ports.allocate("bench-operator", ("operator",), ()).values()
        options = (f"--gateway-image={operators.pinned}",)
        operator = Operator(kubeconfig, NAMESPACE, port, directory / "operator.log", sandbox.pinned, options)
        where = Where(_DRILLS, str(here.cluster.kubeconfig), None, None, Tls())
        try:
            await operator.start()
            found = []
            for number in range(count):
                report(f"Drill {number + 1} of {count}.")
                found.append(await drill(here.api, _DRILLS, {}, where, _PATIENCE))
        finally:
            await operator.stop()
    return _of(found, f"{description}; a node with containerd", "Kubernetes")


def _of(found: list[Drilled], description: str, backend: str) -> Incidents:
    names = dict.fromkeys(name for one in found for name in one.seconds)
    times = {name: sorted(one.seconds[name] for one in found if name in one.seconds) for name in names}
    return Incidents(
        description,
        backend,
        {name: Latency.of(each) for name, each in times.items()},
        tuple(what for one in found for what in one.got_out),
    )


def page(found: Incidents) -> str:
    """For people."""
    return "\n".join([found.description, "", *_rows(found)])


def _rows(found: Incidents) -> Iterator[str]:
    yield f"{'From the request to the status, in ms':52}{'count':>8}{'p50':>8}{'p99':>8}{'longest':>10}"
    for name, of in found.by_thing.items():
        figures = "".join(f"{1000 * value:8.0f}" for value in (of.p50, of.p99))
        yield f"{name:52}{of.count:8}{figures}{1000 * of.longest:10.0f}"
    goal, p99 = GOALS[found.backend], found.by_thing[CONTAINED].p99
    kept = "kept" if p99 < goal else "MISSED"
    yield f"Contained, p99: {p99:.3f} s. The goal of {goal:.0f} s is {kept}."
    yield f"Got out: {'; '.join(found.got_out) or 'nothing'}."
