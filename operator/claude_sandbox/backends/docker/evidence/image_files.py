"""Looks through a container's own files, from the host: those of its image, and /dev; not what is mounted into it.

Names and files are of who made the image, and where the root file system can be written to, of who is in the container.
So no file is opened, only directories; no link is followed; each directory is taken by itself, below one that is held
open, so that what is moved meanwhile leads nowhere; and how many, how deep and for how long is bounded. It takes root,
or who started the container: for others there is nothing to see.
"""

import os
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from claude_sandbox.compliance.evidence.image_files import ImageFiles

MOST_ENTRIES = 400_000
DEEPEST = 100
LONGEST = 10.0
"""Seconds."""
SHOWN = 8
_BREATH, _PAUSE = 512, 0.002
"""Entries after which others get their turn, and seconds of it."""
_ORDINARY = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)})
"""Character devices that every container has (OCI runtime specification, default devices; devices.txt)."""
_TERMINALS = range(136, 144)
_PROGRAM = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_CAPABILITIES = "security.capability"


@dataclass
class _Look:
    """What one look has seen so far."""

    mounted: Collection[str]
    ends: float
    left: int
    whole: bool = True
    privileged: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)

    def may_go_on(self) -> bool:
        if self.left <= 0 or time.monotonic() > self.ends:
            self.whole = False
        return self.whole


def look(root: Path, mounted: Collection[str], seconds: float = LONGEST, most: int = MOST_ENTRIES) -> ImageFiles:
    """What there is below `root`, the container's own. `mounted`: where something else is mounted in it.

    Blocks, for so long at most, and looks at so many. Raises OSError where it may not be looked at.
    """
    seen = _Look(mounted, time.monotonic() + seconds, most)
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _directory(top, "", 0, seen)
        if "/dev" in mounted:
            with suppress(FileNotFoundError, NotADirectoryError):
                _below(top, "dev", "", 0, seen)
    finally:
        os.close(top)
    return ImageFiles(
        privileged=tuple(sorted(seen.privileged)[:SHOWN]),
        privileged_count=len(seen.privileged),
        devices=tuple(sorted(seen.devices)[:SHOWN]),
        device_count=len(seen.devices),
        whole=seen.whole,
    )


def _directory(here: int, path: str, depth: int, seen: _Look) -> None:
    inner: list[str] = []
    with os.scandir(here) as entries:
        for entry in entries:
            seen.left -= 1
            if not seen.may_go_on():
                return
            if seen.left % _BREATH == 0:
                time.sleep(_PAUSE)
            # A file can go between two looks.
            with suppress(FileNotFoundError):
                told = entry.stat(follow_symlinks=False)
                # Gone into only when this directory's own list is closed: so many are held open as it is deep, and no
                # more.
                if stat.S_ISDIR(told.st_mode):
                    inner.append(entry.name)
                else:
                    _file(here, entry.name, f"{path}/{entry.name}", told, seen)
    for name in inner:
        if f"{path}/{name}" in seen.mounted:
            continue
        if depth >= DEEPEST or not seen.may_go_on():
            seen.whole = False
            return
        # What is not a directory any more was changed meanwhile, and may be anything.
        try:
            _below(here, name, path, depth + 1, seen)
        except FileNotFoundError:
            continue
        except OSError:
            seen.whole = False


def _below(parent: int, name: str, path: str, depth: int, seen: _Look) -> None:
    here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        _directory(here, f"{path}/{name}", depth, seen)
    finally:
        os.close(here)


def _file(here: int, name: str, path: str, told: os.stat_result, seen: _Look) -> None:
    if stat.S_ISREG(told.st_mode):
        for what in _privileges(here, name, told.st_mode):
            seen.privileged.append(f"{_shown(path)} ({what})")
            return
    elif stat.S_ISCHR(told.st_mode) or stat.S_ISBLK(told.st_mode):
        numbers = os.major(told.st_rdev), os.minor(told.st_rdev)
        is_block = stat.S_ISBLK(told.st_mode)
        if is_block or not (numbers in _ORDINARY or numbers[0] in _TERMINALS):
            seen.devices.append(f"{_shown(path)} ({'b' if is_block else 'c'} {numbers[0]}:{numbers[1]})")


def _privileges(here: int, name: str, mode: int) -> Iterator[str]:
    if not mode & _PROGRAM:
        return
    if mode & stat.S_ISUID:
        yield "set-user-ID"
    # Without the group's right to run it, the bit means mandatory locking (inode(7)) and gives nobody a group.
    if mode & stat.S_ISGID and mode & stat.S_IXGRP:
        yield "set-group-ID"
    # By the directory that is held open: there is no call that takes it and a name.
    with suppress(OSError):
        os.getxattr(f"/proc/self/fd/{here}/{name}", _CAPABILITIES, follow_symlinks=False)
        yield "capabilities"


def _shown(path: str) -> str:
    """Its bytes may be none of a text, and it may be as long as the kernel takes."""
    plain = os.fsencode(path).decode(errors="backslashreplace")
    return plain if len(plain) <= 120 else f"{plain[:119]}…"
