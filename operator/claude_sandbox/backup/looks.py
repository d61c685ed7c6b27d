"""Looks at what the kernel says of everything in a directory, without opening a file: what is touched between two.

Theory of operation. A look gives, in the order of `walk`, each path with a mark of what the kernel says of it, the time
of its last change (ctime) among it, which no user can set back. One is taken before anything is read and one after:
what has the same mark in both was the same all the time between, in whatever order, and how often, it was read then.
What was listed meanwhile and has another mark than before was there for a while only, or was changed. A look is kept in
a file, as it may be of millions of entries; its marks are of this process, and mean nothing to another.
"""

import marshal
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from claude_sandbox.backup.progress import Amount
from claude_sandbox.backup.tree import KINDS, LONGEST_PATH, NOFOLLOW, Entry, is_of_the_file_system, parts

_AT_ONCE = 500
"""Marks that are written and read at a time."""
_KIND, _MODE = 0o170000, 0o7777
_LENGTH = 4
"""Bytes that say how long some marks are."""
Mark = tuple[bytes, int]


def glance(root: Path, seen: Amount | None = None) -> Iterator[Mark]:
    """Of all that `walk` tells of. Raises OSError for the root alone. `seen`: to which the files are added."""
    top = os.open(root, NOFOLLOW | os.O_DIRECTORY)
    amount = Amount() if seen is None else seen
    levels = [(b"", top, iter(_in(b"", top, amount)))]
    try:
        yield b"", _mark(os.fstat(top))
        while levels:
            above, directory, found = levels[-1]
            for name, mark, is_directory in found:
                path = above + name
                yield path, mark
                if is_directory and len(path) <= LONGEST_PATH:
                    try:
                        handle = os.open(name, NOFOLLOW | os.O_DIRECTORY, dir_fd=directory)
                    except OSError:
                        continue
                    below = path + b"/"
                    levels.append((below, handle, iter(_in(below, handle, amount))))
                    break
            else:
                levels.pop()
                os.close(directory)
    finally:
        for _, left, _ in levels:
            os.close(left)


def _in(above: bytes, directory: int, amount: Amount) -> list[tuple[bytes, int, bool]]:
    """Each name with its mark, and whether it is a directory's; in order."""
    found = []
    try:
        with os.scandir(directory) as names:
            for one in names:
                try:
                    seen = one.stat(follow_symlinks=False)
                except OSError:
                    continue
                name, kind = os.fsencode(one.name), seen.st_mode & _KIND
                if kind in KINDS and not (not above and is_of_the_file_system(name, seen)):
                    found.append((name, _mark(seen), KINDS[kind] == "dir"))
                    if KINDS[kind] == "file":
                        amount.files += 1
                        amount.bytes += seen.st_size
    except OSError:
        return []
    found.sort()
    return found


def _mark(seen: os.stat_result) -> int:
    """Of what an Entry tells of it too."""
    kind = KINDS[seen.st_mode & _KIND]
    size = seen.st_size if kind == "file" else 0
    return hash((kind, seen.st_mode & _MODE, size, seen.st_mtime_ns, seen.st_ctime_ns))


def keep(file: Path, marks: Iterable[Mark]) -> None:
    """For `kept`."""
    left = iter(marks)
    with file.open("wb") as chunks:
        while some := list(islice(left, _AT_ONCE)):
            _write(chunks, some)


def kept(file: Path) -> Iterator[Mark]:
    """What `keep` was given, by the same process."""
    with file.open("rb") as chunks:
        while length := chunks.read(_LENGTH):
            # This process wrote it, where nobody else can.
            yield from marshal.loads(chunks.read(int.from_bytes(length, "big")))  # noqa: S302


def _write(chunks: BinaryIO, marks: list[Mark]) -> None:
    # With its length before it: from a file marshal takes each number by a call of its own.
    chunk = marshal.dumps(marks)
    chunks.write(len(chunk).to_bytes(_LENGTH, "big") + chunk)


def noting(entries: Iterable[Entry], before: Iterable[Mark], file: Path) -> Iterator[Entry]:
    """The entries, while those that are not what they were at the look before are noted in a file, for `kept`."""
    marks: Iterator[tuple[bytes | None, int]] = iter(before)
    path, mark = next(marks, (None, 0))
    noted: list[Mark] = []
    with file.open("wb") as chunks:
        for entry in entries:
            here, kind, mode, size, mtime, *_, ctime, _, _ = entry
            while path is not None and path != here and parts(path) < entry.parts:
                path, mark = next(marks, (None, 0))
            if path != here or mark != hash((kind, mode, size, mtime, ctime)):
                noted.append((here, 0))
                if len(noted) == _AT_ONCE:
                    _write(chunks, noted)
                    noted.clear()
            if path == here:
                path, mark = next(marks, (None, 0))
            yield entry
        _write(chunks, noted)


def differing(before: Iterable[Mark], after: Iterable[Mark]) -> Iterator[Mark]:
    """What is not the same in two looks, in order."""
    ours, theirs = iter(before), iter(after)
    a, b = next(ours, None), next(theirs, None)
    while a is not None or b is not None:
        if a is not None and b is not None and a[0] == b[0]:
            if a[1] != b[1]:
                yield a
            a, b = next(ours, None), next(theirs, None)
        elif b is None or (a is not None and parts(a[0]) < parts(b[0])):
            yield a  # type: ignore[misc]  # one of them is there
            a = next(ours, None)
        else:
            yield b
            b = next(theirs, None)


def in_order(mark: Mark) -> tuple[bytes, ...]:
    """By which marks are."""
    return parts(mark[0])
