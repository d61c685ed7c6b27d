"""A snapshot brought back: only into a directory that is empty, or that this very restore began to fill.

What is ended in the middle leaves nothing that the next one does not take further.
"""

import heapq
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from claude_sandbox.backup.brought import bring
from claude_sandbox.backup.compare import Comparison, compare, read_list, touched
from claude_sandbox.backup.order import HOME, LOST, MARKER_NAME, Order, Places, is_roots
from claude_sandbox.backup.progress import COMPARE, RESTORE, Amount, Progress
from claude_sandbox.backup.restic import Repository, RepositoryError
from claude_sandbox.backup.tree import Entry, walk


def restore(order: Order, repository: Repository, places: Places, progress: Progress) -> dict[str, Any]:
    """Fill the directories with a snapshot. Raises RepositoryError where one has something in it already."""
    began = time.monotonic()
    if repository.identity() is None:
        raise RepositoryError("RepositoryNotFound", "there is no repository in the target")
    repository.unlock()
    known = repository.snapshots()
    wanted = [one for one in known if order.snapshot and str(one.get("id", "")).startswith(order.snapshot)]
    # Of several that begin so, none is meant for certain.
    if len(wanted) != 1:
        raise RepositoryError("SnapshotNotFound", f"the repository has {len(known)} snapshots, and not this one")
    snapshot = str(wanted[0]["id"])
    bring(repository, places, snapshot)
    for part in order.parts:
        # All of them before any is filled: of a restore that is refused nothing is there.
        _claim(places.filled(part), order.uid)
    found = Comparison()
    for part in order.parts:
        directory, listed = places.filled(part), places.brought_list_of(part)
        if listed is None:
            if part == HOME:
                (directory / MARKER_NAME).unlink()
                continue
            raise RepositoryError("SnapshotNotFound", "the snapshot is none of a sandbox: it has no list of files")
        try:
            inside = [f"{places.source}/{part}/*"]
            whole = _amount(listed)
            progress.begin(RESTORE, whole)
            above = _above(places.source / part / "*")
            repository.restore(snapshot, str(places.restored), inside, above, progress.written)
            progress.begin(COMPARE, whole)
        except RepositoryError as error:
            if error.reason == "TargetFull":
                raise RepositoryError("WorkspaceFull", f"the workspace is too small: {error}") from None
            raise RepositoryError("RestoreFailed", str(error)) from None
        found.add(_compared(repository, snapshot, places.source / part, listed, directory, progress))
    for part in order.parts:
        # The last: as long as it is there, a restore that was cut off may be taken further.
        (places.filled(part) / MARKER_NAME).unlink(missing_ok=True)
    seconds = {"restore": round(time.monotonic() - began, 2)}
    return {"snapshot": snapshot, "seconds": seconds} | found.told()


def _amount(listed: Path) -> Amount:
    sizes = [one.size for one in read_list(listed) if one.kind == "file"]
    return Amount(len(sizes), sum(sizes))


def _compared(
    repository: Repository, snapshot: str, source: Path, listed: Path, directory: Path, progress: Progress
) -> Comparison:
    """What was restored, beside its list. Raises RepositoryError.

    What changed while it was backed up is not what was listed, and mostly has another time or size. Else the times of
    its last change tell that restic and the list read it at different moments; that is asked only where it matters.
    """
    restored = progress.counted(walk(directory, digests=True))
    found = compare(read_list(listed), _otherwise(listed, directory), restored)
    if not found.different:
        return found
    times = repository.change_times(snapshot)
    ours = (Entry(one.path, "", 0, 0, 0) for one in read_list(listed) if _was_another(one, times, source))
    changed = heapq.merge(_otherwise(listed, directory), ours, key=lambda one: one.parts)
    return compare(read_list(listed), changed, walk(directory, digests=True))


def _was_another(entry: Entry, times: Mapping[str, int], source: Path) -> bool:
    return times.get(f"{source}/{os.fsdecode(entry.path)}", entry.ctime) != entry.ctime


def _otherwise(kept: Path, directory: Path) -> Iterator[Entry]:
    """What has another time, size or kind than in the list, or is not there: it changed while it was backed up."""

    def same_times(entry: Entry) -> Entry:
        return Entry(entry.path, entry.kind, 0, entry.size, entry.mtime)

    before = (same_times(one) for one in read_list(kept))
    after = (same_times(one) for one in walk(directory, digests=False))
    return touched(before, after)


def _claim(directory: Path, uid: str) -> None:
    """Raises RepositoryError where there is anything in it that this restore did not bring."""
    marker = directory / MARKER_NAME
    found = [one for one in directory.iterdir() if not (one.name == LOST and is_roots(one))]
    if not found:
        with marker.open("x", encoding="ascii") as file:
            file.write(uid)
            file.flush()
            os.fsync(file.fileno())
        return
    begun = ""
    if marker.is_file() and not marker.is_symlink():
        begun = marker.read_text(encoding="ascii", errors="replace")
    if begun != uid:
        raise RepositoryError("WorkspaceNotEmpty", f"the workspace has {len(found)} entries already")


def _above(path: Path) -> list[str]:
    """What is mounted may be owned by who mounted it."""
    return [str(one) for one in path.parents]
