"""What the new commits of a push do: whether they build on what was there, and which paths they change. Pure.

It sees what the push brings, and what the server has as far as that was asked for. What is in neither can't be judged,
and such a push is refused: nothing that wasn't seen is taken for harmless.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from claude_sandbox.gateway.git.pack import COMMIT, TREE, GitObject
from claude_sandbox.gateway.git.paths import PathPatterns, folded
from claude_sandbox.gateway.git.pkt_line import MalformedError
from claude_sandbox.gateway.git.push_request import Command
from claude_sandbox.gateway.git.push_rules import PushRules

Objects = Mapping[bytes, GitObject]
Path = tuple[bytes, ...]
_TREE_MODE = b"40000"
_LINKS = (b"120000", b"160000")
_MAX_DEPTH = 256


class UnseenError(Exception):
    """An object that is neither in the push nor among what is known of the server."""


@dataclass(frozen=True)
class Commit:
    """Ids in hex."""

    tree: bytes
    parents: tuple[bytes, ...]


@dataclass(frozen=True)
class Entry:
    """Of a tree: mode in octal digits, id in hex."""

    mode: bytes
    id: bytes


def boundary(commands: tuple[Command, ...], pushed: Objects) -> Set[bytes]:
    """The commits that the server has to have for this push, in hex: where its new commits begin.

    Raises MalformedError.
    """
    found: set[bytes] = set()
    for command in commands:
        if not command.deletes:
            found |= _walked(command.new, pushed)[1]
    return found


def builds_on_the_old(command: Command, pushed: Objects, server: Objects) -> bool:
    """Whether what was there is before what this command brings, as far as these commits tell.

    `server`: commits that it has before the `boundary` and not before the old one. All are known by hashes of what they
    are, so whatever the server says, it is never told of what is not before that it is. Raises MalformedError.
    """
    commits, edge = _walked(command.new, {**server, **pushed})
    return command.old == command.new or command.old in commits | edge


def why_not(command: Command, rules: PushRules, pushed: Objects, server: Objects) -> str | None:
    """Why what this command brings is refused, in words for a person; None where it may come in.

    `server`: commits of the `boundary` with their trees. Raises MalformedError.
    """
    if command.deletes:
        return None
    tip = pushed.get(command.new)
    if tip is not None and tip.kind != COMMIT:
        return "a branch can only be a commit"
    if not rules.protected:
        return None
    commits, _ = _walked(command.new, pushed)
    patterns = PathPatterns(rules.protected)
    known = {**server, **pushed}
    try:
        for commit in sorted(commits):
            if (path := _changes(commit, known, patterns)) is not None:
                shown = ascii(b"/".join(path).decode("utf-8", errors="replace"))[1:-1]
                return f"commit {commit[:12].decode()} changes {shown[:200]}, which is protected (push.protectedPaths)"
    except UnseenError:
        return "what it changes can't be seen from what was pushed: rebase it onto a branch of the server"
    return None


def commit_of(data: bytes) -> Commit:
    """Read a commit. Raises MalformedError."""
    head, _, _ = data.partition(b"\n\n")
    lines = head.split(b"\n")
    if not lines[0].startswith(b"tree ") or not _is_id(lines[0][5:]):
        raise MalformedError("a commit has no tree")
    parents = []
    for line in lines[1:]:
        if not line.startswith(b"parent "):
            break
        if not _is_id(line[7:]):
            raise MalformedError("a commit's parent is none")
        parents.append(line[7:])
    return Commit(lines[0][5:], tuple(parents))


def tree_of(data: bytes, id_length: int) -> Mapping[bytes, Entry]:
    """Read a tree; `id_length` in bytes. Raises MalformedError, also for names that git would not check out."""
    entries: dict[bytes, Entry] = {}
    at = 0
    while at < len(data):
        nul = data.find(b"\0", at)
        mode, _, name = data[at:nul].partition(b" ")
        end = nul + 1 + id_length
        if nul < 0 or end > len(data) or not mode or not set(mode) <= set(b"01234567"):
            raise MalformedError("a tree is cut off")
        if not name or b"/" in name or name in entries or folded(name) in ("", ".", "..", ".git"):
            raise MalformedError("a tree has a name that is none, or one twice")
        entries[name] = Entry(mode.lstrip(b"0"), data[nul + 1 : end].hex().encode())
        at = end
    return entries


def _walked(tip: bytes, pushed: Objects) -> tuple[Set[bytes], Set[bytes]]:
    """The pushed commits that are reached from here, and those at which what was pushed ends."""
    commits: set[bytes] = set()
    edge: set[bytes] = set()
    ready = [tip]
    while ready:
        name = ready.pop()
        one = pushed.get(name)
        if one is None:
            edge.add(name)
        elif one.kind != COMMIT:
            raise MalformedError("a commit's parent is no commit")
        elif name not in commits:
            commits.add(name)
            ready += commit_of(one.data).parents
    return commits, edge


def _changes(name: bytes, known: Objects, patterns: PathPatterns) -> Path | None:
    """A protected path that this commit has otherwise than each of its parents; None for none."""
    commit = commit_of(_get(name, known, COMMIT))
    parents = [commit_of(_get(parent, known, COMMIT)).tree for parent in commit.parents]
    changed: set[Path] | None = None
    before: list[bytes | None] = [*parents] or [None]
    for tree in before:
        here = set(_differences(tree, commit.tree, known, patterns, ()))
        changed = here if changed is None else changed & here
        if not changed:
            return None
    return min(changed or ())


def _differences(
    old: bytes | None, new: bytes | None, known: Objects, patterns: PathPatterns, at: Path
) -> Iterator[Path]:
    """The protected paths in which two trees differ; None is a tree with nothing in it."""
    if old == new:
        return
    if len(at) > _MAX_DEPTH:
        raise MalformedError("a tree is too deep")
    before, after = (_entries(tree, known) for tree in (old, new))
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        path = (*at, name)
        protected, below = patterns.protect(path), patterns.may_be_below(path)
        if any(entry is not None and entry.mode != _TREE_MODE for entry in (was, now)) and (
            protected or (patterns.pass_through(path) and _leads_elsewhere(now))
        ):
            yield path
        elif protected or below:
            yield from _differences(_tree(was), _tree(now), known, patterns, path)


def _leads_elsewhere(entry: Entry | None) -> bool:
    """Whether what is below is somewhere else: behind a symbolic link, or in another repository."""
    return entry is not None and entry.mode in _LINKS


def _tree(entry: Entry | None) -> bytes | None:
    return entry.id if entry is not None and entry.mode == _TREE_MODE else None


def _entries(tree: bytes | None, known: Objects) -> Mapping[bytes, Entry]:
    return {} if tree is None else tree_of(_get(tree, known, TREE), len(tree) // 2)


def _get(name: bytes, known: Objects, kind: int) -> bytes:
    one = known.get(name)
    if one is None:
        raise UnseenError
    if one.kind != kind:
        raise MalformedError("an object is of another kind than it is used as")
    return one.data


def _is_id(text: bytes) -> bool:
    return len(text) in (40, 64) and set(text) <= set(b"0123456789abcdef")
