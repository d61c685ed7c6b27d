"""What the new commits of a push do: whether they build on what was there, and which paths they change. Pure.

It sees what the push brings, and what the server has as far as that was asked for. What is in neither can't be judged,
and such a push is refused: nothing that wasn't seen is taken for harmless.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from claude_sandbox.gateway.git.pack import COMMIT, TREE, GitObject, TooLargeError
from claude_sandbox.gateway.git.pkt_line import MalformedError
from claude_sandbox.gateway.git.push.paths import PathPatterns, folded
from claude_sandbox.gateway.git.push.request import Command
from claude_sandbox.gateway.git.push.rules import PushRules

Objects = Mapping[bytes, GitObject]
Path = tuple[bytes, ...]
_MASK, _TREE, _LINK, _FILE = 0o170000, 0o040000, 0o120000, 0o100000
_TREE_MODE, _LINKS = b"40000", (b"120000", b"160000")
_MAX_DEPTH = 256
"""Directories in one another: for each there is a call on Python's stack."""
MOST_READ = 512 * 1024 * 1024
"""Bytes of trees that are compared for one push: seconds of a processor, whatever few trees many commits have."""


class UnseenError(Exception):
    """An object that is neither in the push nor among what is known of the server."""


@dataclass(frozen=True)
class Commit:
    """Ids in hex."""

    tree: bytes
    parents: tuple[bytes, ...]


@dataclass(frozen=True)
class Entry:
    """Of a tree: mode in octal digits, as git takes it whatever is written; id in hex."""

    mode: bytes
    id: bytes


def boundary(commands: tuple[Command, ...], pushed: Objects) -> Set[bytes]:
    """The commits that the server has to have for this push, in hex: where its new commits begin.

    Raises MalformedError.
    """
    return _walked([one.new for one in commands if not one.deletes], pushed)[1]


def builds_on_the_old(command: Command, pushed: Objects, server: Objects) -> bool:
    """Whether what was there is before what this command brings, as far as these commits tell.

    `server`: commits that it has before the `boundary` and not before the old one. All are known by hashes of what they
    are, so whatever the server says, it is never told of what is not before that it is. Raises MalformedError.
    """
    commits, edge = _walked([command.new], {**server, **pushed})
    return command.old == command.new or command.old in commits | edge


def why_not(
    commands: tuple[Command, ...], rules: PushRules, pushed: Objects, server: Objects, most: int = MOST_READ
) -> Mapping[bytes, str]:
    """The first ref that is refused for what it brings, and why, in words for a person; empty where all may come in.

    `server`: commits of the `boundary` with their trees. Raises MalformedError and TooLargeError.
    """
    seen: set[bytes] = set()
    compared = _Comparing({**server, **pushed}, PathPatterns(rules.protected), most)
    for command in commands:
        if command.deletes:
            continue
        tip = pushed.get(command.new)
        if tip is not None and tip.kind != COMMIT:
            return {command.ref: "a branch can only be a commit"}
        if not rules.protected:
            continue
        # What another branch of this push brings too was looked at with that.
        commits = _walked([command.new], pushed, seen)[0]
        try:
            found = next(compared.changes(commits), None)
        except UnseenError:
            why = "what it changes can't be seen from what was pushed: rebase it onto a branch of the server"
            return {command.ref: why}
        if found is not None:
            commit, path = found
            shown = ascii(b"/".join(path).decode("utf-8", errors="replace"))[1:-1][:200]
            why = f"commit {commit[:12].decode()} changes {shown}, which is protected (push.protectedPaths)"
            return {command.ref: why}
        seen |= commits
    return {}


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
        # Git would not check it out, or would into its own directory (CVE-2014-9390), which is nobody's to push.
        if not name or b"/" in name or name in entries or folded(name) in ("", ".", "..", ".git"):
            raise MalformedError("a tree has a name that is none, or one twice")
        entries[name] = Entry(_canonical(mode), data[nul + 1 : end].hex().encode())
        at = end
    return entries


