"""Copies between this machine and a sandbox, by a tar that runs in the sandbox and is not believed."""

import base64
import os
import posixpath
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from claude_sandbox.cli.work.archives.archive import ArchiveError, Reader
from claude_sandbox.cli.work.archives.packing import Packer
from claude_sandbox.cli.work.archives.unpacking import Unpacker
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.plain import plain_line, plain_text
from claude_sandbox.cli.work.progress import Progress
from claude_sandbox.cli.work.ways.sessions import Ended, Place, Session, ended, feeding, reading

_NOT_THERE = re.compile("Read-only file system|Permission denied")
"""What mktemp says of a place where the agent may write nothing."""
_NO_DIRECTORY, _IS_THERE, _CUT = 33, 34, 35
# BusyBox' sed looks at a line only when it has the next one.
_WHOLE, _LINES, _END = b"whole\n", b"lines\n", b".\n\n"
_LINE = 48 * 1024
"""Bytes that are one line, where lines are sent."""
# What it is given: where to, the name here. All is unpacked beside its place first, and gets its name at the end.
# The first line of its input says how the archive follows: as it is, to the end of the input; or in lines of base64,
# to a line with a dot, by ways that can't tell of an end. GNU's tar reads a pipe to its end, whatever an archive says.
_RECEIVE = f"""
case $1 in */) d=$1 n=$2;; *) if [ -d "$1" ]; then d=$1 n=$2; else d=$(dirname "$1") n=$(basename "$1"); fi;; esac
[ -d "$d" ] || exit {_NO_DIRECTORY}
[ ! -d "$d/$n" ] || exit {_IS_THERE}
p=$(mktemp -d "$d/.claude-sandbox-XXXXXX") || exit 1
trap 'rm -rf "$p"' EXIT
trap 'exit 130' HUP INT TERM
IFS= read -r how || exit {_CUT}
case $how in
lines) sed -n '/^\\.$/q;p' | base64 -d | tar -x -f - -C "$p" || exit 1;;
*) tar -x -f - -C "$p" || exit 1;;
esac
[ -e "$p/complete" ] || exit {_CUT}
mv -f "$p/copy" "$d/$n"
"""


@dataclass(frozen=True)
class Limits:
    """What is taken from a sandbox at most, bytes and members."""

    most_bytes: int
    most_members: int = 1_000_000


@dataclass
class Copied:
    """What became of it. `left_out`: what was not copied and why; `warnings`: what tar said of files that changed."""

    to: str
    left_out: list[str] = field(default_factory=list)
    left_out_count: int = 0
    warnings: str = ""


def split(path: str, directory: str) -> tuple[str, str]:
    """Directory and name of a path in the sandbox, in which a command begins in `directory`. Raises WorkError."""
    whole = posixpath.normpath(posixpath.join(directory, path))
    if "\0" in whole or posixpath.basename(whole) == "":
        raise WorkError(
            f"{plain_line(os.fsencode(path))!r} can't be copied as a whole.", "Name a file or directory below it."
        )
    return posixpath.dirname(whole), posixpath.basename(whole)


async def copy_out(place: Place, path: str, to: Path, directory: str, limits: Limits) -> Copied:
    """From the sandbox to this machine. Raises WorkError, OSError."""
    parent, name = split(path, directory)
    final = _free(to, name)
    # With ./ before it: a name that begins with a dash would be an option to tar.
    session = await place.run(["tar", "-c", "-f", "-", "-C", parent, f"./{name}"])
    try:
        with (
            Progress(f"{plain_line(os.fsencode(name))}") as progress,
            Unpacker(
                # Beside the place, and so on the same file system: there a rename is one step.
                final.parent.resolve(),
                os.fsencode(name),
                most_bytes=limits.most_bytes,
                most_members=limits.most_members,
            ) as unpacker,
        ):
            how = await unpacked(session, unpacker, progress)
            found = Copied(str(final), unpacker.left_out, unpacker.left_out_count)
            if how.code:
                found.warnings = plain_text(how.errors)
            if unpacker.copied is None:
                raise WorkError(
                    f"{path} was not copied: {'; '.join(unpacker.left_out) or 'nothing came'}.",
                    "Name what it leads to." if unpacker.left_out else "See that it is there.",
                )
            if not unpacker.keep(final):
                raise _taken(final)
            return found
    finally:
        await session.close()


