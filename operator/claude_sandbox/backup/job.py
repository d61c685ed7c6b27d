"""What a helper does, in order: a backup and the proof that it can be restored, or a restore.

A backup: a look at what the kernel says of all there is; one snapshot of the workspace and of its list, so that neither
is there without the other; beside it, while restic reads and stores, the list is made, with digests of our own; a
second look, which tells what changed meanwhile; then the snapshot is restored beside it and compared with the list.
What is the same in both looks was the same all the time between, so that it does not matter which of the two read it
first. restic comes to the list last, since it goes by names, and waits for it (`gate`).

A restore: only into a directory that is empty, or that this very restore began to fill. What is ended in the middle
leaves nothing that the next one does not take further.
"""

import heapq
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_sandbox.backup import RESTORED, SCRATCH, SCRATCH_BEFORE, SOURCE
from claude_sandbox.backup.bounds import Lengths, leaving_room, no_room
from claude_sandbox.backup.compare import FORM, Comparison, compare, read_list, touched, write_list
from claude_sandbox.backup.gate import Beside
from claude_sandbox.backup.known import KnownFiles
from claude_sandbox.backup.looks import differing, glance, in_order, keep, kept, noting
from claude_sandbox.backup.progress import COMPARE, LIST, RESTORE, SAVE, Amount, Progress
from claude_sandbox.backup.repositories import Repositories, look
from claude_sandbox.backup.restic import Repository, RepositoryError
from claude_sandbox.backup.servers import Server
from claude_sandbox.backup.sessions import sessions
from claude_sandbox.backup.tree import MARKER, Entry, walk

MARKER_NAME = os.fsdecode(MARKER)
LOST = "lost+found"
HOME = "home"
"""The part that a snapshot needn't have."""
MOST_REMOVED = 100
"""Snapshots that are named, of those that were let go of."""
_PATIENCE = 600.0
"""Seconds that a repository is waited for which another helper has."""


@dataclass(frozen=True)
class Places:
    """Where things are; in a test elsewhere."""

    source: Path = Path(SOURCE)
    scratch: Path = Path(SCRATCH)
    restored: Path = Path(RESTORED)
    git: str = "git"
    patience: float = _PATIENCE

    @property
    def about(self) -> Path:
        """What goes along with the workspace: the list, the manifest."""
        return self.scratch / "about"

    def list_of(self, part: str) -> Path:
        """Of what is in a part, with digests."""
        return self.about / f"{part}.list"

    @property
    def abouts(self) -> tuple[Path, Path]:
        """Where what goes along is in a snapshot: now, and before."""
        return self.about, Path(SCRATCH_BEFORE, self.about.name)

    @property
    def form(self) -> Path:
        """In which form the lists beside it are, as JSON."""
        return self.about / "form.json"

    @property
    def brought(self) -> Path:
        """Where what goes along comes to out of a snapshot."""
        return self.scratch / "brought"

    def brought_list_of(self, part: str) -> Path | None:
        """The list that came out of a snapshot, which was elsewhere and had another name before."""
        name = self.list_of(part).name
        known = (below(self.brought, about) / one for about in self.abouts for one in (name, f"{name}.gz"))
        return next((one for one in known if one.exists()), None)

    @property
    def copy(self) -> Path:
        """Where a snapshot is restored to be compared."""
        return self.scratch / "restored"

    @property
    def gate(self) -> Path:
        """What restic comes to before it comes to `about`, for it goes by names."""
        return self.scratch / ".gate"

    def before_of(self, part: str) -> Path:
        """What the kernel said of what is in a part, before anything was read."""
        return self.scratch / f"{part}.before"

    def noted_of(self, part: str) -> Path:
        """Of what was another then than it was when it was listed."""
        return self.scratch / f"{part}.noted"

    def touched_of(self, part: str) -> Path:
        """Of what changed in it meanwhile."""
        return self.scratch / f"{part}.touched"

    def filled(self, part: str) -> Path:
        """Where a restore puts a part."""
        return below(self.restored, self.source / part)


def below(root: Path, path: Path) -> Path:
    """An absolute path, as it is below another root."""
    return root / path.relative_to("/")


