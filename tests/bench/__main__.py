"""Run with `python -m tests.bench`, from the repository's root."""

import asyncio
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tests.bench import account, deliveries, probes, probes_on_node, resumes, scenarios
from tests.bench import backups as storing
from tests.bench import incidents as incident_drills
from tests.bench import trail as audit_trail
from tests.bench.gateway import speed, speed_page
from tests.bench.git import page as cloning_page
from tests.bench.git import ready as cloned
from tests.bench.git import speed as cloning
from tests.bench.lab import Lab, lab, namespace, operator_kubeconfig
from tests.bench.load import Slow
from tests.bench.objects import IMAGE
from tests.bench.on_docker import probes as probes_on_docker
from tests.bench.on_docker import run as on_docker
from tests.bench.page import page
from tests.bench.process import Operator, OperatorEnded
from tests.bench.results import FASTEST, SLOW, Pair, Results
from tests.bench.scenarios import AGENTS, FLOOR, Bench

from claude_sandbox.install.manifests import NAMESPACE, OPERATOR
from claude_sandbox.localcluster import engine, ports
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
@click.option("--docker", is_flag=True, help="Sandboxes on a Docker host instead. Needs root.")
@click.option("--gateway", is_flag=True, help="The gateway instead, beside Envoy, mitmproxy and Smokescreen.")
@click.option("--git", "clones", is_flag=True, help="Clones by the gateway instead, beside direct ones.")
@click.option("--repositories", is_flag=True, help="Create to Ready with one, beside a plain pod's. Needs root.")
@click.option("--trail", is_flag=True, help="What a record of the audit trail costs instead.")
@click.option("--backups", is_flag=True, help="What storing a workspace takes instead, beside restic alone.")
@click.option("--probes", "probed", is_flag=True, help="What probing costs instead; with --docker on a Docker host.")
@click.option("--node", "on_a_node", is_flag=True, help="With --probes: on a real node. Needs root.")
@click.option("--interval", type=float, metavar="SECONDS", help="With --probes: between two of a sandbox.")
@click.option("--deliveries", "compared", is_flag=True, help="Create to Ready with a gateway and without, in turn.")
@click.option("--resumes", "resumed", is_flag=True, help="A suspended sandbox until it is Ready, beside a new one.")
@click.option("--incidents", is_flag=True, help="How long it takes until an incident is contained, by drills.")
@click.option("--large", is_flag=True, help="With --git: a repository of a gigabyte as well; with --backups: 5 GB.")
@click.option("--release", default=engine.DEFAULT_RELEASE, show_default=True, help="Of the Docker Engine.")
@click.option("--count", type=int, help="Sandboxes for each rate. [default: 300; with --docker 20]")
@click.option("--repeats", type=int, help="How often each rate is measured.")
@click.option("--population", type=int, help="Sandboxes at rest. [default: 1000; with --docker 200]")
@click.option("--healed", default=200, show_default=True, help="NetworkPolicies that are deleted.")
@click.option("--rest", type=float, metavar="SECONDS", help="How long nothing happens.")
@click.option("--nodes", default=20, show_default=True, help="Pretended nodes.")
@click.option("--output", type=click.Path(path_type=Path), help="Write all figures to this file, as JSON.")
def main(
    quick: bool,
    docker: bool,
    gateway: bool,
    clones: bool,
    repositories: bool,
    trail: bool,
    backups: bool,
    probed: bool,
    on_a_node: bool,
    interval: float | None,
    compared: bool,
    resumed: bool,
    incidents: bool,
    large: bool,
    release: str,
    count: int | None,
    repeats: int | None,
    population: int | None,
    healed: int,
    rest: float | None,
    nodes: int,
    output: Path | None,
) -> None:
    """Measure the operator on a control plane of its own with pretended nodes, against raw pods in the same run; with
    --docker on a real Docker Engine, against raw containers; with --gateway what the gateway costs, with --deliveries
    what it costs a sandbox that comes to be, with --git what it does to a clone, with --repositories what it and all
    else cost a sandbox that clones; with --trail what a record of the audit trail costs; with --backups what storing a
    workspace takes, beside restic alone; with --probes what it costs to try what sandboxes can reach. With --resumes
    how long a suspended sandbox takes until it is Ready, beside a new one; with --incidents how long it takes to
    contain one, on a real node or, with --docker, on a real engine.

    A goal that is missed is printed, and is no failure.
    """
    if (docker or incidents or repositories or on_a_node) and os.geteuid() != 0:
        raise click.ClickException("a Docker Engine and a node can only be started by root")
    rest = rest or (60.0 if quick else 600.0)
    population = population or (1000 if not docker else 30 if quick else 200)
    plan = Plan(count or 300, repeats or (1 if quick else 3), population, min(healed, population), rest, nodes)
    sizes = on_docker.Sizes(release, count or 20, population, rest)
    # As on Ctrl-C: nothing may stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="claude-sandbox-bench-") as directory:
        os.environ["XDG_STATE_HOME"] = directory
        try:
            if gateway:
                measured = _of_the_gateway(quick, Path(directory))
            elif repositories:
                measured = _of_repositories(quick, Path(directory))
            elif trail or backups:
                measured = _of_the_trail() if trail else _of_backups(quick, large, repeats, Path(directory))
            elif probed:
                where = release if docker else "" if on_a_node else None
                rest = rest if quick or interval else min(rest, 300.0)
                measured = _of_probes(where, count, interval, rest, plan.nodes, Path(directory))
            elif clones:
                measured = _of_clones(quick, large, Path(directory))
            elif resumed:
                measured = _of_resumes(docker, release, count, plan.nodes, Path(directory))
            elif incidents:
                measured = _of_incidents(docker, release, count or 20, Path(directory))
            elif compared:
                measured = _of_deliveries(docker, release, count, plan.nodes, Path(directory))
            else:
                measured = _on_docker(sizes, Path(directory)) if docker else _measure(plan, Path(directory))
            text, figures = asyncio.run(measured)
        except (LocalClusterError, OperatorEnded, Slow) as error:
            click.echo(f"Error: {error}", err=True)
            _show_end(Path(directory) / "operator.log")
            sys.exit(1)
    click.echo(text)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def _reporter() -> Report:
    started = time.monotonic()

    def report(line: str) -> None:
        click.echo(f"[{time.monotonic() - started:5.0f} s] {line}", err=True)

    return report


