"""The files of a trail: one for each segment, by number."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"segment-([0-9]{10})\.jsonl")
DRAFT = "segment.draft"
"""A segment that is being begun. It gets its name when its first lines are on the disk."""


def path_of(directory: Path, number: int) -> Path:
    """Where a segment is."""
    return directory / f"segment-{number:010}.jsonl"


def present(directory: Path) -> list[tuple[int, Path]]:
    """The segments that are there, in order. Raises OSError."""
    found = ((match, path) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name)))
    return sorted((int(match[1]), path) for match, path in found)


def lines(data: bytes) -> Iterator[bytes]:
    """Whole lines, without their ends."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield data[start:end]
        start = end + 1


def sync_directory(directory: Path) -> None:
    """Have names that came and went on the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Raises OSError, with a part of it written."""
    view = memoryview(data)
    while view:
        # A disk that fills up takes a part first, and fails then.
        view = view[os.write(descriptor, view) :]


def create(directory: Path, number: int, data: bytes) -> None:
    """A new segment with its first lines, whole or not at all. Raises OSError."""
    draft = directory / DRAFT
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # A link fails where the name is taken; a rename would replace a segment.
    os.link(draft, path_of(directory, number))
    draft.unlink()
    sync_directory(directory)