def _canonical(mode: bytes) -> bytes:
    """What git takes a mode for (canon_mode of its cache.h): by its type, and of a file whether it can be run. One of
    another type is a submodule."""
    bits = int(mode[-16:], 8)
    kind = bits & _MASK
    if kind == _FILE:
        return b"100755" if bits & 0o100 else b"100644"
    return _TREE_MODE if kind == _TREE else b"120000" if kind == _LINK else b"160000"


def _walked(tips: Iterable[bytes], pushed: Objects, seen: Set[bytes] = frozenset()) -> tuple[Set[bytes], Set[bytes]]:
    """The pushed commits that are reached from here, and those at which what was pushed ends; without what is `seen`,
    and what is before that."""
    commits: set[bytes] = set()
    edge: set[bytes] = set()
    # A list, and no recursion: a history may be longer than Python's stack.
    ready = list(tips)
    while ready:
        name = ready.pop()
        one = pushed.get(name)
        if one is None:
            edge.add(name)
        elif one.kind != COMMIT:
            raise MalformedError("a commit's parent is no commit")
        elif name not in commits and name not in seen:
            commits.add(name)
            ready += commit_of(one.data).parents
    return commits, edge


class _Comparing:
    """Compares commits with their parents, as far as paths are protected. `most`: bytes of trees that are read."""

    def __init__(self, known: Objects, patterns: PathPatterns, most: int) -> None:
        self._known = known
        self._patterns = patterns
        self._left = most

    def changes(self, commits: Set[bytes]) -> Iterator[tuple[bytes, Path]]:
        """Those that change what is protected, each with such a path. Raises UnseenError."""
        for name in sorted(commits):
            if (path := self._changed(name)) is not None:
                yield name, path

    def _changed(self, name: bytes) -> Path | None:
        """A protected path that this commit has otherwise than each of its parents; None for none."""
        commit = commit_of(self._get(name, COMMIT))
        parents = [commit_of(self._get(parent, COMMIT)).tree for parent in commit.parents]
        changed: set[Path] | None = None
        before: list[bytes | None] = [*parents] or [None]
        for tree in before:
            here = set(self._differences(tree, commit.tree, ()))
            # A merge changes what it has otherwise than all of its parents; what it took from one of them was judged
            # there, or is the server's.
            changed = here if changed is None else changed & here
            if not changed:
                return None
        return min(changed or ())

    def _differences(self, old: bytes | None, new: bytes | None, at: Path) -> Iterator[Path]:
        """The protected paths in which two trees differ; None is a tree with nothing in it."""
        if old == new:
            return
        if len(at) > _MAX_DEPTH:
            raise MalformedError("a tree is too deep")
        before, after = (self._entries(tree) for tree in (old, new))
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name), after.get(name)
            if was == now:
                continue
            path = (*at, name)
            protected, below = self._patterns.protect(path), self._patterns.may_be_below(path)
            if any(entry is not None and entry.mode != _TREE_MODE for entry in (was, now)) and (
                # A link in the place of a directory above would have what is protected be read from elsewhere.
                protected or (self._patterns.pass_through(path) and _leads_elsewhere(now))
            ):
                yield path
            elif protected or below:
                yield from self._differences(_tree(was), _tree(now), path)

    def _entries(self, tree: bytes | None) -> Mapping[bytes, Entry]:
        if tree is None:
            return {}
        data = self._get(tree, TREE)
        self._left -= len(data)
        if self._left < 0:
            raise TooLargeError("its commits change more than can be looked through: push them in parts")
        return tree_of(data, len(tree) // 2)

    def _get(self, name: bytes, kind: int) -> bytes:
        one = self._known.get(name)
        if one is None:
            raise UnseenError
        if one.kind != kind:
            raise MalformedError("an object is of another kind than it is used as")
        return one.data


def _leads_elsewhere(entry: Entry | None) -> bool:
    """Whether what is below is somewhere else: behind a symbolic link, or in another repository."""
    return entry is not None and entry.mode in _LINKS


def _tree(entry: Entry | None) -> bytes | None:
    return entry.id if entry is not None and entry.mode == _TREE_MODE else None


def _is_id(text: bytes) -> bool:
    return len(text) in (40, 64) and set(text) <= set(b"0123456789abcdef")
