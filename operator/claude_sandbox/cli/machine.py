"""`claude-sandbox machine`: the control plane and the operator on one Docker machine, for good."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from claude_sandbox.cli.columns import columns
from claude_sandbox.cli.demo import tell
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.gateways import gateway_settings_file
from claude_sandbox.install.errors import SetupError
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.machine import backups, docker, installing, settings, systemd
from claude_sandbox.machine import status as state
from claude_sandbox.machine.installing import BUILT, HOST, InstallOptions
from claude_sandbox.machine.places import Places


@click.group()
def machine() -> None:
    """Sandboxes on this machine's Docker Engine, for good: a control plane and the operator, run by systemd.

    They listen on 127.0.0.1 only, start with the machine, and come back when they end. Afterwards it is
    `kubectl apply --filename sandbox.yaml`. Needs root.

    \b
    Examples:
      claude-sandbox machine install             install it, or upgrade it, or change how it is installed
      claude-sandbox machine status              whether all is well
      claude-sandbox machine backup              a backup now; one is made every day
      claude-sandbox machine renew               certificates; a timer does so every day
      claude-sandbox machine restore FILE        back to what it was then
      claude-sandbox machine uninstall --purge   remove everything
    """


@machine.command()
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="A namespace for sandboxes, which is made and may use this machine's engine; may be repeated."
    " [default: agents]",
)
@click.option(
    "--port",
    type=click.IntRange(1024, 65531),
    help=f"The API server's; the next four are taken, too. [default: {settings.DEFAULT_PORT}]",
)
@click.option("--socket", metavar="PATH", help=f"The Docker Engine's. [default: {settings.DEFAULT_SOCKET}]")
@click.option(
    "--sandbox-image",
    metavar="IMAGE",
    help="What sandboxes without spec.image run: REPOSITORY@sha256:…. [default: the one that is built here]",
)
@click.option(
    "--relay-image",
    metavar="IMAGE",
    help="What brings keys and publishes declared ports: an operator's image. [default: the one that is built here]",
)
@click.option(
    "--gateway-settings",
    callback=gateway_settings_file,
    metavar="FILE",
    help="What holds for the gateways of all sandboxes: see docs/gateway.md. It is copied; {} is for nothing any more.",
)
@click.option("--built-image", is_flag=True, help="The one that is built here again, after another was named.")
@click.option("--install-docker", is_flag=True, help="Where no Docker Engine is there, install the distribution's.")
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Only lay out programs and units below DIR, for a package: no keys, nothing started.",
)
def install(
    *,
    namespaces: tuple[str, ...],
    port: int | None,
    socket: str | None,
    sandbox_image: str | None,
    relay_image: str | None,
    gateway_settings: dict[str, Any] | None,
    built_image: bool,
    install_docker: bool,
    root: Path | None,
) -> None:
    """Install it, upgrade it, or change how it is installed: what is as it should be is left alone.

    Only services are started anew whose program, options or keys have changed. Sandboxes run on meanwhile.
    """
    if built_image and sandbox_image:
        raise click.UsageError("--built-image and --sandbox-image exclude each other.")
    if root is not None and gateway_settings is not None:
        raise click.UsageError("--gateway-settings is for the machine itself: leave it out with --root.")
    image = BUILT if built_image else sandbox_image or None
    wish = InstallOptions(port, socket, image, relay_image or None, tuple(dict.fromkeys(namespaces)), gateway_settings)
    if root is not None:
        installing.lay_out(Places(root.absolute()), wish, _say)
        click.echo(f"Laid out below {root}. On the machine: claude-sandbox machine install")
        return
    _require_root()
    systemd.require()
    places = Places()
    before = settings.load(places)
    _require_engine(socket or (before.socket if before else settings.DEFAULT_SOCKET), install_docker)
    try:
        made = installing.install(places, wish, _say)
    except SetupError as error:
        tell(error)
        sys.exit(Exit.FAILED)
    click.echo(
        f"It runs, and will with each start of this machine. Kubernetes' API is at {made.server}.\n"
        f"  use it:    export KUBECONFIG={places.kubeconfig('admin')} PATH=$PATH:{places.bin}\n"
        f"  see it:    claude-sandbox machine status\n"
        f"  a sandbox: docs/single-machine.md\n"
        f"  remove it: claude-sandbox machine uninstall"
    )


@machine.command()
def status() -> None:
    """Show how everything is. Exit code 0: all is well; 1: it is not, or nothing is installed."""
    _require_root()
    now = state.status(Places(), HOST)
    rows = [("SERVICE", "ACTIVE", "ENABLED", "WELL", "RESTARTS")]
    rows += [
        (one.unit, one.active, "yes" if one.enabled else "no", "yes" if one.well else "no", str(one.restarts))
        for one in now.services
    ]
    newest = now.newest_backup or "none yet; one is made every day, or by `claude-sandbox machine backup`"
    click.echo(
        "\n".join(
            [
                f"Kubernetes' API at {now.server}, kubeconfig {now.kubeconfig}",
                *columns(rows),
                f"DockerHost {HOST}: {now.host}",
                f"Certificates: until {now.certificates_until:%Y-%m-%d}; made anew 30 days before",
                f"Newest backup: {newest}",
            ]
        )
    )
    for problem in now.problems:
        click.echo(problem, err=True)
    if not now.well:
        sys.exit(Exit.FAILED)


@machine.command()
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help=f"[default: {Places().backups}]",
)
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=backups.DEFAULT_KEPT,
    show_default=True,
    help="How many backups are kept there; older ones are removed.",
)
@click.option("--workspaces", is_flag=True, help="With the workspaces and kept homes on this machine's engine.")
def backup(*, directory: Path | None, keep: int, workspaces: bool) -> None:
    """Write a backup: all objects, and the keys without which they can't be read. It is to be kept as secret as they.

    Of sandboxes it has what they are to be. Their workspaces are Docker volumes, of which there is a copy in it with
    --workspaces: it takes as much room again, and what is written to meanwhile is as of some moment.
    """
    _require_root()
    try:
        made = backups.backup(Places(), directory, keep, _say, workspaces=workspaces)
    except SetupError as error:
        tell(error)
        sys.exit(Exit.FAILED)
    also = f", {len(made.workspaces)} volumes of workspaces" if workspaces else ""
    click.echo(f"{made.path}: {made.objects} objects, revision {made.revision}{also}")
    if made.missed:
        click.echo(f"But for these workspaces: {', '.join(made.missed)}", err=True)
        sys.exit(Exit.FAILED)


@machine.command()
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.confirmation_option("--yes", prompt="All objects become what they were then. Go on?", help="Don't ask.")
def restore(archive: Path) -> None:
    """Go back to a backup: on this machine, or, after `install`, on a new one.

    Sandboxes that were there then are taken over where their containers still run, and made anew where not. What was
    made since is unknown again, and its containers are removed. A workspace that the backup has is made again where
    the engine has none of that name; what is there is left as it is.
    """
    _require_root()
    try:
        told = backups.restore(Places(), archive, _say)
    except SetupError as error:
        tell(error)
        sys.exit(Exit.FAILED)
    click.echo(f"All is as it was at {told.created}: {told.objects} objects.")
    if told.missed:
        click.echo(f"But for these workspaces: {', '.join(told.missed)}", err=True)
        sys.exit(Exit.FAILED)


@machine.command()
def renew() -> None:
    """Make certificates anew that are about to expire, and start anew what uses them. A timer does so every day."""
    _require_root()
    systemd.require()
    installing.renew(Places(), _say)


@machine.command()
@click.option(
    "--purge",
    "what",
    flag_value="purge",
    help="Remove everything, the sandboxes first. Workspaces that are to be retained stay, and are named.",
)
@click.option(
    "--keep-data",
    "what",
    flag_value="keep",
    help="Keep keys, objects and backups for another `install`, and the sandboxes as they are.",
)
def uninstall(what: str | None) -> None:
    """Remove it. Asks what is to become of the data unless it is said."""
    _require_root()
    systemd.require()
    if what is None:
        if not sys.stdin.isatty():
            raise click.UsageError("Say --purge or --keep-data.")
        purge = click.confirm("Remove the sandboxes, all objects, keys and backups, too?", default=False)
        what = "purge" if purge else "keep"
    places = Places()
    try:
        if what == "purge":
            installing.uninstall(places, _say)
            click.echo("Everything is removed.")
        else:
            installing.uninstall_keeping(places, _say)
            click.echo(f"Removed. {places.config} and {places.data} stay, and sandboxes go on as they are.")
    except SetupError as error:
        tell(error)
        sys.exit(Exit.FAILED)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LocalClusterError("Only root can do this.", "Run it with sudo.")


def _require_engine(socket: str, install_docker: bool) -> None:
    """That an engine is there, installed now if that is wanted. Raises LocalClusterError."""
    if Path(socket).is_socket():
        return
    if docker.can_install():
        if not install_docker and sys.stdin.isatty():
            install_docker = click.confirm(
                f"There is no Docker Engine at {socket}. Install the distribution's now (apt-get install docker.io)?"
            )
        if install_docker:
            docker.install(_say)
            return
    raise LocalClusterError(
        f"There is no Docker Engine at {socket}.",
        "Install one (Debian, Ubuntu: --install-docker, or apt-get install docker.io; others:"
        " https://docs.docker.com/engine/install), or name its socket with --socket.",
    )


def _say(line: str) -> None:
    click.echo(line, err=True)
