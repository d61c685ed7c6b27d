"""What goes along with a snapshot, its lists among it, brought out of the repository again."""

import json
from pathlib import Path

from claude_sandbox.backup.bounds import leaving_room, no_room
from claude_sandbox.backup.compare import FORM
from claude_sandbox.backup.order import Places, below, remove
from claude_sandbox.backup.restic import Repository, RepositoryError


def bring(repository: Repository, places: Places, snapshot: str) -> None:
    """Have what went along with a snapshot. Raises RepositoryError, also where a newer program wrote it."""
    remove(places.brought)
    places.brought.mkdir(parents=True)
    about, room = [str(one) for one in places.abouts], leaving_room(places.scratch)
    # Whoever has the password may have written it himself.
    if why := no_room(places.scratch, repository.length(snapshot, about)):
        raise RepositoryError("RestoreFailed", f"the list of what the snapshot has is too large: {why}")
    repository.restore(snapshot, str(places.brought), about, watch=room)
    form = _form(below(places.brought, places.form))
    if form is None or form > FORM:
        which = "a form that can't be read" if form is None else f"form {form}"
        raise RepositoryError(
            "SnapshotTooNew",
            f"its list of files is in {which}, and this operator knows those up to {FORM}: a newer operator made the"
            " backup. Update the operator to that version first",
        )


def _form(file: Path) -> int | None:
    """Which one a list is in. Those before there were several forms do not say; None where what it says is none."""
    if not file.exists():
        return FORM
    try:
        told = json.loads(file.read_bytes())["lists"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return told if isinstance(told, int) else None
