"""What makes backups on one Docker host: a helper container of the operator's own image, beside the sandbox.

Theory of operation. It holds nothing: what there is, the engine says. The helper has the workspace read-only, the
namespace's own directory of the host for backups, and no network; or, where the repository is elsewhere, a network that
leads to its server alone (`way`). Room of its own goes with it. It begins as root with the right to hand over the
repository's directory, and becomes the agent's own user before it reads anything. It goes on without the operator; what
it said last stays in its log until it is removed. The password and what a server lets in come by its standard input
and are in no document of the engine. One sandbox has one helper at a time, by the container's name.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.api.kinds.targets import TargetType
from claude_sandbox.api.meta import LABEL_BACKUP_UID
from claude_sandbox.backends.backup_servers import PUBLIC_SERVERS, Servers, location_of
from claude_sandbox.backends.backups import (
    Handed,
    Helper,
    NotNowError,
    Wanted,
    hostname_of,
    ordered,
    progress_in,
    result_in,
)
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.backups import way
from claude_sandbox.backends.docker.documents.hardening import NO_RESOLVER, limited_memory, told_by_input
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Manifest, Object, labels, made_at, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import digest_of, is_kept_by, is_owned, labels_of, names_of
from claude_sandbox.backup import SCRATCH, TOLD
from claude_sandbox.blueprint.build import AGENT
from claude_sandbox.blueprint.model import Identity, Image

PROGRAM = ("python3", "-I", "-m", "claude_sandbox.backup")
"""Isolated: neither the working directory nor a variable decides what is imported."""
_MEMORY = 1 << 30
_PIDS = 128
_LAST = 3
"""Lines in which the last word of how far it is may be: restic's own may come after it."""
_BEGINNING = timedelta(seconds=15)
"""In which a helper that was made is started."""
_ENDED = (
    "what makes the backup ended before it was told what to do; if that lasts, see that --relay-image names the"
    " operator's image of the operator's own version"
)

Passwords = Callable[[Wanted], Awaitable[Handed]]
"""Reads what a helper is handed out of its Secrets. Raises NotNowError."""


async def no_password(wanted: Wanted) -> Handed:
    """Of an operator that makes no backups."""
    raise NotNowError(BackupReason.PERMISSION_DENIED, f"Nobody reads Secret {wanted.namespace}/{wanted.secret}.")


