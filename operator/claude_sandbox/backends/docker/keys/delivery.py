"""How the key and the managed settings come into a sandbox.

Theory of operation. The key is in a volume that is a tmpfs. Such a volume is empty whenever no running container has it
mounted, so a helper container, of the operator's own image and without a network, takes the key on its standard input,
writes it (`claude_sandbox.delivery`), and stays until the sandbox has been started and has the volume mounted as well.
A new key is written beside the old one and renamed, which the sandbox sees at once. Nothing of the sandbox's image,
which may be anybody's, ever runs with more than the sandbox itself has.

- The key is read just before. What holds it for longer than a call is overwritten when the helper goes, whatever ended
  it, and it is in no document, argument, variable, label or log.
- A helper lives as long as the block of `helping`. It is removed before its connection is closed: else it would end by
  itself, and the engine be removing it meanwhile.
- The settings come first, and are unpacked by the engine itself: no process has to have rights for that.

One pass has one helper at a time; its name can be had once. A crash ends the connection: a helper that runs sees its
input end, ends, and is removed by the engine, and the key is gone unless the sandbox was started. One that was made and
not started stays, holds nothing, and is the first thing that the next plan removes.
"""

import base64
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from claude_sandbox import delivery
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents.hardening import NO_NEW_PRIVILEGES, confined, no_core_dump
from claude_sandbox.backends.docker.engine.archives import archive_of
from claude_sandbox.backends.docker.engine.attach import Session
from claude_sandbox.backends.docker.engine.documents import Manifest
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.names import labels_of
from claude_sandbox.backends.docker.objects import Documents
from claude_sandbox.blueprint.model import Blueprint, Image

PROGRAM = ("python3", "-I", "-m", "claude_sandbox.delivery")
"""Isolated: neither the working directory nor a variable decides what is imported."""
_MEMORY = 64 << 20
"""The interpreter takes some 20 MiB."""
_PIDS = 16


class KeyUnavailableError(Exception):
    """The key could not be read from its Secret. The message says why and what to do, and never holds the key."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(repr=False)
class Key:
    """A key on its way. `value` is wiped as soon as it was sent; the representation never shows it."""

    generation: str
    value: bytearray

    def __repr__(self) -> str:
        return f"Key(generation={self.generation!r})"

    def wipe(self) -> None:
        """Overwrite the key's bytes."""
        self.value[:] = bytes(len(self.value))


def helper(
    blueprint: Blueprint, wanted: Documents, cluster: str, generation: str, image: Image, *, settings: bool
) -> Manifest:
    """The helper container's document. Nothing of the key is in it, and nothing of the sandbox's image.

    It has the key's volume, and only to write the settings (`settings`) also what the engine unpacks into.
    """
    key = blueprint.key
    needed = {wanted.names.key}
    if settings:
        needed.add(wanted.names.settings)
        # Their directories are made the agent's own; of one that nothing is written to it needn't be.
        needed |= {wanted.names.workspace, wanted.names.home} if blueprint.is_filled else {wanted.names.home}
    mounts = [one for one in wanted.container["HostConfig"]["Mounts"] if one["Source"] in needed]
    return {
        "Image": image.reference,
        # As the agent: the file is to be its own.
        "User": wanted.container["User"],
        "Entrypoint": list(PROGRAM),
        "Cmd": [key.directory, key.file, generation],
        "WorkingDir": "/",
        "Env": [],
        "Labels": labels_of(cluster, blueprint.identity, names.HELPER),
        "Healthcheck": {"Test": ["NONE"]},
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "HostConfig": {
            "AutoRemove": True,
            "NetworkMode": "none",
            **confined(),
            "SecurityOpt": [NO_NEW_PRIVILEGES],
            # An engine unpacks nothing into a container that is read-only.
            "ReadonlyRootfs": not settings,
            "Memory": _MEMORY,
            # Without swap, as the sandbox itself: an engine that is not told gives as much again.
            "MemorySwap": min(_MEMORY, wanted.container["HostConfig"]["MemorySwap"]),
            "PidsLimit": _PIDS,
            "Ulimits": [no_core_dump()],
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": "no"},
            "Mounts": [one | {"ReadOnly": False} for one in mounts],
        },
    }


def settings_archive(blueprint: Blueprint) -> bytes:
    """The managed settings, root's and for all to read, and the directories that are kept, the agent's own.

    The engine itself unpacks it, so that neither needs a process with rights.
    """
    settings, user = blueprint.settings, blueprint.user
    entries = [(_entry(f"{settings.directory}/{settings.file}", 0o444), settings.content.encode())]
    # The engine makes directories that are missing, root's own.
    entries += [(_entry(f"{settings.directory}/{path}", 0o444), text.encode()) for path, text in settings.files]
    kept = []
    if blueprint.workspace.volume is not None and blueprint.is_filled:
        kept.append((blueprint.workspace.path, 0o755))
    if blueprint.kept_home is not None:
        kept.append((blueprint.kept_home.path, 0o700))
    for path, mode in kept:
        directory = _entry(path, mode, kind=tarfile.DIRTYPE)
        directory.uid, directory.gid = user.uid, user.gid
        entries.append((directory, b""))
    return archive_of(entries)


class Helper:
    """A helper container that runs and waits for the key."""

    def __init__(self, identifier: str, session: Session, line: bytearray) -> None:
        self.identifier = identifier
        self._session = session
        self._line = line

    async def deliver(self) -> None:
        """Hand over the key; it is in place then, and stays for as long as the helper does. Raises EngineError."""
        await self._session.send(self._line)
        await self._session.expect(delivery.READY.encode())


@asynccontextmanager
async def helping(
    engine: Engine, make: Callable[[str], Awaitable[str]], blueprint: Blueprint, key: Key, *, settings: bool
) -> AsyncIterator[Helper]:
    """A helper for as long as the block lasts, and no longer. Raises EngineError, and what `make` raises.

    `make` makes its container for a generation of the key, and gives the identifier.

    `settings`: write the managed settings too. Under a running agent only where they are not those that are asked
    for: they are missing for a moment, which is no worse than what was there.
    """
    line = bytearray(base64.b64encode(key.value) + b"\n")
    session: Session | None = None
    try:
        identifier = await make(key.generation)
        try:
            if settings:
                await engine.put_archive(identifier, "/", settings_archive(blueprint))
            session = await engine.attach(identifier)
            await engine.start(identifier)
            yield Helper(identifier, session, line)
        finally:
            # Before its input ends: then it would end too, and the engine would be removing it by itself.
            await engine.remove_container(identifier)
    finally:
        key.wipe()
        line[:] = bytes(len(line))
        if session is not None:
            await session.close()


def _entry(path: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path.lstrip("/"))
    info.mode, info.type = mode, kind
    return info
