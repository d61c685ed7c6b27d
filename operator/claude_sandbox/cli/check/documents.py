"""`claude-sandbox check --inspect`: what `docker inspect` printed, as a file or on standard input."""

import codecs
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.cli.check.options import Options
from claude_sandbox.cli.check.reports import Report
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.compliance.containers import inspected
from claude_sandbox.compliance.containers.inspected import DocumentError
from claude_sandbox.compliance.evidence.containers import DockerEvidence
from claude_sandbox.compliance.evidence.readings import Object, Reading
from claude_sandbox.compliance.reports import containers as docker

_REMEDY = "Write it with: docker inspect NAME > FILE"


def of_documents(file: str, options: Options) -> list[Report]:
    """A report for each container in the file; `-` is standard input. Raises UnreadableError."""
    text, observed_at = _read(file)
    try:
        found = inspected.parse(text)
    except DocumentError as error:
        raise UnreadableError(f"{_called(file)}: {error}.") from None
    now = datetime.now(UTC)
    return [
        Report(
            target=target_of(container),
            findings=docker.findings(
                DockerEvidence(
                    declared=options.declared,
                    container=Reading(container, EvidenceSource.INSPECT, observed_at),
                    now=now,
                    networks=found.networks,
                    volumes=found.volumes,
                )
            ),
            evaluated_at=now,
            file="" if file == "-" else file,
        )
        for container in found.containers
    ]


def target_of(container: Object) -> dict[str, str]:
    """What a report calls a container."""
    identifier, name = container.get("Id"), container.get("Name")
    target = {"kind": "Container", "name": str(name).lstrip("/") if name else str(identifier)[:12]}
    return target | ({"id": str(identifier)} if identifier else {})


def _read(file: str) -> tuple[str, datetime]:
    """The text, and when what it says was so at the latest: a saved document is as old as its file."""
    if file == "-":
        if sys.stdin.isatty():
            raise click.UsageError("nothing is piped in: docker inspect NAME | claude-sandbox check --inspect -")
        content, seen = sys.stdin.buffer.read(), datetime.now(UTC)
    else:
        try:
            content, seen = Path(file).read_bytes(), datetime.fromtimestamp(Path(file).stat().st_mtime, UTC)
        except OSError as error:
            raise UnreadableError(f"{file} can't be read: {error.strerror}.", _REMEDY) from None
    # PowerShell writes what is redirected to a file so.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8"), seen
    except UnicodeDecodeError:
        raise UnreadableError(f"{_called(file)} is not text.", _REMEDY) from None


def _called(file: str) -> str:
    return "standard input" if file == "-" else file
