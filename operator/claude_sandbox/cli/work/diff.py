"""`claude-sandbox diff`."""

import posixpath
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from claude_sandbox.api.clip import plain
from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.changes.fetching import base_of, fetched
from claude_sandbox.cli.work.changes.own_git import OwnGit
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.options import place_of, sandbox_named, size_option, work
from claude_sandbox.cli.work.plain import Lines, plain_line

_COLOURS = {"+": "32", "-": "31", "@": "36"}


@dataclass(frozen=True)
class Shown:
    """What git is asked for."""

    form: tuple[str, ...]
    paths: tuple[str, ...]
    raw: bool


@click.command()
@click.argument("sandbox", metavar="SANDBOX", shell_complete=sandbox_names)
@click.argument("paths", nargs=-1, metavar="[-- PATH...]")
@click.option("--path", "directory", metavar="DIRECTORY", default=None,
              help="The repository. [default: the sandbox's only one, or its workspace]")  # fmt: skip
@click.option("--base", metavar="COMMIT", help="Changes since then. [default: what was cloned]")
@click.option("--stat", is_flag=True, help="How many lines of each file.")
@click.option("--name-status", is_flag=True, help="Each file, and whether it was added, changed or deleted.")
@click.option("--binary", is_flag=True, help="Binary files too, so that git apply can take all of it.")
@click.option("--raw", is_flag=True, help="Byte for byte, at a terminal too, which obeys what the agent wrote.")
@size_option("10Gi", "Of objects, and of files, at most.")
@where_options
def diff(
    sandbox: str,
    paths: tuple[str, ...],
    directory: str | None,
    base: str | None,
    stat: bool,
    name_status: bool,
    binary: bool,
    raw: bool,
    max_size: int,
    where: Where,
) -> None:
    """What the agent changed: committed or not, and files that it made.

    SANDBOX is NAME or NAMESPACE/NAME. The repository's objects and its files are fetched, and compared here by a git
    that reads nothing of the repository's configuration and attributes, and runs nothing of it.

    \b
      claude-sandbox diff agents/alice --stat
      claude-sandbox diff agents/alice -- src README.md
      claude-sandbox diff agents/alice --binary > work.patch

    Where the operator did not see what was cloned, the base is what the repository in the sandbox says of its origin,
    which the agent can change: name a commit that you know with --base. Files that the base's .gitignore ignores are
    counted and not shown.
    """
    form = (*(["--stat=120"] if stat else []), *(["--name-status"] if name_status else []))
    shown = Shown((*form, *(["--binary"] if binary else [])), paths, raw)
    found = sandbox_named(sandbox, where)
    work(lambda: _show(found, directory, base, shown, max_size, where), failed=Exit.UNREADABLE)


async def _show(
    sandbox: tuple[str, str], directory: str | None, base: str | None, shown: Shown, most: int, where: Where
) -> int:
    async with place_of(sandbox, where) as (place, target):
        if directory is None and len(target.repositories) > 1:
            several = ", ".join(plain(str(one.get("path"))) for one in target.repositories)
            raise WorkError(f"The sandbox has several repositories: {several}.", "Name one with --path.")
        only = str(target.repositories[0].get("path")) if len(target.repositories) == 1 else "."
        path = posixpath.normpath(posixpath.join(target.directory, directory or only))
        with OwnGit(most) as git:
            changes = await fetched(place, git, path, base_of(target, path, base), most)
            word = "" if changes.trusted else "; the repository in the sandbox says so itself"
            click.echo(f"{plain(path)} since {plain(changes.since)}{word}", err=True)
            for line in changes.left_out[:10]:
                click.echo(f"not compared: {line}", err=True)
            if changes.ignored:
                click.echo(f"not compared: {changes.ignored} files that the base's .gitignore ignores", err=True)
            for part in _output(git, changes.base, shown):
                sys.stdout.buffer.write(part)
            sys.stdout.flush()
    return 0


def _output(git: OwnGit, base: str, shown: Shown) -> Iterator[bytes]:
    parts = git.stream(
        "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/",
        *shown.form, base, "refs/heads/now", "--", *shown.paths,
    )  # fmt: skip
    if shown.raw or not sys.stdout.isatty():
        yield from parts
        return
    lines = Lines()
    for part in parts:
        yield from map(_coloured, lines.take(part))
    yield from map(_coloured, lines.end())


def _coloured(line: bytes) -> bytes:
    text = plain_line(line)
    colour = _COLOURS.get(text[:1])
    return (f"\x1b[{colour}m{text}\x1b[m\n" if colour else f"{text}\n").encode()