async def _of_clones(quick: bool, large: bool, directory: Path) -> tuple[str, dict[str, Any]]:
    machine = _with_load()
    found = await cloning.measure(
        directory, cloning.Sizes((100, 1024) if large else (100,), 1 if quick else 6), _reporter()
    )
    return cloning_page.page(found, machine), cloning_page.document(found, machine)


async def _of_repositories(quick: bool, directory: Path) -> tuple[str, dict[str, Any]]:
    machine = _with_load()
    found = await cloned.measure(directory, 100, 2 if quick else 7, _reporter())
    return cloned.page(found, machine), cloned.document(found, machine)


async def _of_the_trail() -> tuple[str, dict[str, Any]]:
    machine = _with_load()
    found = await asyncio.to_thread(audit_trail.measured)
    return audit_trail.page(found, machine), {"machine": machine, **found}


async def _of_backups(quick: bool, large: bool, repeats: int | None, directory: Path) -> tuple[str, dict[str, Any]]:
    machine = _with_load()
    rounds = repeats or (1 if quick else 3 if large else 6)
    sizes = storing.Sizes(100_000, 50_000, rounds) if large else storing.Sizes(rounds=rounds)
    found = await asyncio.to_thread(storing.measure, directory, sizes, _reporter())
    return storing.page(found, machine), {"machine": machine, **found}


def _with_load() -> str:
    load = os.getloadavg()[0]
    return f"{_hardware()}, everything on it: client, servers and what is between. Load before: {load:.2f}"


async def _of_the_gateway(quick: bool, directory: Path) -> tuple[str, dict[str, Any]]:
    machine = _with_load()
    sizes = speed.Sizes(requests=100, rounds=1, megabytes=128) if quick else speed.Sizes()
    found = await speed.measure(directory, sizes, _reporter())
    return speed_page.page(found, machine), speed_page.document(found, machine)


async def _of_deliveries(
    docker: bool, release: str, count: int | None, nodes: int, directory: Path
) -> tuple[str, dict[str, Any]]:
    report, machine = _reporter(), _with_load()
    if docker:
        found = await deliveries.on_docker(release, count or 20, directory, machine, report)
    else:
        async with lab(directory, nodes, report) as place:
            operator = await _operator(place, f"--gateway-image={IMAGE}")
            try:
                await operator.start()
                found = await deliveries.on_kubernetes(place, count or 200, 10, machine, report)
            finally:
                await operator.stop()
    return deliveries.page(found), found.document()


