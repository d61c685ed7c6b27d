"""`claude-sandbox engine`: a Docker Engine of one's own on this machine."""

import json
import sys
import time

import click

from claude_sandbox.cli.columns import columns
from claude_sandbox.cli.exits import Exit
from claude_sandbox.localcluster import engine as local

_name = click.option(
    "--name",
    default="default",
    show_default=True,
    metavar="NAME",
    help="Which engine; several can be up at a time.",
)


@click.group()
def engine() -> None:
    """A Docker Engine of your own on this machine, with no package installed and no rule of the machine's touched.

    It lives in mount and network namespaces of its own, with its own data, and runs containers as any
    Docker Engine does. Whatever speaks to Docker speaks to it by its socket (DOCKER_HOST). Needs root.

    \b
    Examples:
      claude-sandbox engine up                    the newest release, built from source
      claude-sandbox engine up --release 20.10    an old one, from the distribution's packages
      claude-sandbox engine status                what runs, and where it listens
      claude-sandbox engine down                  remove it and its containers without a trace

    The first `up` builds or fetches the programs, which takes some minutes; after that it takes seconds.
    Unless it was brought up with --outside its network leads nowhere: containers reach each other only. A
    published port is in the engine's network (`status` shows how to get there).
    """


@engine.command()
@_name
@click.option(
    "--release",
    type=click.Choice(list(local.RELEASES)),
    help=f"[default: {local.DEFAULT_RELEASE}, or what the engine has]",
)
@click.option(
    "--tls/--no-tls", default=None, help="Listen on a port of 127.0.0.1 as well, for clients with its certificate."
)
@click.option("--live-restore/--no-live-restore", default=None, help="Let containers run on while dockerd doesn't.")
@click.option("--outside/--no-outside", default=None, help="Let containers reach what this machine reaches.")
def up(*, name: str, release: str | None, tls: bool | None, live_restore: bool | None, outside: bool | None) -> None:
    """Bring the engine up, or what is missing of it.

    Where it is up and well nothing changes. What was killed is started again, on the same data. An option
    that is not given stays as the engine has it; a new engine has none of them.
    """
    began = time.monotonic()
    tcp = None if tls is None else local.Tcp.TLS if tls else local.Tcp.NONE
    made = local.up(name, release, tcp=tcp, live_restore=live_restore, outside=outside, say=_report)
    option = "" if name == "default" else f" --name {name}"
    lines = [
        f"The engine {name!r} is up after {time.monotonic() - began:.1f} s: Docker Engine {made.release}",
        f"  use it:    export DOCKER_HOST={made.socket}",
    ]
    if made.endpoint is not None:
        lines.append(
            f"  by TLS:    docker --host {made.endpoint} --tlsverify --tlscacert {made.ca} "
            f"--tlscert {made.client.certificate} --tlskey {made.client.key} info"
        )
    lines += [
        f"  see it:    claude-sandbox engine status{option}",
        f"  remove it: claude-sandbox engine down{option}",
    ]
    click.echo("\n".join(lines))


@engine.command()
@_name
def down(name: str) -> None:
    """Remove the engine without a trace, whatever state it is in: its containers, images and volumes, too.

    Its processes, mounts, control groups and files go; built programs stay in the cache for the next `up`.
    Where there is no such engine nothing happens.
    """
    was_there = local.down(name, _report)
    click.echo(f"The engine {name!r} is gone." if was_there else f"There was no engine {name!r}.")


@engine.command()
@_name
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(name: str, output: str) -> None:
    """Show the engine's programs, and where it listens. Exit code 0: they are well; 1: not, or there is no engine."""
    now = local.status(name)
    click.echo(_as_json(now) if output == "json" else _as_table(now))
    if not now.healthy:
        option = "" if name == "default" else f" --name {name}"
        click.echo(f"Not well. To start what is missing: claude-sandbox engine up{option}", err=True)
        sys.exit(Exit.FAILED)


def _as_table(now: local.EngineStatus) -> str:
    made = now.engine
    rows = [("COMPONENT", "PID", "HEALTHY")]
    rows += [(one.name, "-" if one.pid is None else str(one.pid), "yes" if one.healthy else "no")
             for one in now.components]  # fmt: skip
    said = now.version.get("Version", f"{made.release}, which does not answer")
    listens = ", ".join(filter(None, (made.socket, made.endpoint)))
    return "\n".join(
        [
            f"{made.name}: Docker Engine {said} at {listens}",
            *columns(rows),
            f"Data: {made.data_root}",
            f"In its network, where published ports are: nsenter --net={made.netns} COMMAND",
        ]
    )


def _as_json(now: local.EngineStatus) -> str:
    made = now.engine
    document = {
        "name": made.name,
        "release": made.release,
        "version": now.version.get("Version"),
        "apiVersion": now.version.get("ApiVersion"),
        "socket": made.socket,
        "endpoint": made.endpoint,
        "dataRoot": str(made.data_root),
        "networkNamespace": str(made.netns),
        "cgroup": made.cgroup,
        "healthy": now.healthy,
        "components": [{"name": one.name, "pid": one.pid, "healthy": one.healthy} for one in now.components],
    }
    return json.dumps(document, indent=2)


def _report(line: str) -> None:
    click.echo(line, err=True)
