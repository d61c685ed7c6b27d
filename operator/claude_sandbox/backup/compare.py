"""Whether a restored directory is what was backed up, and what merely changed while it was read."""

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from claude_sandbox.backup.tree import Entry

FORM = 2
"""Of a list: another, one more, where an older program would take what is written for what it is not. 1 had an entry in
each line, compressed; neither says which it is, for those who read only these."""
_AT_ONCE = 100
"""Entries in a line of a list."""
_JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_of_the_kernel = attrgetter("kind", "ctime", "size", "mtime", "mode", "target", "same")
_EXAMPLES = 5
"""Paths that are named, of each kind."""


@dataclass
class Comparison:
    """What was found. Good where `different` is 0."""

    files: int = 0
    entries: int = 0
    size: int = 0
    """Of the files, in bytes."""
    changed: int = 0
    """Entries that changed while they were read: what was kept of them is of some moment, or of two."""
    unread: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list)
    """What differs, and how."""
    unread_examples: list[str] = field(default_factory=list)

    def add(self, other: "Comparison") -> None:
        """Count what was found elsewhere."""
        for name in ("files", "entries", "size", "changed", "unread", "different"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples += other.examples
        self.unread_examples += other.unread_examples

    def told(self, problem: str = "") -> dict[str, Any]:
        """As the helper says it. `problem`: why not all of it could be compared."""
        return {
            "files": self.files,
            "entries": self.entries,
            "bytes": self.size,
            "changed": self.changed,
            "unread": self.unread,
            "different": self.different,
            "examples": self.examples,
            "unreadExamples": self.unread_examples,
            "problem": problem,
        }

    def differs(self, path: bytes, how: str) -> None:
        """Count it."""
        self.different += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{plain(path)}: {how}")


def write_list(file: Path, entries: Iterable[Entry]) -> None:
    """Lines of JSON, each with many entries: to begin on one takes longer than an entry does.

    Not compressed, for restic does that; and what is as it was in the list before is stored once.
    """
    left = iter(entries)
    with file.open("wb") as lines:
        while some := [one.written() for one in islice(left, _AT_ONCE)]:
            lines.write(_JSON.encode(some).encode() + b"\n")


def read_list(file: Path) -> Iterator[Entry]:
    """What `write_list` wrote, or did before: then there is one entry in a line, and the file is compressed."""
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
        for line in lines:
            told = json.loads(line)
            yield from map(Entry.read, told if isinstance(told[0], list) else [told])


def steady(before: Entry, after: Entry) -> bool:
    """Whether nobody touched it between two looks: no user can set the time of the last change (ctime) back."""
    return bool(_of_the_kernel(before) == _of_the_kernel(after))


def touched(before: Iterable[Entry], after: Iterable[Entry]) -> Iterator[Entry]:
    """Of two walks of what was backed up, one before and one after: what is not the same in both, in order."""
    for old, new in _side_by_side(before, after):
        if old is None or new is None or not steady(old, new):
            yield old or new  # type: ignore[misc]  # one of them is there


def compare(kept: Iterable[Entry], touched_meanwhile: Iterable[Entry], restored: Iterable[Entry]) -> Comparison:
    """What was restored, beside the list that was taken at backup and what changed while that was made."""
    found = Comparison()
    first_of: dict[str, bytes] = {}
    restored_as: dict[bytes, str | None] = {}
    changing: set[bytes] = set()
    """The directories above what is looked at that changed."""
    marked = ((old, new, changed) for (old, new), changed in _marked(kept, restored, touched_meanwhile))
    for old, new, changed in marked:
        path = (old or new).path  # type: ignore[union-attr]  # one of them is there
        if changed:
            changing.add(path)
        if old is None:
            # Nothing can be added to a directory without its time being changed.
            if changed or path.rpartition(b"/")[0] in changing:
                found.changed += 1
                # Nor could what is in a directory that was there for a while only.
                changing.add(path)
            else:
                found.differs(path, "nobody backed it up")
            continue
        found.entries += 1
        if old.unread:
            found.unread += 1
            if len(found.unread_examples) < _EXAMPLES:
                found.unread_examples.append(f"{plain(path)}: {old.unread}")
            continue
        if changed:
            found.changed += 1
        elif new is None:
            found.differs(path, "it is missing")
        elif how := _difference(old, new):
            found.differs(path, how)
        elif old.same is not None:
            _names_of_one(found, old, new, first_of, restored_as)
        if old.kind == "file":
            found.files += 1
            found.size += old.size
    return found


def _names_of_one(
    found: Comparison, old: Entry, new: Entry, first_of: dict[str, bytes], restored_as: dict[bytes, str | None]
) -> None:
    """Names of one file have to be names of one file again."""
    first = first_of.setdefault(str(old.same), old.path)
    if first == old.path:
        restored_as[first] = new.same
    elif new.same is None or restored_as.get(first) != new.same:
        found.differs(old.path, f"it is no other name of {plain(first)} any more")


def _difference(old: Entry, new: Entry) -> str:
    """In words; empty where there is none. Of the root only what it holds is the agent's."""
    if old.kind != new.kind:
        return f"a {old.kind} has become a {new.kind}"
    if not old.path:
        return ""
    for what in ("digest", "size", "target", "mode", "mtime", "xattrs"):
        # Nobody can set the mode of a link.
        if getattr(old, what) != getattr(new, what) and not (what == "mode" and old.kind == "link"):
            return {"digest": "other content", "target": "it leads elsewhere"}.get(what, f"another {what}")
    return ""


def _side_by_side(left: Iterable[Entry], right: Iterable[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Two walks in step: what has the same path together."""
    ours, theirs = iter(left), iter(right)
    a, b = next(ours, None), next(theirs, None)
    while a is not None or b is not None:
        if a is not None and b is not None and a.path == b.path:
            yield a, b
            a, b = next(ours, None), next(theirs, None)
        # By the parts, as both walks go: by whole paths `a-b` would come before `a/b`.
        elif b is None or (a is not None and a.parts < b.parts):
            yield a, None
            a = next(ours, None)
        else:
            yield None, b
            b = next(theirs, None)


def _marked(
    left: Iterable[Entry], right: Iterable[Entry], marks: Iterable[Entry]
) -> Iterator[tuple[tuple[Entry | None, Entry | None], bool]]:
    """With whether the path is among the marks."""
    marking = iter(marks)
    mark = next(marking, None)
    for pair in _side_by_side(left, right):
        here = (pair[0] or pair[1]).parts  # type: ignore[union-attr]  # one of them is there
        while mark is not None and mark.parts < here:
            mark = next(marking, None)
        yield pair, mark is not None and mark.parts == here


def plain(path: bytes) -> str:
    """A name that somebody hostile chose, to be read by people."""
    return ascii(os.fsdecode(path))[1:-1][:120] or "."
