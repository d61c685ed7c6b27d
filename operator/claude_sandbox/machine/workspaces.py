"""Workspaces, and what is kept of homes, as parts of a machine's backup.

They are volumes of the engine, which reads and fills them itself, by containers that are never started: nothing of what
an agent wrote is run, and no path in it is followed by root. A volume may be written to while it is read. What the
engine gives then is a file as of some moment, or an archive that ends too early: that is read again. An agent may write
all the time, or have files that are a million times as long as the room that they take: then its workspace is left out
and told, and keeps nothing else from being backed up.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import requests
from docker import APIClient
from docker.errors import DockerException, NotFound

from claude_sandbox.api.clip import plain
from claude_sandbox.backends.docker.names import KEPT, LABEL_COMPONENT, selector
from claude_sandbox.backup.bounds import no_room
from claude_sandbox.install.containers import PLACE, any_image, holding
from claude_sandbox.install.errors import SetupError
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.machine.lifecycle import Say

_PIECE = 1 << 20
_TRIES = 3
_END = b"\0" * 1024
"""What every tar archive ends with."""


@dataclass(frozen=True)
class Workspace:
    """A volume, and the digest of the archive of what is in it."""

    name: str
    labels: Mapping[str, str]
    options: Mapping[str, str]
    sha256: str

    @property
    def part(self) -> str:
        """What it is called in a backup."""
        return f"workspaces/{self.name}.tar"


class _LeftOutError(Exception):
    """A workspace can't be in the backup; the message says why, and what to do."""


def save(api: APIClient, cluster: str, scratch: Path, say: Say) -> tuple[tuple[Workspace, ...], tuple[str, ...]]:
    """Write an archive of each below `scratch`; and the names of those that were left out. Raises LocalClusterError."""
    saved, left_out, size = [], [], 0
    (scratch / "workspaces").mkdir(mode=0o700)
    try:
        found = api.volumes(filters={"label": selector(cluster)})["Volumes"] or []
        volumes = {one["Name"]: one for one in found if (one.get("Labels") or {}).get(LABEL_COMPONENT) in KEPT}
        for name in sorted(volumes):
            try:
                saved.append(_saved(api, volumes[name], scratch, size))
            except _LeftOutError as error:
                say(f"Workspace {name} is not in the backup: {error}")
                left_out.append(name)
            else:
                size += (scratch / saved[-1].part).stat().st_size
        return tuple(saved), tuple(left_out)
    except (DockerException, requests.RequestException, OSError) as error:
        raise LocalClusterError(
            f"The workspaces can't be read: {plain(str(error))}.",
            "See that the engine is well and there is room, or leave --workspaces out.",
        ) from None


def _saved(api: APIClient, volume: Mapping[str, Any], scratch: Path, before: int) -> Workspace:
    """`before`: bytes of those that are written already. Raises _LeftOutError."""
    name = str(volume["Name"])
    found = Workspace(name, volume["Labels"], volume.get("Options") or {}, "")
    target = scratch / found.part
    for _ in range(_TRIES):
        try:
            with holding(api, name, any_image(api), read_only=True) as container:
                pieces, _ = api.get_archive(container, f"{PLACE}/.", chunk_size=_PIECE)
                _write(pieces, target, before)
        except _LeftOutError:
            target.unlink()
            raise
        if is_whole(target):
            return Workspace(name, found.labels, found.options, digest(target))
    target.unlink()
    raise _LeftOutError(
        f"it was written to each of {_TRIES} times that it was read. Suspend its sandbox meanwhile"
        " (spec.operatingMode: Suspended), and back up again."
    )


def _write(pieces: Iterable[bytes], target: Path, before: int) -> None:
    """Raises _LeftOutError where it becomes larger than there is room for."""
    size = before
    with target.open("wb") as file:
        for piece in pieces:
            size += file.write(piece)
            # All of them come into one file beside these at the end.
            if why := no_room(target.parent, size):
                raise _LeftOutError(
                    f"{why}. See whether it has files with holes, which are longer than what they take"
                    " (du --apparent-size), or name another directory by --to."
                )


def is_whole(archive: Path) -> bool:
    """Whether an archive has its end, and all that its headers say."""
    try:
        with archive.open("rb") as file:
            file.seek(-len(_END), 2)
            ended = file.read() == _END
        with tarfile.open(archive) as tar:
            for _ in tar:
                # It keeps each, and an agent has as many files as it likes.
                tar.members.clear()  # type: ignore[attr-defined]
            return ended
    except (tarfile.TarError, OSError):
        return False


def bring_back(api: APIClient, archive: Path, wanted: Sequence[Workspace], say: Say) -> tuple[str, ...]:
    """Make those again that the engine has not, from a backup that was checked; the names of those that failed.

    What is there is left alone: it is what the sandbox has worked on since.
    """
    failed = []
    with tarfile.open(archive, "r:gz") as tar:
        for one in wanted:
            try:
                made = _brought(api, one, tar)
            except (DockerException, requests.RequestException, SetupError, OSError, KeyError) as error:
                say(f"Workspace {one.name} could not be brought back: {plain(str(error))}.")
                failed.append(one.name)
            else:
                say(f"Workspace {one.name} {'is back' if made else 'is there, and is left as it is'}.")
    return tuple(failed)


def _brought(api: APIClient, wanted: Workspace, tar: tarfile.TarFile) -> bool:
    try:
        api.inspect_volume(wanted.name)
    except NotFound:
        pass
    else:
        return False
    content = tar.extractfile(wanted.part)
    if content is None:
        raise KeyError(wanted.part)
    _create(api, wanted)
    try:
        with content, holding(api, wanted.name, any_image(api), read_only=False) as container:
            # In pieces: a workspace is larger than memory.
            api.put_archive(container, PLACE, iter(partial(content.read, _PIECE), b""))
    except BaseException:
        # Half of it would be taken for all of it by the next restore.
        api.remove_volume(wanted.name)
        raise
    return True


def _create(api: APIClient, wanted: Workspace) -> None:
    labels = dict(wanted.labels)
    try:
        api.create_volume(wanted.name, driver="local", driver_opts=dict(wanted.options) or None, labels=labels)
    except DockerException:
        if not wanted.options:
            raise
        # A size that this engine can't enforce: the operator tells of that, and the files are what counts.
        api.create_volume(wanted.name, driver="local", labels=labels)


def told(account: Mapping[str, Any]) -> tuple[Workspace, ...]:
    """Those that a backup says it has. Raises KeyError or TypeError where it says that in no way of ours."""
    return tuple(
        Workspace(str(one["name"]), dict(one["labels"]), dict(one["options"]), str(one["sha256"]))
        for one in account.get("workspaces") or ()
    )


def digest(path: Path) -> str:
    """Of a file, as sha256sum says it."""
    with path.open("rb") as file:
        return digest_of(file)


def digest_of(content: IO[bytes]) -> str:
    """Of what is left of an open file."""
    found = hashlib.sha256()
    for piece in iter(partial(content.read, _PIECE), b""):
        found.update(piece)
    return found.hexdigest()
