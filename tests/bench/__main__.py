"""Run with `python -m tests.bench`, from the repository's root."""

import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tests.bench import account, scenarios
from tests.bench.lab import Lab, lab, namespace, operator_kubeconfig
from tests.bench.load import Slow
from tests.bench.page import page
from tests.bench.process import Operator, OperatorEnded
from tests.bench.results import FASTEST, SLOW, Pair, Results
from tests.bench.scenarios import AGENTS, FLOOR, Bench

from claude_sandbox.demo.installation import NAMESPACE, OPERATOR
from claude_sandbox.localcluster import ports
from claude_sandbox.localcluster.errors import LocalClusterError

RATES: dict[str, float | None] = {SLOW: 20, "40/s": 40, FASTEST: None}

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    count: int
    repeats: int
    population: int
    healed: int
    rest: float
    nodes: int


@click.command()
@click.option("--quick", is_flag=True, help="Once instead of three times, and one minute at rest instead of ten.")
@click.option("--count", default=300, show_default=True, help="Sandboxes for each rate.")
@click.option("--repeats", type=int, help="How often each rate is measured.")
@click.option("--population", default=1000, show_default=True, help="Sandboxes at rest.")
@click.option("--healed", default=200, show_default=True, help="NetworkPolicies that are deleted.")
@click.option("--rest", type=float, metavar="SECONDS", help="How long nothing happens.")
@click.option("--nodes", default=20, show_default=True, help="Pretended nodes.")
@click.option("--output", type=click.Path(path_type=Path), help="Write all figures to this file, as JSON.")
def main(
    quick: bool,
    count: int,
    repeats: int | None,
    population: int,
    healed: int,
    rest: float | None,
    nodes: int,
    output: Path | None,
) -> None:
    """Measure the operator on a control plane of its own with pretended nodes, against raw pods in the same run.

    A goal that is missed is printed, and is no failure.
    """
    plan = Plan(
        count,
        repeats or (1 if quick else 3),
        population,
        min(healed, population),
        rest or (60.0 if quick else 600.0),
        nodes,
    )
    # As on Ctrl-C: nothing may stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="claude-sandbox-bench-") as directory:
        os.environ["XDG_STATE_HOME"] = directory
        try:
            results = asyncio.run(_measure(plan, Path(directory)))
        except (LocalClusterError, OperatorEnded, Slow) as error:
            click.echo(f"Error: {error}", err=True)
            _show_end(Path(directory) / "operator.log")
            sys.exit(1)
    click.echo(page(results))
    if output is not None:
        output.write_text(json.dumps(results.document(), indent=2, ensure_ascii=False) + "\n")


async def _measure(plan: Plan, directory: Path) -> Results:
    started = time.monotonic()

    def report(line: str) -> None:
        click.echo(f"[{time.monotonic() - started:5.0f} s] {line}", err=True)

    async with lab(directory, plan.nodes, report) as place:
        operator = await _operator(place)
        try:
            async with account.Accountant(place.api, place.credentials) as accountant:
                await account.count_separately(place.api, OPERATOR, NAMESPACE)
                report("Starting the operator.")
                await operator.start()
                return await _scenarios(plan, Bench(place, operator, accountant), report)
        finally:
            await operator.stop()


async def _operator(place: Lab) -> Operator:
    for name in (FLOOR, AGENTS):
        await namespace(place, name)
    kubeconfig = await operator_kubeconfig(place)
    (port,) = ports.allocate("bench-operator", ("operator",), ()).values()
    return Operator(kubeconfig, NAMESPACE, port, place.directory / "operator.log")


async def _scenarios(plan: Plan, bench: Bench, report: Report) -> Results:
    machine = _machine(plan)
    await scenarios.raw_pods(bench, 20, 10, "warm-up")
    await scenarios.sandboxes(bench, 20, 10, "warm-up")
    pairs: dict[str, list[Pair]] = {name: [] for name in RATES}
    for repeat in range(plan.repeats):
        for name, rate in RATES.items():
            report(f"{plan.count} raw pods, then as many sandboxes, {name} ({repeat + 1} of {plan.repeats}).")
            run = f"{name.partition('/')[0]}-{repeat}"
            floor = await scenarios.raw_pods(bench, plan.count, rate, run)
            pairs[name].append(Pair(floor, await scenarios.sandboxes(bench, plan.count, rate, run)))
    report(f"{plan.population} sandboxes, to stay.")
    filled = await scenarios.sandboxes(bench, plan.population, None, "stay", keep=True)
    conditions = await scenarios.conditions(bench)
    report(f"Deleting {plan.healed} NetworkPolicies.")
    healed = await scenarios.policies_deleted(bench, plan.healed)
    report(f"{plan.rest:.0f} s at rest.")
    at_rest = await scenarios.at_rest(bench, plan.rest)
    report("Restarting the operator.")
    restarted = await scenarios.restart(bench, plan.population)
    return Results(machine, pairs, filled, conditions, healed, at_rest, restarted)


def _machine(plan: Plan) -> dict[str, Any]:
    cpus = os.cpu_count() or 0
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}"
    description = (
        f"{cpus} CPUs, {memory:.0f} GiB, everything on it: load, operator ({python}), API server, etcd without fsync, "
        f"controllers, {plan.nodes} pretended nodes"
    )
    return {"description": description, "cpus": cpus, "memoryGiB": round(memory, 1), "load": os.getloadavg()[0]}


def _show_end(log: Path) -> None:
    if log.exists():
        lines = log.read_text(errors="replace").splitlines()[-10:]
        click.echo("\n".join(["The end of the operator's log:", *lines]), err=True)


if __name__ == "__main__":
    main()
