"""A backup is one file with all that can't be made again: etcd's snapshot, and the keys without which it is of no use.

The snapshot alone can't be read (Secrets are encrypted in it); the file as a whole can, so it is root's alone. Where
that is asked for, it has the workspaces as well.
"""

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from docker import APIClient

from claude_sandbox.install import containers
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import write_private
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.pki.pki import Files
from claude_sandbox.machine import installing, lifecycle, settings, systemd
from claude_sandbox.machine.lifecycle import Say
from claude_sandbox.machine.places import APISERVER, CONTROLLERS, ETCD, OPERATOR, Places
from claude_sandbox.machine.services import etcd_members
from claude_sandbox.machine.settings import Settings
from claude_sandbox.machine.workspaces import Workspace, bring_back, digest, digest_of, save
from claude_sandbox.machine.workspaces import told as workspaces_told

DEFAULT_KEPT = 14
_NAME = re.compile(r"claude-sandbox-\d{8}T\d{6}\.\d{3}Z\.tar\.gz")
_SNAPSHOT = "snapshot.db"
_ACCOUNT = "backup.json"
_ENCRYPTION = "encryption.yaml"
_PART = re.compile(r"snapshot\.db|backup\.json|encryption\.yaml|pki/[a-z][a-z-]*\.[a-z]{3}")
_WORKSPACE = re.compile(r"workspaces/[a-zA-Z0-9][a-zA-Z0-9_.-]*\.tar")
_FORMAT = 1
# More than the writes of any time between a backup and its restore: whoever watches is never told an older revision
# than it has seen (the figure of etcd's own documentation on restoring for Kubernetes).
_BUMP = 1_000_000_000
_PATIENCE = 120.0


@dataclass(frozen=True)
class Backup:
    """A file, and what it says of itself."""

    path: Path
    created: str
    revision: int
    objects: int
    workspaces: tuple[Workspace, ...] = ()
    missed: tuple[str, ...] = ()
    """Workspaces that are not in it, though they were to be; or that a restore could not bring back."""


def backup(places: Places, directory: Path | None, kept: int, say: Say, *, workspaces: bool = False) -> Backup:
    """Write a backup, whole or not at all, and remove all but the newest `kept` of the directory.

    `workspaces`: with those on this machine's engine. Raises LocalClusterError where etcd can't be asked, or the
    snapshot is not sound; SetupError where the engine can't be asked.
    """
    target = directory or places.backups
    # Before the lock, which would make the directory of an installation that there is not.
    settings.require(places)
    with locked(places.config, lambda: say("Waiting for another command on this installation.")):
        found = settings.require(places)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _scratch(target) as scratch:
            made = _write(places, found, target, scratch, say if workspaces else None)
        # Only now that there is a new one.
        for old in present(target)[kept:]:
            old.unlink()
    return made