class DockerBackups:
    """On one host. `directory`: what its administrator gives for backups now."""

    def __init__(
        self, engine: Engine, cluster: str, host: str, image: Image | None, directory: Callable[[], str | None],
        password: Passwords, servers: Servers = PUBLIC_SERVERS,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._cluster = cluster
        self._host = host
        self._image = image
        self._directory = directory
        self._password = password
        self._servers = servers

    async def look(self, wanted: Wanted) -> Helper | None:
        """See Helpers."""
        try:
            live = await self._own(wanted)
            if live is None:
                return None
            if running(live):
                return Helper(message="it is at work")
            state = live.get("State") or {}
            if state.get("Status") == "created":
                if _is_beginning(live):
                    return Helper(message="it is being started")
                # The operator ended between the making and the telling. What it was to be told is lost: it can't be
                # started now.
                return Helper(ended=True, message="it was never started")
            # By the engine's own threads: of a host that is silent nobody else's wait may hang on it.
            said = (await self._engine.last_words(str(live["Id"]), 1)).decode(errors="replace")
        except EngineError as error:
            raise self._unreachable(error) from None
        killed = " out of memory" if state.get("OOMKilled") else ""
        return Helper(True, result_in(said), f"it ended{killed} with code {state.get('ExitCode')}")

    async def start(self, wanted: Wanted) -> str:
        """See Helpers."""
        image, directory = self._given(wanted)
        server = await self._servers.of(wanted.target, wanted.namespace)
        location = location_of(server) if server is not None else f"{directory} on DockerHost {self._host}"
        wanted = replace(wanted, order=ordered(wanted, location))
        called = names_of(self._cluster, wanted.sandbox)
        try:
            parts = {"workspace": (called.workspace, names.WORKSPACE)}
            if wanted.home:
                parts["home"] = (called.home, names.HOME)
            for part, (name, component) in parts.items():
                volume = await self._engine.volume(name)
                # The engine would make one that is missing, and an empty workspace would be backed up without a word.
                if volume is None or not is_kept_by(volume, self._cluster, wanted.sandbox, component):
                    raise NotNowError(
                        BackupReason.WORKSPACE_NOT_THERE,
                        f"The sandbox has no volume for its {part} on host {self._host} yet.",
                    )
            # Before anything is made: without it nothing would have to be taken away again.
            secrets = _lines(await self._password(wanted))
            volumes = {part: name for part, (name, _) in parts.items()}
            capabilities = await self._engine.capabilities()
            if server is not None:
                uid = {LABEL_BACKUP_UID: wanted.uid}
                told = (self._engine, self._cluster, wanted.sandbox, image, server, uid, capabilities)
                by_relay = server | {"address": await way.lead(*told)}
                wanted = replace(wanted, order={**wanted.order, "server": by_relay})
            body = document(wanted, self._cluster, image, directory, volumes, capabilities)
            identifier = await self._engine.create_container(called.backup, body)
            await self._tell(identifier, bytearray(json.dumps(wanted.order).encode() + b"\n") + secrets)
        except EngineError as error:
            raise self._unreachable(error) from None
        return location

    async def remove(self, wanted: Wanted) -> None:
        """See Helpers."""
        try:
            live = await self._own(wanted)
            if live is not None:
                await self._engine.remove_container(str(live["Id"]))
            if wanted.target.is_elsewhere:
                await way.end(self._engine, self._cluster, wanted.sandbox)
        except EngineError as error:
            raise self._unreachable(error) from None

    async def progress(self, wanted: Wanted) -> Mapping[str, Any] | None:
        """See Helpers."""
        try:
            name = names_of(self._cluster, wanted.sandbox).backup
            return progress_in((await self._engine.last_words(name, _LAST)).decode(errors="replace"))
        except EngineError:
            return None

    def _given(self, wanted: Wanted) -> tuple[Image, str]:
        """What administrators give: the image, and the namespace's directory, which is empty where none is needed.
        Raises NotNowError."""
        if wanted.volume_snapshot is not None:
            raise NotNowError(
                BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE,
                "The sandbox is on Docker, whose engine takes no snapshots of volumes: make a backup without"
                " spec.volumeSnapshot. Of a suspended sandbox it is of one moment too.",
            )
        if wanted.target.type is TargetType.VOLUME_CLAIM:
            raise NotNowError(
                BackupReason.TARGET_NOT_ALLOWED,
                "The sandbox is on Docker, whose backups go to a directory of its host or to a server elsewhere: make a"
                " backup with spec.target.type HostDirectory, S3 or SFTP.",
            )
        if self._image is None:
            raise NotNowError(
                BackupReason.HELPER_NOT_STARTED,
                "The operator has no image to make backups with: start it with --relay-image.",
            )
        if wanted.target.is_elsewhere:
            return self._image, ""
        directory = self._directory()
        if directory is None:
            raise NotNowError(
                BackupReason.TARGET_NOT_ALLOWED,
                f"DockerHost {self._host} gives no directory for backups: its administrator sets spec.backupDirectory.",
            )
        return self._image, directory_of(directory, self._cluster, wanted.sandbox)

    async def _own(self, wanted: Wanted) -> Object | None:
        """The helper of this very backup. Raises NotNowError where another has the name."""
        name = names_of(self._cluster, wanted.sandbox).backup
        live = await self._engine.container(name)
        if live is None:
            return None
        if not is_owned(live, self._cluster, wanted.sandbox, names.BACKUP):
            raise NotNowError(
                BackupReason.HELPER_NOT_STARTED,
                f"A container of others on host {self._host} has the name {name}: remove or rename it.",
            )
        whose = labels(live).get(LABEL_BACKUP_UID)
        if whose not in (wanted.uid, wanted.sandbox.uid, *wanted.others):
            # Of a backup that is over, or gone.
            await self._engine.remove_container(str(live["Id"]))
            await way.end(self._engine, self._cluster, wanted.sandbox)
            return None
        if whose != wanted.uid:
            raise NotNowError(BackupReason.HELPER_NOT_STARTED, "Another backup or restore of the sandbox is at work.")
        return live

    async def _tell(self, identifier: str, lines: bytearray) -> None:
        session = await self._engine.attach(identifier)
        try:
            await self._engine.start(identifier)
            await session.send(lines)
            # An engine that sees the connection end drops what of it is still on its way to the container's input.
            await session.expect(TOLD.encode(), _ENDED)
        finally:
            lines[:] = bytes(len(lines))
            await session.close()

    def _unreachable(self, error: EngineError) -> NotNowError:
        return NotNowError(BackupReason.HOST_UNREACHABLE, f"DockerHost {self._host}: {error}")


def _is_beginning(live: Object) -> bool:
    """Whether somebody may be about to start it: another process that leads as well, or did until a moment ago."""
    made = made_at(live)
    return made is not None and timedelta() <= datetime.now(UTC) - made < _BEGINNING


def _lines(handed: Handed) -> bytearray:
    """As the helper reads it, after its order."""
    credentials = {name: base64.b64encode(value).decode() for name, value in handed.credentials.items()}
    return bytearray(
        base64.b64encode(handed.password) + b"\n" + base64.b64encode(json.dumps(credentials).encode()) + b"\n"
    )


def directory_of(directory: str, cluster: str, sandbox: Identity) -> str:
    """The namespace's own, below the host's: one of the same name that is made later is another."""
    return f"{directory}/{sandbox.namespace}-{digest_of(cluster, sandbox.namespace, sandbox.namespace_uid)}"


def document(
    wanted: Wanted, cluster: str, image: Image, directory: str, volumes: Mapping[str, str],
    capabilities: EngineCapabilities,
) -> Manifest:  # fmt: skip
    """The helper's container. `volumes`: by the part of the sandbox that is in them."""
    place = "/restored/source" if wanted.restores else "/source"
    host: dict[str, Any] = {
        "AutoRemove": False,
        **_network(wanted, cluster),
        # To hand over the repository's directory, and to become the agent.
        "CapAdd": ["CHOWN", "SETUID", "SETGID"],
        **limited_memory(_MEMORY, limits_swap=capabilities.limits_swap),
        "CpuShares": 256,
        "PidsLimit": _PIDS,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "256k", "max-file": "1"}},
        "Tmpfs": {"/tmp": "rw,nosuid,nodev,noexec,size=512m,mode=1777"},  # noqa: S108 - its own
        # Unlike a mount, a bind is made where it is not there.
        "Binds": [] if wanted.target.is_elsewhere else [f"{directory}:/repository:rw"],
        "Mounts": [
            *(
                {"Type": "volume", "Source": name, "Target": f"{place}/{part}", "ReadOnly": not wanted.restores}
                for part, name in volumes.items()
            ),
            # Without a name: it goes with the container.
            {"Type": "volume", "Target": SCRATCH},
        ],
    }
    arguments = ("-", "own", str(AGENT.uid), str(AGENT.gid))
    labelled = labels_of(cluster, wanted.sandbox, names.BACKUP) | {LABEL_BACKUP_UID: wanted.uid}
    made = told_by_input(image.reference, PROGRAM, arguments, "0:0", host)
    return made | {"Labels": labelled, "Hostname": hostname_of(wanted)}


def _network(wanted: Wanted, cluster: str) -> Manifest:
    """None; or one that leads to the server of the repository alone."""
    if not wanted.target.is_elsewhere:
        return {"NetworkMode": "none"}
    return {"NetworkMode": way.inner_of(cluster, wanted.sandbox), "Dns": [NO_RESOLVER]}
