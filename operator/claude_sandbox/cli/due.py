"""`claude-sandbox due`: what of sandboxes and Docker hosts is due to be renewed, or ends, sorted by date."""

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from pydantic import ValidationError

from claude_sandbox.api import meta
from claude_sandbox.api.status_fields.due import DueDate, DueSubject
from claude_sandbox.cli.columns import columns
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.report.operators import silence
from claude_sandbox.cli.report.sources import Read, from_file
from claude_sandbox.cli.sources import Wanted, check_usage, file_among, reading
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.install.manifests import NAMESPACE
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS

_ENDS_BY_ITSELF = frozenset({DueSubject.LIFETIME})
"""What nobody has to do anything about."""


@dataclass(frozen=True)
class Line:
    """Something of one sandbox, or of one DockerHost, that has a date. A DockerHost has no namespace."""

    namespace: str
    name: str
    date: DueDate

    @property
    def of(self) -> str:
        """What it is of, for people."""
        return f"{self.namespace}/{self.name}" if self.namespace else f"{meta.HOST_KIND} {self.name}"

    def is_due(self, now: datetime) -> bool:
        """Whether somebody should have acted by now."""
        return self.date.at <= now and self.date.what not in _ENDS_BY_ITSELF


_HELP = """What of sandboxes is due, sorted by date: images and keys that have become old, exceptions that end, and
sandboxes that do. Dates are what the operator wrote into the sandboxes' statuses (spec.due says after what time).
With -A also certificates of DockerHosts, 30 days before they end, for who may list these.

SANDBOX is NAME or NAMESPACE/NAME; without any, all of the namespace. FILE is what kubectl wrote, as JSON or YAML, or -
for standard input; what is a file here is read as one.

\b
  claude-sandbox due                    of the context's namespace
  claude-sandbox due agents/alice       of one sandbox
  claude-sandbox due -A --within 30     of the cluster, within 30 days
  kubectl get claudesandboxes -A -o json | claude-sandbox due -
"""


@click.command(help=_HELP)
@click.argument("sources", nargs=-1, metavar="[SANDBOX|FILE]...")
@click.option("--namespace", "-n", metavar="NAME", help="[default: the context's; of a file, all]")
@click.option("--all-namespaces", "-A", "everything", is_flag=True, help="Every sandbox of the cluster.")
@click.option(
    "--within", type=click.IntRange(0, 36500), metavar="DAYS", help="Only what is due by then. [default: all]"
)
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How.")
@click.option("--kubeconfig", metavar="FILE", help="[default: as kubectl]")
@click.option("--context", metavar="NAME", help="[default: the current one]")
def due(
    sources: tuple[str, ...],
    namespace: str | None,
    everything: bool,
    within: int | None,
    output: str,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Read, print, and exit by what is due."""
    file = file_among(sources)
    check_usage("due", sources, file, namespace, everything=everything)
    try:
        if file is not None:
            read = from_file(file, namespace)
        else:
            read = asyncio.run(_from_cluster(Wanted(sources, namespace, everything, kubeconfig, context)))
    except UnreadableError as error:
        click.echo(error.told(), err=True)
        sys.exit(Exit.UNREADABLE)
    now = datetime.now(UTC)
    until = None if within is None else now + timedelta(days=within)
    found = [one for one in lines(read.documents) if until is None or one.date.at <= until]
    click.echo(_as_json(found, now) if output == "json" else _as_table(found, read, now))
    for note in filter(None, (read.silence, read.note)):
        click.echo(f"Note: {note}", err=True)
    sys.exit(Exit.FAILED if any(one.is_due(now) for one in found) else Exit.DONE)


async def _from_cluster(wanted: Wanted) -> Read:
    """Sandboxes, and of the whole cluster DockerHosts too. Raises UnreadableError."""
    async with reading(wanted) as (api, read):
        silent, note = await silence(api, NAMESPACE, datetime.now(UTC))
        hosts: list[dict[str, Any]] = []
        if wanted.everything:
            try:
                hosts = (await api.list(DOCKER_HOSTS)).items
            except ApiError as error:
                # Where there are none there is no such kind; and they are an administrator's.
                if not error.is_not_found:
                    note = " ".join(filter(None, (note, f"DockerHosts could not be read: {error}.")))
    return Read((*read.documents, *hosts), read.origin, read.scope, silent, note)


def lines(documents: Iterable[Mapping[str, Any]]) -> list[Line]:
    """What has a date, the earliest first."""
    found = [line for one in documents for line in _of(one)]
    return sorted(found, key=lambda line: (line.date.at, line.namespace, line.name, line.date.what, line.date.name))


def _of(document: Mapping[str, Any]) -> Iterator[Line]:
    metadata, status = document.get("metadata") or {}, document.get("status") or {}
    for one in status.get("due") or ():
        try:
            date = DueDate.model_validate_json(json.dumps(one))
        except (ValidationError, TypeError):
            # Of a newer operator, or of a file that somebody wrote.
            continue
        yield Line(str(metadata.get("namespace", "")), str(metadata.get("name", "")), date)


def _as_table(found: list[Line], read: Read, now: datetime) -> str:
    if not found:
        return f"Nothing has a date ({read.scope})."
    head = ("DATE", "DUE", "SANDBOX", "WHAT", "WHAT TO DO")
    rows = [
        (
            line.date.at.strftime("%Y-%m-%d"),
            "yes" if line.is_due(now) else "",
            line.of,
            f"{line.date.what} {line.date.name}".strip(),
            line.date.message,
        )
        for line in found
    ]
    return "\n".join(columns([head, *(tuple(map(_plain, row)) for row in rows)]))


def _as_json(found: list[Line], now: datetime) -> str:
    return json.dumps(
        [
            {"namespace": line.namespace, "sandbox" if line.namespace else "host": line.name, "due": line.is_due(now)}
            | line.date.model_dump(mode="json", by_alias=True)
            for line in found
        ],
        indent=2,
    )


def _plain(text: str) -> str:
    """Without what moves a terminal's cursor."""
    return "".join(one if one.isprintable() else " " for one in text)
