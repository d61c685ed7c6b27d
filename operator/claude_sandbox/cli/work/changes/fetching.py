"""Fetches a repository's objects and its work tree out of a sandbox, and tells what changed since which commit."""

import posixpath
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from claude_sandbox.cli.work.archives.archive import ArchiveError, Member, Reader
from claude_sandbox.cli.work.changes.objects import ObjectTaker
from claude_sandbox.cli.work.changes.own_git import OwnGit
from claude_sandbox.cli.work.changes.refs import Refs, is_commit, refs_of, shallow_of
from claude_sandbox.cli.work.changes.work_tree import Base, WorkTree
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.plain import plain_text
from claude_sandbox.cli.work.progress import Progress
from claude_sandbox.cli.work.target import Target
from claude_sandbox.cli.work.ways.sessions import Ended, Place, ended, reading

_NO_REPOSITORY = 33
_OBJECTS = f"""
cd "$1" || exit {_NO_REPOSITORY}
[ -d .git ] || exit {_NO_REPOSITORY}
cd .git
set -- ./objects
for f in HEAD packed-refs shallow refs; do [ ! -e $f ] || set -- "$@" ./$f; done
exec tar -c -f - "$@"
"""
# Not every BusyBox' tar can leave something out: then what is beside .git is named.
_FILES = """
cd "$1" || exit 1
! tar -c -f /dev/null --exclude=./.git /dev/null 2>/dev/null || exec tar -c -f - --exclude=./.git .
set --
for f in ./* ./.[!.]* ./..?*; do
  [ "$f" = ./.git ] || { [ ! -e "$f" ] && [ ! -L "$f" ]; } || set -- "$@" "$f"
done
[ "$#" -gt 0 ] || exec head -c 1024 /dev/zero
exec tar -c -f - "$@"
"""


@dataclass(frozen=True)
class Changes:
    """What to compare. `since`: for people; `trusted`: whether nobody in the sandbox could choose it."""

    base: str
    since: str
    trusted: bool
    ignored: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Commit:
    """What changes are counted from."""

    name: str | None
    since: str
    trusted: bool


async def fetched(place: Place, git: OwnGit, path: str, base: Commit | None, most_bytes: int) -> Changes:
    """Put both into `git`. `base`: None for what the repository says itself. Raises WorkError."""
    objects = ObjectTaker(git.packs, most_bytes)
    how = await _take(place, ["sh", "-c", _OBJECTS, "sh", path], objects.take, "objects")
    if how.code == _NO_REPOSITORY:
        raise WorkError(
            f"There is no repository at {path} in the sandbox, or its .git is no directory.",
            "Name where one is with --path, below /workspace.",
        )
    try:
        objects.finish()
    except ArchiveError as error:
        raise _not_taken(error) from None
    for pack in objects.taken:
        # All packs before anything is looked up: a commit of one may lead to a tree of another.
        git.index(pack)
    if shallow := shallow_of(objects.files.get("shallow", b"")):
        # Without it git would look for parents that were never cloned, and fail.
        (git.repository / "shallow").write_bytes(shallow)
    # The names are read here, by us: no git opens what the agent has in its .git.
    commit = _resolved(git, refs_of(objects.files), base)
    known = Base(git, commit.name)
    tree = WorkTree(git, known, most_bytes)
    try:
        await _take(place, ["sh", "-c", _FILES, "sh", path], tree.take, "files")
        tree.finish()
    finally:
        tree.close()
    # The tree with nothing in it, which every commit can be compared with.
    name = commit.name or git.run("hash-object", "-t", "tree", "-w", "--stdin").decode().strip()
    return Changes(name, commit.since, commit.trusted, tree.ignored, tuple(sorted(tree.left_out)))


def base_of(target: Target, path: str, said: str | None) -> Commit | None:
    """The commit that the user names, or the one that the operator saw cloned; None where neither does."""
    if said is not None:
        return Commit(said, said, is_commit(said))
    for one in target.repositories:
        where = posixpath.normpath(posixpath.join(target.directory, str(one.get("path"))))
        # Whole names alone: what else is in a status goes into no command.
        if where == path and is_commit(str(one.get("commit"))):
            return Commit(str(one["commit"]), f"{str(one['commit'])[:12]}, which was cloned", True)
    return None


def _resolved(git: OwnGit, refs: Refs, base: Commit | None) -> Commit:
    if base is not None and base.name is not None:
        name = base.name if is_commit(base.name) else refs.find(base.name)
        if name is None or not git.has(name):
            raise WorkError(
                f"The repository in the sandbox has no commit {plain_text(base.name.encode())}.",
                "Name one that it has with --base; the agent may have removed it.",
            )
        return Commit(name, base.since, base.trusted)
    head, origin = refs.head, refs.origin
    if origin is not None and git.has(origin[1]):
        name, commit = origin
        found = git.merge_base(head, commit) if head is not None else None
        return Commit(found or commit, f"{(found or commit)[:12]} of {name}", False)
    if head is not None and git.has(head):
        return Commit(head, f"{head[:12]}, its HEAD", False)
    return Commit(None, "nothing: it has no commit", False)


async def _take(place: Place, command: Sequence[str], take: Callable[[Member | bytes], None], what: str) -> Ended:
    session = await place.run(command)
    errors, reader = bytearray(), Reader()
    try:
        with Progress(what) as progress:
            async with aclosing(reading(session, errors)) as parts:
                async for part in parts:
                    for one in reader.feed(part):
                        take(one)
                    progress.add(len(part))
    except ArchiveError as error:
        raise _not_taken(error) from None
    finally:
        await session.close()
    how = ended(session, errors)
    # 1: a file changed while it was read.
    if how.code not in (0, 1, _NO_REPOSITORY) or (how.code != _NO_REPOSITORY and not reader.ended):
        raise WorkError(f"The sandbox did not send its {what}: {plain_text(how.errors) or how.code}.", "Try again.")
    return how


def _not_taken(error: ArchiveError) -> WorkError:
    return WorkError(f"What the sandbox sent is not taken: {error}.", "Raise --max-size where it is merely large.")
