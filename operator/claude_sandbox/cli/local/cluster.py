"""`claude-sandbox cluster`: a Kubernetes of one's own on this machine."""

import json
import os
import sys
import time
from pathlib import Path

import click

from claude_sandbox.cli.columns import columns
from claude_sandbox.cli.exits import Exit
from claude_sandbox.localcluster import cluster as local
from claude_sandbox.localcluster import logs as local_logs
from claude_sandbox.localcluster import status as local_status
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.programs import toolchain
from claude_sandbox.localcluster.programs.tools import DEFAULT_KUBERNETES, KUBERNETES_RELEASES

_name = click.option(
    "--name",
    default="default",
    show_default=True,
    metavar="NAME",
    help="Which cluster; several can be up at a time.",
)


@click.group()
def cluster() -> None:
    """A Kubernetes cluster of your own on this machine, from source, with no container engine and no image registry.

    It comes in two sizes. The control plane (etcd and kube-apiserver) is enough to try resources and
    controllers, and any user can have it. With a node (--node, as root) it runs pods, and enforces
    NetworkPolicies.

    \b
    Examples:
      claude-sandbox cluster up                       the control plane
      claude-sandbox cluster up --node                and a node that runs pods
      claude-sandbox cluster status                   what runs, and whether it is well
      claude-sandbox cluster kubectl get namespaces   kubectl, pointed at the cluster
      claude-sandbox cluster logs kube-apiserver -f   what a component has to say
      claude-sandbox cluster down                     remove it without a trace

    The first `up` builds the programs, which takes some minutes; after that it takes seconds.
    """


@cluster.command()
@_name
@click.option("--node", is_flag=True, help="Add a node that runs pods, and the controllers. Needs root.")
@click.option("--controllers", is_flag=True, help="Add kube-controller-manager and kube-scheduler without a node.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The API server's port. [default: a free one, kept while it is up]"
)
@click.option(
    "--kubernetes-version",
    type=click.Choice(list(KUBERNETES_RELEASES)),
    help=f"[default: {DEFAULT_KUBERNETES}, or what the cluster has]",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the kubeconfig to this new file too; `down` removes it again.",
)
@click.option("--ipv6", is_flag=True, help="Addresses of IPv6 alone. A node reaches nothing but this machine then.")
@click.option("--unsafe-no-fsync", is_flag=True, help="Faster, but data may be lost if the machine crashes. For tests.")
def up(
    *,
    name: str,
    node: bool,
    controllers: bool,
    port: int | None,
    kubernetes_version: str | None,
    kubeconfig: Path | None,
    ipv6: bool,
    unsafe_no_fsync: bool,
) -> None:
    """Bring the cluster up, or what is missing of it.

    Where it is up and well nothing changes. What was killed is started again, on the same ports and data.
    What a cluster has stays: --node adds a node to a cluster that had none, and a later `up` without it
    keeps the node.
    """
    began = time.monotonic()
    made = local.up(
        name,
        version=kubernetes_version,
        node=node,
        controllers=controllers,
        port=port,
        fsync=not unsafe_no_fsync,
        copy=kubeconfig,
        ipv6=ipv6,
        report=_report,
    )
    option = "" if name == "default" else f" --name {name}"
    click.echo(
        f"The cluster {name!r} is up after {time.monotonic() - began:.1f} s: "
        f"Kubernetes {made.version} at {made.server}\n"
        f"  use it:    export KUBECONFIG={kubeconfig or made.kubeconfig}\n"
        f"  see it:    claude-sandbox cluster status{option}\n"
        f"  remove it: claude-sandbox cluster down{option}"
    )


@cluster.command()
@_name
def down(name: str) -> None:
    """Remove the cluster without a trace, whatever state it is in.

    Its processes, mounts, interfaces, rules and files go; built programs stay in the cache for the next `up`.
    Where there is no such cluster nothing happens.
    """
    was_there = local.down(name, _report)
    click.echo(f"The cluster {name!r} is gone." if was_there else f"There was no cluster {name!r}.")


@cluster.command()
@_name
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(name: str, output: str) -> None:
    """Show the cluster's components. Exit code 0: all of them are well; 1: they are not, or there is no cluster."""
    now = local_status.status(name)
    click.echo(_as_json(now) if output == "json" else _as_table(now))
    if not now.healthy:
        option = "" if name == "default" else f" --name {name}"
        click.echo(f"Not well. To start what is missing: claude-sandbox cluster up{option}", err=True)
        sys.exit(Exit.FAILED)


@cluster.command()
@_name
@click.argument("component", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until interrupted.")
@click.option(
    "--tail", type=click.IntRange(min=-1), default=100, show_default=True, help="Lines of each log; -1 for all."
)
def logs(name: str, component: str | None, follow: bool, tail: int) -> None:
    """Print the end of COMPONENT's log, or of every component's, each line with its component's name."""
    lines = local_logs.logs(name, component, tail=None if tail < 0 else tail, follow=follow)
    try:
        for line in lines:
            click.echo(line.text if component else f"{line.component}: {line.text}")
    except KeyboardInterrupt:
        # The way to end --follow.
        return


@cluster.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(name: str, arguments: tuple[str, ...]) -> None:
    """Run kubectl against the cluster (it is fetched where there is none on PATH)."""
    layout = Layout.of(name)
    local.require(layout)
    program = str(toolchain.kubectl(_report))
    os.execve(program, [program, *arguments], {**os.environ, "KUBECONFIG": str(layout.kubeconfig)})  # noqa: S606


def _as_table(now: local_status.ClusterStatus) -> str:
    rows = [("COMPONENT", "PID", "HEALTHY", "VERSION", "ENDPOINT")]
    for one in now.components:
        pid = "-" if one.pid is None else str(one.pid)
        rows.append((one.name, pid, "yes" if one.healthy else "no", one.version or "-", one.endpoint or "-"))
    head = f"{now.name}: Kubernetes {now.kubernetes_version} at {now.server}, kubeconfig {now.kubeconfig}"
    return "\n".join([head, *columns(rows)])


def _as_json(now: local_status.ClusterStatus) -> str:
    document = {
        "name": now.name,
        "kubernetesVersion": now.kubernetes_version,
        "server": now.server,
        "kubeconfig": str(now.kubeconfig),
        "healthy": now.healthy,
        "components": [
            {
                "name": one.name,
                "pid": one.pid,
                "healthy": one.healthy,
                "version": one.version or None,
                "endpoint": one.endpoint or None,
            }
            for one in now.components
        ],
    }
    return json.dumps(document, indent=2)


def _report(line: str) -> None:
    click.echo(line, err=True)
