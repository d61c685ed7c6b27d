"""One snapshot of the workspace and of its list, so that neither is there without the other.

A look at what the kernel says of all there is; while restic reads and stores, the list is made, with digests of our
own; a second look, which tells what changed meanwhile. What is the same in both looks was the same all the time
between, so that it does not matter which of the two read it first. restic comes to the list last, since it goes by
names, and waits for it (`gate`).
"""

import heapq
import json
import shutil
import time
from contextlib import suppress
from typing import Any

from claude_sandbox.backup.bounds import Lengths
from claude_sandbox.backup.brought import bring
from claude_sandbox.backup.compare import FORM, read_list, write_list
from claude_sandbox.backup.gate import Beside
from claude_sandbox.backup.known import KnownFiles
from claude_sandbox.backup.looks import differing, glance, in_order, keep, kept, noting
from claude_sandbox.backup.order import LOST, MARKER_NAME, Order, Places, is_roots
from claude_sandbox.backup.progress import LIST, SAVE, Amount, Progress
from claude_sandbox.backup.restic import Repository, RepositoryError
from claude_sandbox.backup.tree import Entry, walk


def store(
    order: Order, repository: Repository, places: Places, lengths: Lengths, progress: Progress, whole: Amount
) -> dict[str, Any]:
    """A snapshot with its list, and beside it what changed meanwhile. `whole`: to which is added what there is."""
    began = time.monotonic()
    identity = repository.prepare(order.repository)
    prepared = time.monotonic()
    shutil.rmtree(places.about, ignore_errors=True)
    places.about.mkdir(parents=True)
    for name, text in order.files.items():
        (places.about / name).write_text(text, encoding="utf-8")
    places.form.write_text(json.dumps({"lists": FORM}))
    for part in order.parts:
        keep(places.before_of(part), glance(places.source / part, whole))
    progress.begin(LIST, whole)

    def list_all() -> None:
        _list(order, repository, places, lengths, progress)
        progress.begin(SAVE, whole)

    listing = Beside(places.gate, list_all)
    looked = time.monotonic()
    paths = [places.source / part for part in order.parts]
    # As `walk` leaves them out: what is in the snapshot and not in the list would be found to be too much.
    excluded = [path / MARKER_NAME for path in paths] + [one for path in paths if is_roots(one := path / LOST)]
    tags = [f"sandbox={order.sandbox}", f"uid={order.uid}"]
    # The list goes along, and restic waits for it: so what is in the repository can be judged by what is in the
    # repository.
    along = [str(places.gate), str(places.about)]
    left_out = list(map(str, excluded))
    summary = repository.backup([*map(str, paths), *along], order.uid, tags, left_out, lengths, listing, progress.heard)
    stored = time.monotonic()
    for part in order.parts:
        after = differing(kept(places.before_of(part)), glance(places.source / part))
        found = heapq.merge(kept(places.noted_of(part)), after, key=in_order)
        write_list(places.touched_of(part), (Entry(path, "", 0, 0, 0) for path, _ in found))
    seconds = {"open": prepared - began, "look": looked - prepared, "store": stored - looked}
    return {
        "repository": identity,
        "location": order.location,
        "snapshot": str(summary.get("snapshot_id", "")),
        "added": int(summary.get("data_added", 0)),
        "partial": bool(summary["partial"]),
        "processed": int(summary.get("total_bytes_processed", 0)),
        "seconds": {name: round(one, 2) for name, one in seconds.items()},
    }


def _list(order: Order, repository: Repository, places: Places, lengths: Lengths, progress: Progress) -> None:
    """Each list has its name once it is whole: whoever finds one that was cut off would take it for all there was."""
    is_brought = False
    if order.verified:
        # Where it can't be had, say because somebody let go of it, all is read: of what there is of it a part may be.
        with suppress(RepositoryError):
            bring(repository, places, order.verified)
            is_brought = True
    for part in order.parts:
        unfinished, before = places.scratch / f"{part}.unfinished", places.brought_list_of(part)
        known = KnownFiles(read_list(before)) if is_brought and before is not None else None
        entries = walk(places.source / part, digests=True, known=known, longest=lengths.longest)
        counted = progress.counted(lengths.counted(entries))
        write_list(unfinished, noting(counted, kept(places.before_of(part)), places.noted_of(part)))
        unfinished.rename(places.list_of(part))
