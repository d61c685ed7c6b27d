"""The proof that a snapshot can be restored: it is, beside what it was made of, and compared with its list."""

import os
from typing import Any

from claude_sandbox.backup.bounds import Lengths, leaving_room, no_room
from claude_sandbox.backup.compare import Comparison, compare, read_list
from claude_sandbox.backup.order import HOME, Order, Places, below, remove
from claude_sandbox.backup.progress import COMPARE, RESTORE, Amount, Progress
from claude_sandbox.backup.repositories import Repositories, look
from claude_sandbox.backup.restic import Repository, RepositoryError
from claude_sandbox.backup.sessions import sessions
from claude_sandbox.backup.tree import walk


def verify(
    order: Order, repository: Repository, places: Places, snapshot: str, takes: int, progress: Progress, whole: Amount
) -> dict[str, Any]:
    """Restore the snapshot, which takes so many bytes then, beside what it was made of, and compare."""
    target = places.copy
    remove(target)
    target.mkdir(mode=0o700, parents=True)
    problem = ""
    try:
        try:
            progress.begin(RESTORE, whole)
            _copy(order, repository, places, snapshot, takes, progress)
        except RepositoryError as error:
            # The comparison says what of it is missing. What restic says last is of files; why may be further up.
            problem = str(error) if error.reason == "BackupFailed" else f"{error.reason}: {error}"
        found, repositories = Comparison(), Repositories()
        progress.begin(COMPARE, whole)
        for part in order.parts:
            restored = below(target, places.source / part)
            # The list that counts is the one out of the repository.
            kept = below(target, places.list_of(part))
            if not (kept.exists() and restored.is_dir()):
                found.differs(os.fsencode(part), "it was not restored")
                continue
            meanwhile = read_list(places.touched_of(part))
            found.add(compare(read_list(kept), meanwhile, progress.counted(walk(restored, digests=True))))
            if part != HOME:
                repositories = look(restored, places.source / part, places.scratch, places.git)
        known = {"sessions": sessions(below(target, places.source / HOME))} if HOME in order.parts else {}
        return (
            found.told(problem)
            | known
            | {
                "repositories": repositories.whole,
                "torn": repositories.torn,
                "damaged": repositories.damaged,
                "untold": repositories.untold,
                "tornExamples": repositories.examples,
            }
        )
    finally:
        remove(target)


def _copy(order: Order, repository: Repository, places: Places, snapshot: str, takes: int, progress: Progress) -> None:
    """Restore a snapshot beside what it was made of. Raises RepositoryError."""
    # More than fits where the agent's own files are would be taken from everybody else on the disk.
    lengths = Lengths(places.source / part for part in order.parts)
    if takes > lengths.most_copied:
        raise RepositoryError("BackupFailed", lengths.why(f"a restored copy takes {takes} bytes"))
    if why := no_room(places.scratch, takes):
        raise RepositoryError("BackupFailed", f"no copy was restored: {why}")
    room = leaving_room(places.scratch)
    repository.restore(snapshot, str(places.copy), watch=lambda process: progress.written(process) or room(process))