@dataclass(frozen=True)
class Order:
    """What is to be done."""

    action: str
    sandbox: str
    uid: str
    parts: tuple[str, ...] = ("workspace",)
    """Directories below the source."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What goes along, by name."""
    keep: Mapping[str, int] = field(default_factory=dict)
    """How many snapshots are kept, as restic's `--keep-…`. Empty: all."""
    snapshot: str = ""
    repository: str = ""
    """Which repository was there before, as restic names it; empty where nobody knows of one."""
    verified: str = ""
    """The sandbox's last snapshot there, if that was verified, and to read its list saves more than it takes."""
    server: Server | None = None
    """Where the repository is, if it is elsewhere."""
    location: str = ""
    """Where the repository is in words, for who made the helper and may have ended since."""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Order":
        """Raises KeyError, TypeError and ValueError."""
        return cls(
            str(told["action"]),
            str(told["sandbox"]),
            str(told["uid"]),
            tuple(map(str, told.get("parts") or ("workspace",))),
            {_name(name): str(text) for name, text in (told.get("files") or {}).items()},
            {str(name): int(count) for name, count in (told.get("keep") or {}).items()},
            str(told.get("snapshot") or ""),
            str(told.get("repository") or ""),
            _snapshot(str(told.get("verified") or "")),
            Server.read(told["server"]) if told.get("server") else None,
            str(told.get("location") or ""),
        )


def _name(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise ValueError("a file that goes along has no simple name")
    return name


def _snapshot(name: str) -> str:
    if name.strip("0123456789abcdef"):
        raise ValueError("a snapshot is named by a digest")
    return name


def carry_out(
    order: Order, repository: Repository, places: Places = Places(), progress: Progress | None = None
) -> dict[str, Any]:
    """What came of it. Raises RepositoryError and OSError."""
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
    excluded = [path / MARKER_NAME for path in paths] + [one for path in paths if _is_roots(one := path / LOST)]
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
            _bring(repository, places, order.verified)
            is_brought = True
    for part in order.parts:
        unfinished, before = places.scratch / f"{part}.unfinished", places.brought_list_of(part)
        known = KnownFiles(read_list(before)) if is_brought and before is not None else None
        entries = walk(places.source / part, digests=True, known=known, longest=lengths.longest)
        counted = progress.counted(lengths.counted(entries))
        write_list(unfinished, noting(counted, kept(places.before_of(part)), places.noted_of(part)))
        unfinished.rename(places.list_of(part))


def _bring(repository: Repository, places: Places, snapshot: str) -> None:
    """Have what went along with a snapshot. Raises RepositoryError, also where a newer program wrote it."""
    _remove(places.brought)
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


def _forget(order: Order, repository: Repository) -> tuple[list[str], str]:
    """Which older snapshots went; and why none did, where the repository refused. What is stored stays so."""
    if not order.keep:
        return [], ""
    try:
        return repository.forget(f"sandbox={order.sandbox}", order.keep), ""
    except RepositoryError as error:
        return [], str(error)


def verify(
    order: Order, repository: Repository, places: Places, snapshot: str, takes: int, progress: Progress, whole: Amount
) -> dict[str, Any]:
    """Restore the snapshot, which takes so many bytes then, beside what it was made of, and compare."""
    target = places.copy
    _remove(target)
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
            _add(found, compare(read_list(kept), meanwhile, progress.counted(walk(restored, digests=True))))
            if part != HOME:
                repositories = look(restored, places.source / part, places.scratch, places.git)
        known = {"sessions": sessions(below(target, places.source / HOME))} if HOME in order.parts else {}
        return (
            _told(found, problem)
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
        _remove(target)


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
    _bring(repository, places, snapshot)
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
        _add(found, _compared(repository, snapshot, places.source / part, listed, directory, progress))
    for part in order.parts:
        # The last: as long as it is there, a restore that was cut off may be taken further.
        (places.filled(part) / MARKER_NAME).unlink(missing_ok=True)
    seconds = {"restore": round(time.monotonic() - began, 2)}
    return {"snapshot": snapshot, "seconds": seconds} | _told(found, "")


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
    found = [one for one in directory.iterdir() if not (one.name == LOST and _is_roots(one))]
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


def _told(found: Comparison, problem: str) -> dict[str, Any]:
    return {
        "files": found.files,
        "entries": found.entries,
        "bytes": found.size,
        "changed": found.changed,
        "unread": found.unread,
        "different": found.different,
        "examples": found.examples,
        "unreadExamples": found.unread_examples,
        "problem": problem,
    }


def _add(total: Comparison, one: Comparison) -> None:
    for name in ("files", "entries", "size", "changed", "unread", "different"):
        setattr(total, name, getattr(total, name) + getattr(one, name))
    total.examples += one.examples
    total.unread_examples += one.unread_examples


def _above(path: Path) -> list[str]:
    """What is mounted may be owned by who mounted it."""
    return [str(one) for one in path.parents]


def _is_roots(path: Path) -> bool:
    try:
        return path.lstat().st_uid == 0
    except OSError:
        return False


def _remove(directory: Path) -> None:
    """With what has no right of its own to be removed: directories that are read-only."""
    if directory.is_dir():
        subprocess.run(["chmod", "-R", "u+rwX", str(directory)], check=False, capture_output=True)
        shutil.rmtree(directory, ignore_errors=True)
