"""What is in a directory that somebody else writes to at the same time.

A walk goes down by handles and follows no link, so that it never leaves the directory, whatever is exchanged
meanwhile. It tells in the order of the paths' parts, so that two walks can be compared as they go.
"""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

_CHUNK = 256 << 10
"""Bytes that are read at a time: what a core's own cache holds while they are hashed."""
_SMALL = 32 << 10
"""Bytes of a file that is read in one piece."""
_SETTLED = 3600 * 10**9
"""Nanoseconds since its last change after which a file can be known again. What is written through a shared mapping has
another change time only with the first write after the kernel wrote the page to the disk: within half a minute."""
_ENCODED = ("utf-8", "surrogateescape")
"""Names of files are bytes; this is how JSON has them."""
LONGEST_PATH = 3800
"""Bytes: restic names files by their whole path, for which the kernel takes 4095."""
TOO_LONG = "it is longer than all its file system has room for"
# O_NONBLOCK: a file may have become a pipe since it was looked at, and to open that would wait for who writes to it.
NOFOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
MARKER = b".claude-sandbox-restore"
"""The file by which a restore that was begun is known. It is part of no backup."""

_KIND, _MODE = 0o170000, 0o7777
"""Of a file's mode: what it is (S_IFMT), and what may be done with it (S_IMODE)."""
KINDS = {stat.S_IFDIR: "dir", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo"}


class Entry(NamedTuple):
    """One file, directory, link or pipe. `path` below the root, `b""` for the root itself.

    `digest` is SHA-256 of a file's content where it was asked for. `unread`: why it could not be read, in a word.
    `same`: for what has several names, something that these have in common. `inode`: of a file that may be known by it
    again; 0 where it changed too short a time before.
    """

    path: bytes
    kind: str
    mode: int
    size: int
    mtime: int
    digest: str | None = None
    target: bytes | None = None
    xattrs: tuple[tuple[str, str], ...] = ()
    same: str | None = None
    ctime: int = 0
    unread: str = ""
    inode: int = 0

    @property
    def parts(self) -> tuple[bytes, ...]:
        """By which entries are in order."""
        return parts(self.path)

    def written(self) -> tuple[Any, ...]:
        """As JSON takes it."""
        path = self.path.decode(*_ENCODED)
        if self.target is None:
            return (path, *self[1:])
        return (path, *self[1:6], self.target.decode(*_ENCODED), *self[7:])

    @classmethod
    def read(cls, told: list[Any]) -> "Entry":
        """What `written` gave."""
        path, kind, mode, size, mtime, digest, target, xattrs, *more = told[: len(cls._fields)]
        named = tuple([(name, value) for name, value in xattrs]) if xattrs else ()
        return cls(path.encode(*_ENCODED), kind, mode, size, mtime, digest, target and target.encode(*_ENCODED), named,
                   *more)  # fmt: skip


def parts(path: bytes) -> tuple[bytes, ...]:
    """By which paths are in order: `a/b` comes before `a-b`."""
    return tuple(path.split(b"/")) if path else ()


class Known(Protocol):
    """What is known of a file, by its path and what the kernel says of it: its digest and attributes, or nothing."""

    def __call__(self, path: bytes, seen: os.stat_result) -> Entry | None: ...


class _Reading(NamedTuple):
    """How files are read. `settled`: until when, in nanoseconds, one has to have been changed to be known again.

    `longest`: bytes of one that is read.
    """

    buffer: memoryview
    settled: int
    known: Known | None
    longest: int | None


def walk(root: Path, *, digests: bool, known: Known | None = None, longest: int | None = None) -> Iterator[Entry]:
    """The root and all that is in it. Sockets and devices are left out. Raises OSError for the root alone.

    Without digests no file is opened, and nothing is told of attributes and of what could not be read. `known` is asked
    of each file in turn; one that it knows is not opened either. One that is longer than `longest` bytes is not read.
    """
    handle = os.open(root, NOFOLLOW | os.O_DIRECTORY)
    settled = time.time_ns() - _SETTLED
    reading = _Reading(memoryview(bytearray(_CHUNK)), settled, known, longest) if digests else None
    try:
        seen = os.fstat(handle)
        yield Entry(
            b"", "dir", seen.st_mode & _MODE, 0, seen.st_mtime_ns, xattrs=_xattrs(handle), ctime=seen.st_ctime_ns
        )
        yield from _below(b"", handle, reading)
    finally:
        os.close(handle)


def _below(path: bytes, handle: int, reading: _Reading | None) -> Iterator[Entry]:
    """Depth first, with one handle for each level: there are as many levels as a path may have bytes, halved."""
    levels = [(path, handle, iter(_names(handle)))]
    try:
        while levels:
            parent, directory, names = levels[-1]
            for name, is_file in names:
                below = parent + b"/" + name if parent else name
                found = _found(below, name, is_file, directory, reading)
                if found is None:
                    continue
                entry, opened = found
                yield entry
                if opened is not None:
                    levels.append((below, opened, iter(_names(opened))))
                    break
            else:
                levels.pop()
                if directory != handle:
                    os.close(directory)
    finally:
        for _, left, _ in levels:
            if left != handle:
                with contextlib.suppress(OSError):
                    os.close(left)


def _found(
    path: bytes, name: bytes, is_file: bool, directory: int, reading: _Reading | None
) -> tuple[Entry, int | None] | None:
    """What has this name, and the handle of a directory; None for what is no part of a backup, or went meanwhile.

    `is_file`: what its directory says of it. A file to be read is opened at once, and says itself what it is: a look
    at the name before that would be a fifth of what there is to do for a small one.
    """
    if is_file and reading is not None and len(path) <= LONGEST_PATH:
        if reading.known is not None and (entry := _as_known(path, name, directory, reading.known)) is not None:
            return entry, None
        try:
            handle = os.open(name, NOFOLLOW, dir_fd=directory)
        except OSError:
            pass  # What it is, and why it can't be read, is told below.
        else:
            return _opened(path, handle, reading)
    try:
        seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    kind = KINDS.get(seen.st_mode & _KIND)
    if kind is None or is_of_the_file_system(path, seen):
        return None
    if len(path) > LONGEST_PATH:
        return Entry(path, kind, 0, 0, 0, unread="its path is too long"), None
    if kind == "dir" or (kind == "file" and reading is not None):
        try:
            handle = os.open(name, NOFOLLOW | os.O_DIRECTORY if kind == "dir" else NOFOLLOW, dir_fd=directory)
        except OSError as error:
            return Entry(
                path, kind, seen.st_mode & _MODE, seen.st_size if kind == "file" else 0, seen.st_mtime_ns,
                ctime=seen.st_ctime_ns, unread=os.strerror(error.errno or 0),
            ), None  # fmt: skip
        return _opened(path, handle, reading)
    return _told(path, kind, seen, target=_target(name, directory) if kind == "link" else None), None


def _as_known(path: bytes, name: bytes, directory: int, known: Known) -> Entry | None:
    """A file that is as it was, unopened."""
    try:
        seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    old = known(path, seen)
    return old and _told(path, "file", seen, old.digest, xattrs=old.xattrs, inode=seen.st_ino)


def _opened(path: bytes, handle: int, reading: _Reading | None) -> tuple[Entry, int | None] | None:
    """A directory with its handle, or a file with its digest; None for what is, or became, no part of a backup."""
    keep = False
    try:
        # What was opened may be another than what had the name a moment before.
        now = os.fstat(handle)
        kind = KINDS.get(now.st_mode & _KIND, "")
        if not kind or is_of_the_file_system(path, now):
            return None
        xattrs = _xattrs(handle)
        if kind == "dir":
            keep = True
            return _told(path, kind, now, xattrs=xattrs), handle
        digest, unread, inode = None, "", 0
        if kind == "file" and reading is not None and reading.longest is not None and now.st_size > reading.longest:
            unread = TOO_LONG
        elif kind == "file" and reading is not None:
            inode = now.st_ino if now.st_ctime_ns < reading.settled else 0
            try:
                digest = _digest(handle, now.st_size, reading.buffer)
            except OSError as error:
                unread = os.strerror(error.errno or 0)
        return _told(path, kind, now, digest, xattrs=xattrs, unread=unread, inode=inode), None
    finally:
        if not keep:
            os.close(handle)


def _told(
    path: bytes, kind: str, seen: os.stat_result, digest: str | None = None, target: bytes | None = None,
    xattrs: tuple[tuple[str, str], ...] = (), unread: str = "", inode: int = 0,
) -> Entry:  # fmt: skip
    is_file = kind == "file"
    same = f"{seen.st_dev}:{seen.st_ino}" if is_file and seen.st_nlink > 1 else None
    return Entry(path, kind, seen.st_mode & _MODE, seen.st_size if is_file else 0, seen.st_mtime_ns, digest, target,
                 xattrs, same, seen.st_ctime_ns, unread, inode)  # fmt: skip


def _names(directory: int) -> list[tuple[bytes, bool]]:
    """In order, and whether the directory calls it a file."""
    try:
        with os.scandir(directory) as found:
            return sorted([(os.fsencode(one.name), one.is_file(follow_symlinks=False)) for one in found])
    except OSError:
        return []


def _target(name: bytes, directory: int) -> bytes | None:
    """Where a link leads."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def is_of_the_file_system(path: bytes, seen: os.stat_result) -> bool:
    """The marker of a restore, and what mkfs makes, which is root's."""
    return path == MARKER or (path == b"lost+found" and seen.st_uid == 0)


def _digest(handle: int, size: int, buffer: memoryview) -> str:
    if size < _SMALL:
        # In one piece: with a buffer there is as much to do around a small file as in it.
        content = os.read(handle, _SMALL)
        if len(content) < _SMALL:
            return hashlib.sha256(content).hexdigest()
        found, size = hashlib.sha256(content), size - _SMALL
    else:
        found = hashlib.sha256()
    while read := os.readv(handle, [buffer]):
        found.update(buffer[:read])
        size -= read
        if size <= 0:
            break  # It ends here; where it does not, it became longer, which it might go on doing for ever.
    return found.hexdigest()


def _xattrs(handle: int) -> tuple[tuple[str, str], ...]:
    """Those that users may set; others belong to the machine that the file is on."""
    try:
        names = os.listxattr(handle)
        return tuple([(name, os.getxattr(handle, name).hex()) for name in sorted(names) if name.startswith("user.")])
    except OSError:
        return ()