def _free(to: Path, name: str) -> Path:
    """Where a copy goes that is asked for at `to`: below it, where it is a directory. Raises WorkError."""
    final = to / name if to.is_dir() else to
    if final.is_dir():
        raise _taken(final)
    if not final.parent.is_dir():
        raise WorkError(f"There is no directory {final.parent}.", f"Make it: mkdir -p {final.parent}")
    return final


def _taken(final: Path) -> WorkError:
    return WorkError(f"{final} is there already.", "Remove it, or name another place.")


async def unpacked(session: Session, unpacker: Unpacker, progress: Progress) -> Ended:
    """Unpack what a tar writes. Raises WorkError for one that failed, or that nothing is taken of."""
    errors, reader = bytearray(), Reader()
    try:
        async with aclosing(reading(session, errors)) as parts:
            async for part in parts:
                for one in reader.feed(part):
                    unpacker.take(one)
                progress.add(len(part))
    except ArchiveError as error:
        raise WorkError(
            f"What the sandbox sent is not taken: {error}.",
            "Nothing was kept. Name less of it, or raise --max-size where it is merely large.",
        ) from None
    how = ended(session, errors)
    # 1: GNU's tar read all, and a file changed meanwhile. Whatever else it says, what has no end was cut.
    if how.code > 1 or not reader.ended:
        raise failed(how)
    return how


def failed(how: Ended) -> WorkError:
    """Of a tar in the sandbox."""
    said = plain_text(how.errors) or f"its tar ended with {how.code}"
    if how.code in (126, 127) or "executable file not found" in said:
        return WorkError(f"The sandbox's image has no tar that works: {said}.", "Use an image with tar.")
    remedy = "The agent's user may not read it." if "Permission denied" in said else "See that it is there."
    return WorkError(f"The sandbox did not send all of it: {said}.", f"Nothing was kept. {remedy}")


async def copy_in(place: Place, source: Path, path: str, directory: str) -> Copied:
    """From this machine into the sandbox. Raises WorkError, OSError."""
    packer = Packer(source)
    name = packer.name
    whole = posixpath.join(directory, path or ".")

    async def parts(progress: Progress, *, lines: bool) -> AsyncIterator[bytes]:
        for part in (_lines if lines else _whole)(packer.parts()):
            progress.add(len(part))
            yield part

    # What is named comes as an argument, and never as a part of the script.
    session = await place.run(["sh", "-c", _RECEIVE, "sh", whole, name], stdin=True)
    try:
        with Progress(name) as progress:
            how = await feeding(session, parts(progress, lines=not session.can_end_input))
    finally:
        await session.close()
    if how.code:
        raise _not_received(how, whole)
    return Copied(whole, packer.left_out[:100], len(packer.left_out), plain_text(how.errors))


def _whole(parts: Iterator[bytes]) -> Iterator[bytes]:
    yield _WHOLE
    yield from parts


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """In lines of base64: each but the last is of a whole number of its groups, so that none is filled up."""
    yield _LINES
    left = b""
    for part in parts:
        left += part
        while len(left) >= _LINE:
            yield base64.b64encode(left[:_LINE]) + b"\n"
            left = left[_LINE:]
    yield base64.b64encode(left) + b"\n" + _END


def _not_received(how: Ended, path: str) -> WorkError:
    match how.code:
        case 33:
            return WorkError(f"There is no directory for {path} in the sandbox.", "Name one that is there.")
        case 34:
            return WorkError(f"{path} has a directory of that name already.", "Remove it, or name another place.")
        case 35:
            return WorkError("The connection was cut: nothing was kept in the sandbox.", "Try again.")
    said = plain_text(how.errors) or f"it ended with {how.code}"
    remedy = "See that there is room: claude-sandbox shell … -- df -h"
    if _NOT_THERE.search(said):
        remedy = (
            "Name a place in the workspace, below /tmp or in the home directory: nothing else may be written there."
        )
    return WorkError(f"The sandbox did not take it: {said}.", remedy)
