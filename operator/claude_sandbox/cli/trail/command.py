"""`claude-sandbox trail`: shows the audit trail, and verifies it."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import click

from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.trail.output import Filter, Output
from claude_sandbox.cli.values import since
from claude_sandbox.trail.keys import KeyFileError, public_key
from claude_sandbox.trail.records import MAX_LINE
from claude_sandbox.trail.segments import present
from claude_sandbox.trail.verification import Remembered, Verdict, verify


@click.group()
def trail() -> None:
    """The audit trail: what happened to sandboxes, written by the operator (run --trail-directory).

    `show` reads it; `verify` finds what was changed, removed, added, moved or rolled back. What sandboxes asked their
    gateway for is another log: claude-sandbox audit.
    """


@trail.command()
@click.argument("source", metavar="DIR|FILE")
@click.option("--sandbox", "sandboxes", multiple=True, metavar="NAME", help="NAME, NAMESPACE/NAME or UID; repeatable.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Healed, ResultsChanged, …; may be repeated.")
@click.option("--since", "after", metavar="AGE", callback=since, help="From then on: 10m, 2h, 7d, or a time.")
@click.option("--all", "everything", is_flag=True, help="Checkpoints and beginnings of segments as well.")
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(
    source: str,
    sandboxes: tuple[str, ...],
    kinds: tuple[str, ...],
    after: datetime | None,
    everything: bool,
    output: str,
) -> None:
    """Show what was recorded: of a trail's directory, of a file with copied lines, or of standard input (-).

    \b
      claude-sandbox trail show /var/lib/claude-sandbox/trail --sandbox agents/alice --since 1d
      kubectl logs deployment/claude-sandbox-operator … | claude-sandbox trail show -

    Nothing is verified by this.
    """
    shown = Output(Filter(frozenset(sandboxes), frozenset(kinds), after, everything), as_json=output == "json")
    try:
        for raw in _lines(source):
            shown.take(raw)
    except OSError as error:
        _unreadable(error)
    shown.end()
    if not shown.lines:
        click.echo("Error: it holds no line of a trail.\nRemedy: Name the directory of --trail-directory.", err=True)
        sys.exit(Exit.UNREADABLE)


@trail.command("verify")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    "keys",
    multiple=True,
    required=True,
    metavar="FILE|HEX",
    help="What the trail has to be signed with, as you kept it elsewhere: a file with PEM, or 64 hexadecimal digits. "
    "May be repeated, for a trail whose key was replaced.",
)
@click.option(
    "--checkpoint",
    "files",
    multiple=True,
    metavar="FILE",
    help="Lines of the trail that were kept elsewhere (an export, a log of the operator, one checkpoint), or - for "
    "standard input: each has to be there as it was. Without any, nobody can tell that the end is missing.",
)
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON.")
def verify_command(directory: Path, keys: tuple[str, ...], files: tuple[str, ...], as_json: bool) -> None:
    """Verify a trail: that no byte of what is vouched for was changed, removed, added, moved or repeated.

    \b
      claude-sandbox trail verify DIR --public-key key.pem --checkpoint exported.log
    """
    trusted = frozenset(map(_key, keys))
    if not directory.is_dir():
        _unreadable(NotADirectoryError(f"{directory} is no directory"))
    remembered = Remembered()
    try:
        for file in files:
            with click.open_file(file, "rb") as lines:
                for number, raw in enumerate(lines, 1):
                    remembered.take(raw, number, trusted)
        verdict = verify(directory, trusted, remembered)
    except OSError as error:
        _unreadable(error)
    click.echo(json.dumps(verdict.document(), indent=2) if as_json else "\n".join(_text(verdict, bool(files))))
    sys.exit(Exit.DONE if verdict.ok else Exit.FAILED)


def _text(verdict: Verdict, has_copy: bool) -> Iterator[str]:
    for one in verdict.findings:
        where = f"{one.segment}:{one.line}: " if one.line else f"{one.segment}: " if one.segment else ""
        yield f"WRONG  {where}{one.what}"
    if verdict.more_findings:
        yield f"WRONG  and {verdict.more_findings} more"
    yield (
        f"{verdict.lines} lines in {verdict.segments} segments, {verdict.checkpoints} checkpoints that hold;"
        f" vouched for up to seq {verdict.last}"
    )
    if verdict.retired is not None:
        yield f"Removed by retention, as the trail states: everything up to seq {verdict.retired.seq}."
    if verdict.unfinished:
        yield f"{verdict.unfinished} bytes at the end are vouched for by nothing: being written, or left by a crash."
    if has_copy:
        gone = f", {verdict.remembered_retired} were removed by retention since" if verdict.remembered_retired else ""
        yield f"Of the lines that were kept elsewhere {verdict.remembered} are there{gone}."
    elif verdict.ok:
        yield "Whether lines are missing at the end can't be told without a copy: --checkpoint."
    yield "Nothing is wrong." if verdict.ok else "The trail is NOT what was written."


def _key(text: str) -> str:
    try:
        return public_key(Path(text).read_text() if Path(text).is_file() else text)
    except (KeyFileError, OSError, UnicodeError) as error:
        raise click.BadParameter(f"{error}", param_hint="--public-key") from None


def _lines(source: str) -> Iterator[bytes]:
    path = Path(source)
    files = [str(file) for _, file in present(path)] if source != "-" and path.is_dir() else [source]
    for file in files:
        with click.open_file(file, "rb") as lines:
            while raw := lines.readline(4 * MAX_LINE):
                yield raw


def _unreadable(error: OSError) -> NoReturn:
    click.echo(f"Error: {error}.\nRemedy: Read it as who may: the operator's user, or root.", err=True)
    sys.exit(Exit.UNREADABLE)