def present(directory: Path) -> list[Path]:
    """The backups of a directory, the newest first."""
    if not directory.is_dir():
        return []
    return sorted((path for path in directory.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def restore(places: Places, archive: Path, say: Say) -> Backup:
    """Put the control plane back to what it was, on the machine that it was on or on another.

    Everything is checked before anything is stopped. What was there before is kept beside the new data.
    Raises LocalClusterError where the file is none of ours, or damaged.
    """
    systemd.require()
    # As in `backup`, before the lock.
    settings.require(places)
    with locked(places.config, lambda: say("Waiting for another command on this installation.")):
        found = settings.require(places)
        # systemd makes it when etcd is first started, for the account by which `_exchange` knows whose the data is to
        # be.
        if not places.etcd.is_dir():
            raise LocalClusterError(
                "etcd has never run here.", "Run `claude-sandbox machine install` first, then restore again."
            )
        # Beside the data, on the same file system: what was made is renamed.
        with _scratch(places.etcd) as scratch:
            say(f"Checking {archive}.")
            told = unpack(archive, scratch)
            _restore_snapshot(places, found, scratch)
            with _engine(found, told) as engine:
                # Those who write first, and last what they write to.
                lifecycle.stop((OPERATOR, CONTROLLERS, APISERVER, ETCD), say)
                old = _exchange(places, scratch)
                # Before the operator runs, which makes an empty one where one is missing.
                missed = bring_back(engine, archive, told.workspaces, say) if engine is not None else ()
        lifecycle.settle(places, found)
        lifecycle.start((ETCD, APISERVER, CONTROLLERS, OPERATOR), places, found, say)
        # On another machine it is another control plane's: what is on the engine is known by this.
        settings.save(places, replace(found, cluster=installing.identity(lifecycle.kubectl(places, found))))
        say(f"What etcd held before is kept: {old}")
    return replace(told, missed=missed)


@contextmanager
def _engine(found: Settings, told: Backup) -> Iterator[APIClient | None]:
    """The engine, where the backup has anything for it. Raises SetupError."""
    if not told.workspaces:
        yield None
        return
    with containers.connected(found.endpoint) as engine:
        yield engine.api


def unpack(archive: Path, scratch: Path) -> Backup:
    """The archive's files in `scratch`, each as it was. Raises LocalClusterError where one is not."""
    try:
        digests = _extract(archive, scratch)
        account = json.loads((scratch / _ACCOUNT).read_text())
        if account["format"] != _FORMAT:
            raise LocalClusterError(
                f"{archive} is a backup of another kind, format {account['format']}.",
                "Restore it with the version of this program that made it.",
            )
        damaged = [name for name, said in account["sha256"].items() if digest(scratch / name) != said]
        damaged += [one.part for one in workspaces_told(account) if digests.get(one.part) != one.sha256]
    except (OSError, tarfile.TarError, zlib.error, EOFError, ValueError, KeyError, TypeError) as error:
        raise _unusable(archive, str(error)) from None
    if damaged or not {_SNAPSHOT, _ENCRYPTION} <= set(account["sha256"]):
        raise _unusable(archive, f"damaged: {', '.join(damaged) or 'incomplete'}")
    return _told(archive, account)


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as name:
        yield Path(name)


def _write(places: Places, found: Settings, target: Path, scratch: Path, say: Say | None) -> Backup:
    """`say`: who is told of the workspaces that are to be in it; None: none are."""
    snapshot = scratch / _SNAPSHOT
    client = Files(places.pki, "apiserver-etcd-client")
    _run(
        _program(places, found, "etcdctl"),
        f"--endpoints=https://127.0.0.1:{found.ports.etcd}",
        f"--cacert={Files(places.pki, 'etcd-ca').certificate}",
        f"--cert={client.certificate}",
        f"--key={client.key}",
        "snapshot",
        "save",
        str(snapshot),
    )
    status = _status(places, found, snapshot)
    files = {_SNAPSHOT: snapshot, _ENCRYPTION: places.encryption}
    files |= {f"pki/{path.name}": path for path in sorted(places.pki.iterdir()) if not path.name.startswith(".")}
    saved: tuple[Workspace, ...] = ()
    left_out: tuple[str, ...] = ()
    if say is not None:
        with containers.connected(found.endpoint) as engine:
            saved, left_out = save(engine.api, found.cluster, scratch, say)
    now = datetime.now(UTC)
    account = {
        "format": _FORMAT,
        "created": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "revision": status["revision"],
        "objects": status["totalKey"],
        "sha256": {name: digest(path) for name, path in files.items()},
        # Apart from the others: a version that knows none of these restores the rest.
        "workspaces": [asdict(one) for one in saved],
    }
    files |= {one.part: scratch / one.part for one in saved}
    write_private(scratch / _ACCOUNT, json.dumps(account, indent=2))
    partial = scratch / "archive"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as tar:
            for name, path in ((_ACCOUNT, scratch / _ACCOUNT), *files.items()):
                tar.add(path, name)
        out.flush()
        # Before it gets the name by which it counts as a backup.
        os.fsync(out.fileno())
    # To the millisecond: one that follows at once is not to replace it.
    moment = f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03}Z"
    path = target / f"claude-sandbox-{moment}.tar.gz"
    partial.replace(path)
    _sync(target)
    return replace(_told(path, account), missed=left_out)


def _extract(archive: Path, scratch: Path) -> dict[str, str]:
    """What a backup is made of, as plain files of root's; anything else that an archive may hold is left out.

    Of workspaces the digests, by the names of their parts: they are given to the engine straight from the archive.
    """
    digests: dict[str, str] = {}
    (scratch / "pki").mkdir(mode=0o700)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None and _WORKSPACE.fullmatch(member.name):
                if member.name in digests:
                    raise ValueError(f"{member.name} comes twice")
                digests[member.name] = digest_of(content)
            elif content is not None and _PART.fullmatch(member.name):
                # A name that comes twice fails here, rather than that the second replaces what the first said.
                with (scratch / member.name).open("xb") as out:
                    shutil.copyfileobj(content, out)
    return digests


def _restore_snapshot(places: Places, found: Settings, scratch: Path) -> None:
    """etcd's data, as it is to be, in `scratch/data`."""
    _run(
        _program(places, found, "etcdutl"),
        "snapshot",
        "restore",
        str(scratch / _SNAPSHOT),
        f"--data-dir={scratch / 'data'}",
        *etcd_members(found),
        f"--bump-revision={_BUMP}",
        "--mark-compacted",
    )


def _exchange(places: Places, scratch: Path) -> Path:
    """The restored data and keys for those that are there; where the old data is now."""
    # Of the account that systemd gave the directory to; by its real name, as systemd links to it.
    home = places.etcd.resolve()
    owner = home.stat()
    for parent, directories, files in os.walk(scratch / "data"):
        for name in (".", *directories, *files):
            os.chown(Path(parent, name), owner.st_uid, owner.st_gid)
    old = home / f"data.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    if (home / "data").exists():
        (home / "data").rename(old)
    (scratch / "data").rename(home / "data")
    # The keys next: should this be interrupted here, the same restore again mends it.
    for path in places.pki.iterdir():
        path.unlink()
    for path in (scratch / "pki").iterdir():
        write_private(places.pki / path.name, path.read_bytes())
    write_private(places.encryption, (scratch / _ENCRYPTION).read_bytes())
    shutil.rmtree(scratch / "pki")
    return old


def _status(places: Places, found: Settings, snapshot: Path) -> dict[str, Any]:
    said = _run(_program(places, found, "etcdutl"), "snapshot", "status", str(snapshot), "--write-out=json")
    status: dict[str, Any] = json.loads(said)
    return status


def _program(places: Places, found: Settings, name: str) -> str:
    return str(places.programs / found.programs[name])


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise LocalClusterError(
            f"{Path(argv[0]).name} gave no answer within {_PATIENCE:.0f} s.", "See `claude-sandbox machine status`."
        ) from None
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise LocalClusterError(f"{Path(argv[0]).name} failed:\n{last}", "See `claude-sandbox machine status`.")
    return done.stdout


def _told(path: Path, account: dict[str, Any]) -> Backup:
    return Backup(path, account["created"], account["revision"], account["objects"], workspaces_told(account))


def _unusable(archive: Path, why: str) -> LocalClusterError:
    return LocalClusterError(
        f"{archive} can't be restored: {why}.", "Nothing was changed. Use another backup of that directory."
    )


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
