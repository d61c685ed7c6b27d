"""What a helper does: a backup and the proof that it can be restored (`store`, `verify`), or a restore (`restore`)."""

import time
from typing import Any

from claude_sandbox.backup.bounds import Lengths
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.progress import Amount, Progress
from claude_sandbox.backup.restic import Repository, RepositoryError
from claude_sandbox.backup.restore import restore
from claude_sandbox.backup.store import store
from claude_sandbox.backup.verify import verify

MOST_REMOVED = 100
"""Snapshots that are named, of those that were let go of."""


def carry_out(
    order: Order, repository: Repository, places: Places | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """What came of it. Raises RepositoryError and OSError."""
    places = places or Places()
    with repository.claimed(places.patience):
        act = back_up if order.action == "backup" else restore
        return act(order, repository, places, progress or Progress())


def back_up(order: Order, repository: Repository, places: Places, progress: Progress) -> dict[str, Any]:
    """A snapshot, and what its restored copy is like."""
    lengths, whole = Lengths(places.source / part for part in order.parts), Amount()
    told = store(order, repository, places, lengths, progress, whole)
    stored = time.monotonic()
    takes = lengths.copied(told.pop("processed"))
    verified = verify(order, repository, places, told["snapshot"], takes, progress, whole)
    # One that is not what it was made of takes the place of none: those before it may be the last that are whole.
    good = not (verified["different"] or verified["problem"])
    gone, left = _forget(order, repository) if good else ([], "")
    removed = {"removed": len(gone), "gone": [one[:8] for one in gone[:MOST_REMOVED]], "left": left}
    seconds = told["seconds"] | {"verify": round(time.monotonic() - stored, 2)}
    return told | verified | removed | {"seconds": seconds}


def _forget(order: Order, repository: Repository) -> tuple[list[str], str]:
    """Which older snapshots went; and why none did, where the repository refused. What is stored stays so."""
    if not order.keep:
        return [], ""
    try:
        return repository.forget(f"sandbox={order.sandbox}", order.keep), ""
    except RepositoryError as error:
        return [], str(error)