async def _of_probes(
    release: str | None, count: int | None, interval: float | None, rest: float, nodes: int, directory: Path
) -> tuple[str, dict[str, Any]]:
    """On an engine of a release, on a real node where that is empty, else on pretended nodes."""
    report, machine = _reporter(), _with_load()
    if release is None:
        return await _of_pretended_probes(count, interval, rest, nodes, directory)
    if not release:
        of_node = await probes_on_node.measure(count or 60, interval or 36, rest, directory, machine, report)
        return probes.page(of_node), of_node.document()
    every = interval or rest / 4
    on_a_host = await probes_on_docker.measure(release, count or 15, every, rest, directory, machine, report)
    return probes_on_docker.page(on_a_host), on_a_host.document()


async def _of_pretended_probes(
    count: int | None, every: float | None, rest: float, nodes: int, directory: Path
) -> tuple[str, dict[str, Any]]:
    report, machine = _reporter(), _with_load()
    async with lab(directory, nodes, report) as place:
        for name in (FLOOR, AGENTS):
            await namespace(place, name)
        kubeconfig = await operator_kubeconfig(place)
        await account.count_separately(place.api, OPERATOR, NAMESPACE)

        @contextlib.asynccontextmanager
        async def begin(interval: float) -> AsyncIterator[Bench]:
            (port,) = ports.allocate("bench-operator", ("operator",), ()).values()
            log = place.directory / "operator.log"
            operator = Operator(kubeconfig, NAMESPACE, port, log, options=probes.options(interval))
            try:
                async with account.Accountant(place.api, place.credentials) as accountant:
                    await operator.start()
                    yield Bench(place, operator, accountant)
            finally:
                await operator.stop()

        found = await probes.measure(begin, count or 100, every or rest, rest, machine, report)
    return probes.page(found), found.document()


async def _of_resumes(
    docker: bool, release: str, count: int | None, nodes: int, directory: Path
) -> tuple[str, dict[str, Any]]:
    report, machine = _reporter(), _with_load()
    if docker:
        found = await resumes.on_docker(release, count or 20, directory, machine, report)
    else:
        async with lab(directory, nodes, report) as place:
            operator = await _operator(place, f"--gateway-image={IMAGE}")
            try:
                await operator.start()
                found = await resumes.on_kubernetes(place, count or 50, machine, report)
            finally:
                await operator.stop()
    return resumes.page(found), found.document()


async def _of_incidents(docker: bool, release: str, count: int, directory: Path) -> tuple[str, dict[str, Any]]:
    report, machine = _reporter(), _with_load()
    if docker:
        found = await incident_drills.on_docker(release, count, directory, machine, report)
    else:
        found = await incident_drills.on_kubernetes(count, directory, machine, report)
    return incident_drills.page(found), found.document()


async def _on_docker(sizes: on_docker.Sizes, directory: Path) -> tuple[str, dict[str, Any]]:
    description = f"{_hardware()}, everything on it: load, operator, API server, etcd without fsync, engine"
    results = await on_docker.measure(sizes, directory, description, _reporter())
    return on_docker.page(results), results.document()


async def _measure(plan: Plan, directory: Path) -> tuple[str, dict[str, Any]]:
    report = _reporter()
    async with lab(directory, plan.nodes, report) as place:
        operator = await _operator(place)
        try:
            async with account.Accountant(place.api, place.credentials) as accountant:
                await account.count_separately(place.api, OPERATOR, NAMESPACE)
                report("Starting the operator.")
                await operator.start()
                results = await _scenarios(plan, Bench(place, operator, accountant), report)
        finally:
            await operator.stop()
    return page(results), results.document()


async def _operator(place: Lab, *options: str) -> Operator:
    for name in (FLOOR, AGENTS):
        await namespace(place, name)
    kubeconfig = await operator_kubeconfig(place)
    (port,) = ports.allocate("bench-operator", ("operator",), ()).values()
    return Operator(kubeconfig, NAMESPACE, port, place.directory / "operator.log", options=options)


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


def _hardware() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count() or 0} CPUs, {memory:.0f} GiB"


def _machine(plan: Plan) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}"
    description = (
        f"{_hardware()}, everything on it: load, operator ({python}), API server, etcd without fsync, "
        f"controllers, {plan.nodes} pretended nodes"
    )
    load = os.getloadavg()[0]
    return {"description": description, "cpus": os.cpu_count() or 0, "memoryGiB": round(memory, 1), "load": load}


def _show_end(log: Path) -> None:
    if log.exists():
        lines = log.read_text(errors="replace").splitlines()[-10:]
        click.echo("\n".join(["The end of the operator's log:", *lines]), err=True)


if __name__ == "__main__":
    main()
