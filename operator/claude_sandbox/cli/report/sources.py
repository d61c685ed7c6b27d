"""What a report is made of: the ClaudeSandboxes of a cluster or a file, whether their operator runs, and an earlier
report."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from claude_sandbox.api import meta
from claude_sandbox.cli import sources
from claude_sandbox.cli.report.operators import silence
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS
from claude_sandbox.report.trend import Event
from claude_sandbox.trail.records import MAX_LINE, LineError, read
from claude_sandbox.trail.segments import present

_REPORT_IT = "Give what an earlier claude-sandbox report --output json wrote."


@dataclass(frozen=True)
class Read:
    """ClaudeSandboxes, where they were read, and which they are, as a phrase."""

    documents: tuple[Mapping[str, Any], ...]
    origin: str
    scope: str
    silence: str = ""
    """Why no status counts, since the operator is silent."""
    note: str = ""
    hosts: tuple[Mapping[str, Any], ...] = ()
    """DockerHosts: of a cluster all, or those that the sandboxes are on."""


async def from_cluster(wanted: sources.Wanted, operator_namespace: str) -> Read:
    """What the API server has. Raises UnreadableError."""
    async with sources.reading(wanted) as (api, read):
        silent, note = await silence(api, operator_namespace, datetime.now(UTC))
        hosts, unread = await _hosts(api, read.documents, everything=wanted.everything)
    told = " ".join(filter(None, (note, unread)))
    return Read(read.documents, read.origin, read.scope, silent, told, hosts)


async def _hosts(
    api: Api, sandboxes: Sequence[Mapping[str, Any]], *, everything: bool
) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """The DockerHosts, and why there are none although sandboxes are on some. Not everybody may read them."""
    placed = {_host_of(one) for one in sandboxes} - {""}
    if not placed and not everything:
        return (), ""
    try:
        found = (await api.list(DOCKER_HOSTS)).items
    except ApiError as error:
        if not placed:
            return (), ""
        why = "may not be read" if error.is_forbidden else "can't be read"
        return (), f"Nothing is said of the Docker hosts of these sandboxes: DockerHosts {why}."
    return tuple(one for one in found if everything or one["metadata"]["name"] in placed), ""


def _host_of(sandbox: Mapping[str, Any]) -> str:
    return str(((sandbox.get("status") or {}).get("placement") or {}).get("host") or "")


def from_file(file: str, namespace: str | None) -> Read:
    """What a file has; - is standard input. Raises UnreadableError."""
    read = sources.from_file(file, namespace)
    return Read(read.documents, read.origin, read.scope, hosts=read.hosts)


def trail_of(source: str, takes: Callable[[str, str], bool]) -> Iterator[Event]:
    """What a trail's directory, a file with copied lines, or - for standard input, has of sandboxes that `takes` takes.

    Lines of another log, and such as can't be read, are left out: whether a trail is whole `trail verify` says. Raises
    UnreadableError.
    """
    path = Path(source)
    try:
        files = [str(file) for _, file in present(path)] if source != "-" and path.is_dir() else [source]
        for file in files:
            with click.open_file(file, "rb") as lines:
                while raw := lines.readline(4 * MAX_LINE):
                    if (event := _event(raw)) is not None and takes(event[0], event[1]):
                        yield event[2]
    except OSError as error:
        remedy = "Name the directory of --trail-directory, or a file with copied lines, and read it as who may."
        raise UnreadableError(f"The audit trail {source} can't be read: {error.strerror}.", remedy) from None


def _event(raw: bytes) -> tuple[str, str, Event] | None:
    """The sandbox's namespace, its name, and what happened."""
    start = raw.find(b'{"trail":')
    try:
        if start < 0:
            return None
        line = read(raw[start:].rstrip(b"\r\n"))
        at = datetime.fromisoformat(line.time)
    except (LineError, ValueError):
        return None
    about = line.about
    if about is None or about.object != meta.KIND or at.tzinfo is None:
        return None
    return about.namespace, about.name, Event(at.astimezone(UTC), line.kind, about.uid, line.data)


def earlier(file: str) -> Any:
    """What an earlier report is in JSON. Raises UnreadableError."""
    try:
        return json.loads(sources.text_of(file, file))
    except (ValueError, RecursionError):
        raise UnreadableError(f"{file} is no JSON.", _REPORT_IT) from None
