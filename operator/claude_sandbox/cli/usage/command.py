"""`claude-sandbox usage`: reads statuses, and shows what sandboxes have used of the model."""

import asyncio
import json
import sys
from datetime import UTC, datetime

import click

from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.sources import Read, Wanted, check_usage, file_among, from_file, reading
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.cli.usage.output import document, tables
from claude_sandbox.cli.usage.reading import Order, sandboxes

_HELP = """What ClaudeSandboxes have used of the model, what is left of their budgets, and what they were denied, as
their statuses say it: once a minute at most, by what their gateways count and the gateway's table of prices.

SANDBOX is NAME or NAMESPACE/NAME; without any, all of the namespace. FILE is what kubectl wrote, as JSON or YAML, or -
for standard input; what is a file here is read as one.

\b
  claude-sandbox usage agents/alice
  claude-sandbox usage -A --sort budget
  claude-sandbox usage -A -o json | jq -r '.sandboxes[] | [.name, .used.costUSD] | @tsv'
  kubectl get claudesandboxes -A -o json | claude-sandbox usage -

Each request by itself, as the gateway wrote it down, is shown by `claude-sandbox audit`.
"""


@click.command(help=_HELP)
@click.argument("sources", nargs=-1, metavar="[SANDBOX|FILE]...", shell_complete=sandbox_names)
@click.option("--namespace", "-n", metavar="NAME", help="[default: the context's; of a file, all]")
@click.option("--all-namespaces", "-A", "everything", is_flag=True, help="Every sandbox of the cluster.")
@click.option(
    "--sort",
    "order",
    type=click.Choice([each.value for each in Order]),
    default=Order.COST.value,
    show_default=True,
    help="What has the most of it first; budget: what has spent the largest part.",
)
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--kubeconfig", metavar="FILE", help="[default: as kubectl]")
@click.option("--context", metavar="NAME", help="[default: the current one]")
def usage(
    sources: tuple[str, ...],
    namespace: str | None,
    everything: bool,
    order: str,
    output: str,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Read and print."""
    file = file_among(sources)
    check_usage("usage", sources, file, namespace, everything=everything)
    if file is not None and (kubeconfig or context):
        raise click.UsageError("--kubeconfig and --context are for a cluster, not for a file")
    try:
        read = (
            from_file(file, namespace)
            if file is not None
            else asyncio.run(_from_cluster(Wanted(sources, namespace, everything, kubeconfig, context)))
        )
    except UnreadableError as error:
        click.echo(error.told(), err=True)
        sys.exit(Exit.UNREADABLE)
    now = datetime.now(UTC)
    found = sandboxes(read.documents, Order(order), now)
    click.echo(
        json.dumps(document(found, read.scope, now), indent=2) if output == "json" else "\n".join(tables(found, now))
    )


async def _from_cluster(wanted: Wanted) -> Read:
    async with reading(wanted) as (_, read):
        return read
