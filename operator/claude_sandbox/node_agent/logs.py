"""How much of a pod's output its node keeps, and whether the kubelet drops what is older: by sizes and names alone.

The kubelet has a directory for each pod, in it one for each container, and in that the container's output, in files by
the number of the container's start; what it has rotated has the time in its name. The directory of all of them only
root and its group may list (kubelet 1.34), and read what is in the files: so an agent sees this only where an
administrator gave it both the directory and that group.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_sandbox.node_agent import MOST_CONTAINERS

_ROTATED = re.compile(r"[0-9]+\.log\.[0-9]{8}-[0-9]{6}(?:\.gz)?")
_MOST_FILES = 512
"""Of one container."""
_MOST_PODS = 4096
"""Directories of pods that are looked through."""
_AGAIN = 300.0
"""Seconds after which the whole node is looked through again for something that was rotated."""


@dataclass(frozen=True)
class _Kept:
    """`rotated`: how many of the files."""

    size: int
    rotated: int


class UnclearError(Exception):
    """Other than it is looked at: more, or no plain files, of which some may lead anywhere."""


class Logs:
    """Of the node whose kubelet keeps output below `top`. Remembers only whether anything of the node's was rotated."""

    def __init__(self, top: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._top = top
        self._clock = clock
        self._rotates = False
        self._looked = float("-inf")

    def of(self, uid: str) -> dict[str, Any] | None:
        """Bytes and rotated files of each of a pod's containers, by its name; whether any output on this node has been
        rotated lately. None where that can't be told."""
        try:
            places = [one for one in _directories(self._top, _MOST_PODS) if one.name.rpartition("_")[2] == uid]
            kept = {one.name: _kept(one) for place in places for one in _directories(place, MOST_CONTAINERS)}
            rotates = any(one.rotated for one in kept.values()) or self._elsewhere()
        except (OSError, UnclearError):
            return None
        containers = {name: {"bytes": one.size, "rotated": one.rotated} for name, one in kept.items()}
        return {"containers": containers, "rotates": rotates}

    def _elsewhere(self) -> bool:
        if self._clock() - self._looked >= _AGAIN:
            self._rotates = any(self._each_rotated())
            self._looked = self._clock()
        return self._rotates

    def _each_rotated(self) -> Iterator[bool]:
        for pod in _directories(self._top, _MOST_PODS):
            # What can't be looked at, or is gone meanwhile, shows nothing.
            with suppress(OSError, UnclearError):
                for container in _directories(pod, MOST_CONTAINERS):
                    yield _kept(container).rotated > 0


def _directories(place: Path, most: int) -> list[Path]:
    """Those right below one. Raises OSError and UnclearError."""
    found = []
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found.append(place / entry.name)
            if len(found) > most:
                raise UnclearError
    return found


def _kept(container: Path) -> _Kept:
    """Raises OSError and UnclearError."""
    size = rotated = count = 0
    with os.scandir(container) as entries:
        for entry in entries:
            count += 1
            if count > _MOST_FILES:
                raise UnclearError
            # A file can go between two looks.
            with suppress(FileNotFoundError):
                told = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(told.st_mode):
                    raise UnclearError
                size += told.st_size
                rotated += _ROTATED.fullmatch(entry.name) is not None
    return _Kept(size, rotated)
