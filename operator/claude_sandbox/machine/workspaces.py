"""Workspaces, and what is kept of homes, as parts of a machine's backup.

They are volumes of the engine, which reads and fills them itself, by containers that are never started: nothing of what
an agent wrote is run, and no path in it is followed by root. A volume may be written to while it is read. What the
engine gives then is a file as of some moment, or an archive that ends too early: that is read again.
"""

import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import requests
from docker import APIClient
from docker.errors import DockerException, NotFound

from claude_sandbox.api.clip import plain
from claude_sandbox.backends.docker.names import KEPT, LABEL_COMPONENT, selector
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


def save(api: APIClient, cluster: str, scratch: Path) -> tuple[Workspace, ...]:
    """Write an archive of each below `scratch`. Raises LocalClusterError."""
    (scratch / "workspaces").mkdir(mode=0o700)
    try:
        found = api.volumes(filters={"label": selector(cluster)})["Volumes"] or []
        volumes = {one["Name"]: one for one in found if (one.get("Labels") or {}).get(LABEL_COMPONENT) in KEPT}
        return tuple(_saved(api, volumes[name], scratch) for name in sorted(volumes))
    except (DockerException, requests.RequestException, OSError) as error:
        raise LocalClusterError(
            f"The workspaces can't be read: {plain(str(error))}.",
            "See that the engine is well and there is room, or leave --workspaces out.",
        ) from None


def _saved(api: APIClient, volume: Mapping[str, Any], scratch: Path) -> Workspace:
    name = str(volume["Name"])
    found = Workspace(name, volume["Labels"], volume.get("Options") or {}, "")
    target = scratch / found.part
    for _ in range(_TRIES):
        with holding(api, name, any_image(api), read_only=True) as container, target.open("wb") as file:
            pieces, _ = api.get_archive(container, f"{PLACE}/.", chunk_size=_PIECE)
            for piece in pieces:
                file.write(piece)
        if is_whole(target):
            return Workspace(name, found.labels, found.options, digest(target))
    raise LocalClusterError(
        f"Workspace {name} was written to each of {_TRIES} times that it was read.",
        "Suspend its sandbox meanwhile (spec.operatingMode: Suspended), and back up again.",
    )


def is_whole(archive: Path) -> bool:
    """Whether an archive has its end, and all that its headers say."""
    try:
        with archive.open("rb") as file:
            file.seek(-len(_END), 2)
            ended = file.read() == _END
        with tarfile.open(archive) as tar:
            return ended and all(True for _ in tar)
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
