"""`claude-sandbox cp`."""

import re
from dataclasses import dataclass
from pathlib import Path

import click

from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.activity import kept_active
from claude_sandbox.cli.work.copying import Copied, Limits, copy_in, copy_out
from claude_sandbox.cli.work.options import place_of, sandbox_named, size_option, work

_REMOTE = re.compile(r"([a-z0-9][-a-z0-9]*(?:/[a-z0-9][-a-z0-9]*)?):(.*)", re.DOTALL)


@dataclass(frozen=True)
class Remote:
    """A path in a sandbox."""

    sandbox: str
    path: str


def _end(text: str) -> Remote | Path:
    found = _REMOTE.fullmatch(text)
    return Path(text) if found is None else Remote(found[1], found[2])


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@size_option("10Gi", "Of what is copied from a sandbox, at most.")
@where_options
def cp(source: str, destination: str, max_size: int, where: Where) -> None:
    """Copy a file or a directory into a sandbox, or out of one.

    One of SOURCE and DESTINATION is NAME:PATH or NAMESPACE/NAME:PATH, a path in a sandbox, beginning in its workspace
    unless it begins with a slash. The other is a path here; one with a colon begins with ./ or /.

    \b
      claude-sandbox cp agents/alice:report.md .
      claude-sandbox cp agents/alice:/workspace/src ./alice-src
      claude-sandbox cp ./data agents/alice:

    A directory is copied under its own name into one that is there. What was not copied whole is not there at all. From
    a sandbox come files, directories and links inside of what is copied; other links, devices and the like are left
    out and told. What you copy was written by the agent: look at it before you run it, and don't run git in a copy
    with a .git of its own, which says what git runs (claude-sandbox diff shows changes without it).
    """
    ends = (_end(source), _end(destination))
    match ends:
        case (Remote() as remote, Path() as here):
            work(lambda: _out(remote, here, where, Limits(max_size)))
        case (Path() as here, Remote() as remote):
            work(lambda: _in(here, remote, where))
        case _:
            raise click.UsageError("One of SOURCE and DESTINATION is in a sandbox (NAME:PATH), and the other one here.")


async def _out(remote: Remote, here: Path, where: Where, limits: Limits) -> int:
    found = place_of(sandbox_named(remote.sandbox, where), where)
    async with found as (place, target), kept_active(target, where):
        return _tell(await copy_out(place, remote.path, here, target.directory, limits))


async def _in(here: Path, remote: Remote, where: Where) -> int:
    found = place_of(sandbox_named(remote.sandbox, where), where)
    async with found as (place, target), kept_active(target, where):
        return _tell(await copy_in(place, here, remote.path, target.directory))


def _tell(copied: Copied) -> int:
    for line in copied.left_out[:10]:
        click.echo(f"left out: {line}", err=True)
    if copied.left_out_count > 10:
        click.echo(f"left out: {copied.left_out_count - 10} more", err=True)
    if copied.warnings:
        click.echo(f"The copy may not be of one moment: {copied.warnings}", err=True)
    return 1 if copied.warnings else 0
