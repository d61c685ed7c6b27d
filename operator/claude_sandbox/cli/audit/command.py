"""`claude-sandbox audit`: finds what gateways wrote, and shows what was asked for of it."""

import asyncio
import re
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import click

from claude_sandbox.api.spec import BackendType
from claude_sandbox.cli.audit import containers, pods
from claude_sandbox.cli.audit.files import Reader
from claude_sandbox.cli.audit.lines import VERDICTS, Filter
from claude_sandbox.cli.audit.output import Output
from claude_sandbox.cli.audit.sandboxes import Audited, endpoint_of, find
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.local.engine_address import AddressError, engine_address
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.cli.values import since
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import CredentialsError, load

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SANDBOX = re.compile(f"(?:({_LABEL})/)?({_LABEL})")


@click.command()
@click.argument("source", metavar="SANDBOX|FILE")
@click.option("--verdict", "verdicts", multiple=True, type=click.Choice(VERDICTS), help="May be repeated.")
@click.option("--sandbox", "sandboxes", multiple=True, metavar="NAME", help="NAME, NAMESPACE/NAME or UID; repeatable.")
@click.option("--since", "after", metavar="AGE", callback=since, help="From then on: 10m, 2h, 7d, or a time.")
@click.option("--domain", "domains", multiple=True, metavar="PATTERN", help="Where it went: github.com, *.example.org.")
@click.option("--model", "models", multiple=True, metavar="PATTERN", help="Requests for these: claude-opus-*.")
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--summary", is_flag=True, help="Sums instead of lines: verdicts, tokens, cost, and what was refused.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Rows of each table of the summary.")
@click.option("--follow", "-f", is_flag=True, help="Go on as more is written, until Ctrl-C.")
@where_options
def audit(
    source: str,
    verdicts: tuple[str, ...],
    sandboxes: tuple[str, ...],
    after: datetime | None,
    domains: tuple[str, ...],
    models: tuple[str, ...],
    output: str,
    summary: bool,
    top: int,
    follow: bool,
    where: Where,
) -> None:
    """What sandboxes asked their gateway for: each request to the model, each tunnel, and what became of it.

    SANDBOX is the name of a ClaudeSandbox, or NAMESPACE/NAME. On Kubernetes the logs of its namespace's gateways are
    read, on Docker that of the gateway beside it, by the engine that its DockerHost names. FILE is what a gateway wrote
    to its standard output, or - for standard input; what is a file here is read as one.

    \b
      claude-sandbox audit agents/alice --follow
      claude-sandbox audit agents/alice --verdict Refused --since 1h
      claude-sandbox audit gateway.log --summary
      kubectl logs deployment/… --all-pods | claude-sandbox audit -

    --summary says of each refused destination which line of the ClaudeSandbox would allow it.
    """
    if follow and source == "-":
        raise click.UsageError("Standard input is read to its end anyway: leave --follow out.")
    if follow and summary:
        raise click.UsageError("A summary needs an end: leave --follow or --summary out.")
    wanted = Filter(
        frozenset(verdicts), frozenset(sandboxes), after, tuple(one.lower().rstrip(".") for one in domains), models
    )
    shown = Output(wanted, as_json=output == "json", summary=summary, top=top)
    named = _sandbox(source, where.namespace)
    with suppress(KeyboardInterrupt):
        if named is None:
            _of_file(source, shown, follow=follow)
            return
        try:
            _of_sandbox(named, where, shown, after, follow=follow)
        except UnreadableError as error:
            click.echo(error.told(), err=True)
            sys.exit(Exit.UNREADABLE)


def _sandbox(source: str, namespace: str | None) -> tuple[str, str] | None:
    """Namespace (empty: not said) and name, where it is no file."""
    found = _SANDBOX.fullmatch(source)
    if namespace is not None:
        if found is None or found[1] not in (None, namespace):
            raise click.UsageError(f"{source!r} is not the name of a ClaudeSandbox in namespace {namespace}")
        return namespace, found[2]
    return None if found is None or Path(source).exists() else (found[1] or "", found[2])


def _of_file(source: str, shown: Output, *, follow: bool) -> None:
    reader = Reader()
    for line in reader.lines(source, follow=follow):
        shown.take(line)
    shown.end()
    reader.tell(source)


def _of_sandbox(named: tuple[str, str], where: Where, shown: Output, after: datetime | None, *, follow: bool) -> None:
    """Raises UnreadableError."""
    found = asyncio.run(_read(named, where, shown, after, follow=follow))
    if found is None:
        return
    sandbox, endpoint = found
    try:
        address = engine_address(endpoint, where.tls)
    except AddressError as error:
        raise click.UsageError(f"{error}") from None
    for line in containers.lines(address, sandbox, after, follow=follow):
        shown.take(line)
    shown.end()


async def _read(
    named: tuple[str, str], where: Where, shown: Output, after: datetime | None, *, follow: bool
) -> tuple[Audited, str] | None:
    """Show what gateways on Kubernetes wrote; where it is on Docker, the sandbox and its engine's endpoint."""
    try:
        credentials = await asyncio.to_thread(load, where.kubeconfig, where.context)
    except CredentialsError as error:
        raise UnreadableError(f"{error}.", "Name the cluster with --kubeconfig, or a file to read.") from None
    async with Api(credentials) as api:
        sandbox = await find(api, named[0] or credentials.namespace, named[1])
        if sandbox.backend is BackendType.DOCKER:
            return sandbox, where.host or await endpoint_of(api, sandbox)
        if where.host or where.tls.given:
            raise click.UsageError(f"ClaudeSandbox {sandbox} is on Kubernetes: leave --host and --tls… out.")
        async for line in pods.lines(api, sandbox, after, follow=follow):
            shown.take(line)
        shown.end()
    return None
