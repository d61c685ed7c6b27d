"""`claude-sandbox incident drill`: whether incidents go as they should here, and how long each takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from claude_sandbox.api.clip import plain
from claude_sandbox.cli.incident.drilling import Drilled, drill_of_host
from claude_sandbox.cli.incident.drilling import drill as drilled
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.options import work
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS

GOT_OUT = 3
"""The exit code where something went on that should not have."""


@click.command()
@click.option("--backend", type=click.Choice(["Kubernetes", "Docker"]), default="Kubernetes", show_default=True,
              help="Where the drill's sandbox runs.")  # fmt: skip
@click.option("--docker-host", metavar="NAME", help="The DockerHost that it is placed on; by default any it may use.")
@click.option("--delivery", type=click.Choice(["Brokered", "Mounted"]), help="How it has its key, as in a spec.")
@click.option("--compromised-host", is_flag=True,
              help="Declare --docker-host compromised too, and lift that. It must have no other sandbox.")  # fmt: skip
@click.option("--runs", metavar="N", type=click.IntRange(1, 1000), default=1, show_default=True,
              help="How often; of several the 50th and 99th percentiles are shown.")  # fmt: skip
@click.option("--timeout", metavar="SECONDS", type=click.IntRange(1, 3600), default=120, show_default=True,
              help="How long to wait for each thing.")  # fmt: skip
@where_options
def drill(
    backend: str,
    docker_host: str | None,
    delivery: str | None,
    compromised_host: bool,
    runs: int,
    timeout: int,
    where: Where,
) -> None:
    """Run each incident on a sandbox of the drill's own, and tell how long each took and whether anything got out.

    In the sandbox a program is at work that ignores signals, writes without end, and gives signs of life; on Kubernetes
    a NetworkPolicy allows it everything. All of it goes in the end. Evidence stays, as of any quarantine, and counts
    for the namespace's 16 archives a day. It takes the rights to create sandboxes and Secrets, to work in a sandbox,
    and to lift incidents.

    \b
      claude-sandbox incident drill -n drills
      claude-sandbox incident drill -n drills --backend Docker --docker-host spare --compromised-host
    """
    if docker_host and backend != "Docker":
        raise click.UsageError("--docker-host belongs to --backend Docker")
    if compromised_host and not docker_host:
        raise click.UsageError("--compromised-host needs --docker-host")
    place: dict[str, Any] = {"type": backend}
    place |= {"hostRef": {"name": docker_host}} if docker_host else {}
    spec: dict[str, Any] = {"backend": place} if backend == "Docker" else {}
    spec |= {"credentials": {"delivery": delivery}} if delivery else {}
    work(lambda: _drill(spec, docker_host if compromised_host else None, runs, timeout, where))


async def _drill(spec: Mapping[str, Any], host: str | None, runs: int, patience: int, where: Where) -> int:
    found: list[Drilled] = []
    async with connected(where) as (api, default):
        namespace = where.namespace or default
        if host is not None:
            await _must_be_empty(await api.get(DOCKER_HOSTS, host), host)
        for _ in range(runs):
            one = await drilled(api, namespace, spec, where, patience)
            if host is not None:
                of_host = await drill_of_host(api, namespace, spec, host, patience)
                one.seconds |= of_host.seconds
                one.got_out += of_host.got_out
            found.append(one)
            click.echo(f"Drill on ClaudeSandbox {plain(one.name)}: {'; '.join(map(plain, one.notes))}.")
    for line in told(found):
        click.echo(line)
    return GOT_OUT if any(one.got_out for one in found) else 0


async def _must_be_empty(live: Mapping[str, Any], host: str) -> None:
    there = int((live.get("status") or {}).get("sandboxes") or 0)
    if there:
        raise WorkError(
            f"DockerHost {host} has {there} sandboxes, whose keys would be used no more.",
            "Drill on a host that has none.",
        )


def told(found: Sequence[Drilled]) -> list[str]:
    """What is shown: of each thing how long it took, and what got out."""
    names = list(dict.fromkeys(name for one in found for name in one.seconds))
    width = max(map(len, names), default=0)
    lines = [f"  {'':<{width}}  {'p50':>8}  {'p99':>8}"] if len(found) > 1 else []
    for name in names:
        times = sorted(one.seconds[name] for one in found if name in one.seconds)
        shown = [times[0]] if len(found) == 1 else [percentile(times, 50), percentile(times, 99)]
        lines.append(f"  {name:<{width}}  " + "  ".join(f"{one:6.2f} s" for one in shown))
    out = [f"{one.name}: {what}" for one in found for what in one.got_out]
    lines += [f"  GOT OUT: {plain(one)}" for one in out] or ["  Nothing went on after it was said to be contained."]
    return lines


def percentile(times: Sequence[float], share: int) -> float:
    """By nearest rank, of what is sorted."""
    return times[max(0, -(-len(times) * share // 100) - 1)]
