"""How the key and the managed settings come into a sandbox.

The key is in a volume that is a tmpfs. Such a volume is empty whenever no running container has it mounted, so
a helper container, of the sandbox's own image and without a network, takes the key on its standard input, writes it,
and stays until the sandbox has been started and has the volume mounted as well. A new key is written beside the old
one and renamed, which the sandbox sees at once.
"""

import base64
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine import Engine, archive_of
from claude_sandbox.backends.docker.hardening import confined, no_core_dump
from claude_sandbox.backends.docker.names import labels_of
from claude_sandbox.backends.docker.objects import Documents, security_options
from claude_sandbox.backends.docker.raw import Manifest
from claude_sandbox.backends.docker.session import Session
from claude_sandbox.blueprint.model import Blueprint

MARKER = ".generation"
"""Beside the key: which generation it is. Never a byte of it."""

READY = b"ready"

# $1: the directory, $2: the key's file, $3: the generation. The key comes as one line of base64: it may hold anything.
# It must never reach a disk, so where there is no tmpfs nothing is written.
_SCRIPT = f"""set -eu
umask 077
cd "$1"
grep -qF " $1 tmpfs " /proc/self/mounts
IFS= read -r line
printf %s "$line" | base64 -d > .new
unset line
chmod 0400 .new
mv -f .new "$2"
printf %s "$3" > {MARKER}.new
chmod 0400 {MARKER}.new
mv -f {MARKER}.new {MARKER}
echo {READY.decode()}
read -r _ || :
"""

_MEMORY = 64 << 20
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


def helper(blueprint: Blueprint, wanted: Documents, cluster: str, generation: str) -> Manifest:
    """The helper container's document. Nothing of the key is in it."""
    mounts = [mount | {"ReadOnly": False} for mount in wanted.container["HostConfig"]["Mounts"]]
    key = blueprint.key
    return {
        "Image": blueprint.image.reference,
        "User": wanted.container["User"],
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", _SCRIPT, "deliver", key.directory, key.key, generation],
        "WorkingDir": "/",
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
            "SecurityOpt": security_options(blueprint),
            "Memory": _MEMORY,
            # Without swap, as the sandbox itself: an engine that is not told gives as much again.
            "MemorySwap": min(_MEMORY, wanted.container["HostConfig"]["MemorySwap"]),
            "PidsLimit": _PIDS,
            "Ulimits": [no_core_dump()],
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": "no"},
            "Mounts": mounts,
        },
    }


def settings_archive(blueprint: Blueprint) -> bytes:
    """The managed settings, root's and for all to read, and the workspace's directory, the agent's own.

    The engine itself unpacks it, so that neither needs a process with rights.
    """
    settings, user = blueprint.settings, blueprint.user
    entries = [(_entry(f"{settings.directory}/{settings.file}", 0o444), settings.content.encode())]
    if blueprint.workspace.volume is not None:
        directory = _entry(blueprint.workspace.path, 0o755, kind=tarfile.DIRTYPE)
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
        await self._session.expect(READY)


@asynccontextmanager
async def helping(
    engine: Engine, blueprint: Blueprint, wanted: Documents, cluster: str, key: Key, *, settings: bool
) -> AsyncIterator[Helper]:
    """A helper for as long as the block lasts, and no longer. Raises EngineError.

    `settings`: write the managed settings too. Only while the sandbox does not run: a file of another content must
    not appear, nor the old one be missing for a moment, under a running agent.
    """
    line = bytearray(base64.b64encode(key.value) + b"\n")
    session: Session | None = None
    try:
        document = helper(blueprint, wanted, cluster, key.generation)
        identifier = await engine.create_container(wanted.names.helper, document)
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
