"""`claude-sandbox check files`: Compose files and Kubernetes manifests, before anything of them runs."""

import codecs
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from claude_sandbox.api.clip import plain
from claude_sandbox.cli.check.options import Options
from claude_sandbox.cli.check.reports import Report
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.manifests.documents import Text
from claude_sandbox.manifests.fix.mend import mend
from claude_sandbox.manifests.judge import Outcome, judge
from claude_sandbox.manifests.judged import SOURCE, Standard

_ENDINGS = (".yaml", ".yml", ".json")
_LARGEST = 32 * 1024 * 1024
"""Bytes of a file: what Helm prints of a large chart is some hundred thousand."""


def of_files(paths: Sequence[str], options: Options, *, whole: bool) -> tuple[list[Report], list[str]]:
    """A report for each thing that would run, and what of the files could not be judged. Raises UnreadableError."""
    now = datetime.now(UTC)
    return reported(judge(texts(paths), standard(options, now, whole=whole)), now)


def mended(path: str, options: Options, *, whole: bool) -> tuple[list[Report], list[str]]:
    """Print the file with what fails in it mended, and on standard error what was changed and what is left.

    The reports are of the mended file. Raises UnreadableError.
    """
    if path != "-" and Path(path).is_dir():
        raise click.UsageError("--fix mends one file at a time, or standard input")
    now = datetime.now(UTC)
    [source] = texts([path])
    found = mend(source, standard(options, now, whole=whole))
    for one in found.changes:
        told = "" if one.mended else f" (still not decided: {one.why})"
        # A file that anybody may have written chooses names and values in it.
        click.echo(plain(f"{source.file}:{one.line}: {one.target}: {one.control} {one.what}{told}"), err=True)
    for left in found.left:
        where = f"{source.file}:{left.line}: {left.target}: {left.control}"
        click.echo(plain(f"{where} left: {left.message}. {left.remedy}"), err=True)
    click.echo(found.text, nl=False)
    return reported(found.outcome, now)


def reported(outcome: Outcome, now: datetime) -> tuple[list[Report], list[str]]:
    """What was judged, as the other targets are reported."""
    reports = [
        Report(
            target=one.target,
            findings=one.findings,
            evaluated_at=now,
            file="" if one.file == "-" else one.file,
            line=one.line,
            source=SOURCE,
            note=one.note,
        )
        for one in outcome.judged
    ]
    return reports, [str(one) for one in outcome.problems]


def standard(options: Options, now: datetime, *, whole: bool) -> Standard:
    """What the command line says, as files are judged by it."""
    of_pods = options.standard
    return Standard(
        declared=options.declared,
        declarations=of_pods.declarations,
        now=now,
        profile=options.profile,
        level=options.level,
        plain_images=of_pods.plain_images,
        image=of_pods.image,
        opened=options.opened,
        whole=whole,
    )


def texts(paths: Sequence[str]) -> Iterator[Text]:
    """What is in the files, and in those below directories. Raises UnreadableError."""
    for path in paths:
        if path == "-":
            if sys.stdin.isatty():
                raise click.UsageError("nothing is piped in: docker compose config | claude-sandbox check files -")
            yield Text("-", _decoded("standard input", sys.stdin.buffer.read(_LARGEST + 1)))
            continue
        for file in _below(path) if Path(path).is_dir() else [path]:
            yield Text(file, _read(file), str(Path(file).absolute().parent))


def _below(directory: str) -> Iterator[str]:
    """Manifests by their names, in order; nothing of hidden directories, nor behind links."""
    for place, directories, files in os.walk(directory, onerror=_refuse):
        directories[:] = sorted(one for one in directories if not one.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if name.endswith(_ENDINGS) and not name.startswith(".") and not path.is_symlink() and path.is_file():
                yield str(path)


def _refuse(error: OSError) -> None:
    raise UnreadableError(f"{error.filename} can't be read: {error.strerror}.")


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode) and not stat.S_ISFIFO(
                os.fstat(opened.fileno()).st_mode
            ):
                raise UnreadableError(f"{file} is no file.", "Name a file or a directory, or - for standard input.")
            return _decoded(file, opened.read(_LARGEST + 1))
    except OSError as error:
        raise UnreadableError(
            f"{file} can't be read: {error.strerror}.", "Name a file or a directory, or - for standard input."
        ) from None


def _decoded(called: str, content: bytes) -> str:
    if len(content) > _LARGEST:
        raise UnreadableError(f"{called} is larger than {_LARGEST // 1024 // 1024} MiB.", "Give it in parts.")
    # PowerShell writes what is redirected to a file so.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8")
    except UnicodeDecodeError:
        raise UnreadableError(f"{called} is not text.") from None
