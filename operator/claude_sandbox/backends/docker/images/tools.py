"""Claude Code for sandboxes whose image is anybody's: a volume on the engine, filled once, that each has read-only.

Theory of operation. For each operator's image that has Claude Code there is one volume, named by the image's reference
and this control plane, so that a digest in the reference is one in the name. Beside it is its keeper: a container of
that image that is made and never started. With the making the engine itself copies what the image has in the directory
into the empty volume, so that nothing has to run for it. When that has ended well, a marker is written which names the
image. The marker is read, by the engine, before each use; a label could be there before the volume is full.

Invariants: only a volume with the right marker is used; one without is half full and is begun anew; sandboxes have it
read-only, and tenants can name no volume. The keeper keeps the image and the volume from being removed as unused.
Who may call: passes on the event loop; those that need the same volume do it one after another.
A crash leaves a volume without keeper or marker, which the next use takes away, or a whole one. `tidy` takes away those
that no sandbox has, once that has been so for as long as unused images are kept, counted anew after a restart.
"""

import asyncio
import hashlib
import logging
import tarfile
import time
from collections.abc import Callable

from claude_sandbox.api import meta
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents.hardening import NO_NEW_PRIVILEGES, confined
from claude_sandbox.backends.docker.engine.archives import archive_of
from claude_sandbox.backends.docker.engine.documents import Manifest, Object, name_of_summary
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.images.pulls import ImagePulls, Waiter
from claude_sandbox.blueprint.model import Tools

logger = logging.getLogger(__name__)

MARKER = ".whole"
LABEL_IMAGE = f"{meta.GROUP}/tools-image"
"""For who looks: which image it is filled from. Who believes it compares the volume's name."""
_HOUR = 3600.0


def volume_of(cluster: str, tools: Tools) -> str:
    """What the volume is called, and its keeper."""
    return f"csb-tools-{hashlib.sha256(f'{cluster} {tools.image.reference}'.encode()).hexdigest()[:20]}"


def labels_of(cluster: str) -> dict[str, str]:
    """What volume and keeper carry: they belong to no sandbox."""
    return {
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        names.LABEL_COMPONENT: names.TOOLS,
        names.LABEL_CLUSTER: cluster,
    }


def volume(cluster: str, tools: Tools) -> Manifest:
    """The volume's document."""
    told = {**labels_of(cluster), LABEL_IMAGE: tools.image.reference}
    return {"Name": volume_of(cluster, tools), "Driver": "local", "DriverOpts": {}, "Labels": told}


def keeper(cluster: str, tools: Tools) -> Manifest:
    """The document of the container by whose making the engine fills the volume."""
    filled = {"Type": "volume", "Source": volume_of(cluster, tools), "Target": tools.directory, "ReadOnly": False}
    return {
        "Image": tools.image.reference,
        "Labels": labels_of(cluster),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": "none",
            **confined(),
            "SecurityOpt": [NO_NEW_PRIVILEGES],
            "RestartPolicy": {"Name": "no"},
            "Mounts": [filled],
        },
    }


class ToolsVolumes:
    """Those of one engine. `clock` gives seconds."""

    def __init__(
        self, engine: Engine, images: ImagePulls, cluster: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._images = images
        self._cluster = cluster
        self._clock = clock
        self._used: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def provide(self, tools: Tools, waiter: Waiter) -> Object:
        """The volume's document; it is whole then.

        Raises EngineError, and for the operator's image what `ImagePulls.provide` does.
        """
        called = volume_of(self._cluster, tools)
        async with self._locks.setdefault(called, asyncio.Lock()):
            self._used[called] = self._clock()
            if not await self._is_whole(called, tools):
                await self._fill(called, tools, waiter)
            return await self._engine.volume(called) or {}

    async def tidy(self, hours: int) -> tuple[str, ...]:
        """Remove the volumes that no sandbox has had for so many hours; their names. Raises EngineError."""
        wanted = [f"{key}={value}" for key, value in labels_of(self._cluster).items()]
        found = {name_of_summary(one) for one in await self._engine.containers(wanted)}
        found |= {str(one["Name"]) for one in await self._engine.volumes(labels=wanted)}
        gone = [called for called in sorted(found) if await self._is_late(called, hours) and await self._remove(called)]
        self._used = {called: when for called, when in self._used.items() if called not in gone}
        return tuple(gone)

    async def _is_late(self, called: str, hours: int) -> bool:
        others = [one for one in await self._engine.containers_with(called) if not _is_keeper(one, self._cluster)]
        last = self._used.setdefault(called, self._clock())
        if others:
            self._used[called] = self._clock()
        return not others and self._clock() - last > max(hours, 1) * _HOUR

    async def _is_whole(self, called: str, tools: Tools) -> bool:
        live = await self._engine.container(called)
        # Without its keeper the engine can read nothing of a volume, and nothing tells whose it is.
        if live is None or not _is_keeper(live.get("Config") or {}, self._cluster):
            return False
        marker = await self._engine.read_file(str(live["Id"]), f"{tools.directory}/{MARKER}")
        return marker is not None and marker.decode(errors="replace") == _mark(live)

    async def _fill(self, called: str, tools: Tools, waiter: Waiter) -> None:
        # From an empty volume only: an engine copies an image's files into no other.
        await self._remove(called, must=True)
        await self._engine.create_volume(volume(self._cluster, tools))
        document = keeper(self._cluster, tools)
        try:
            identifier = await self._engine.create_container(called, document)
        except EngineError as error:
            if not error.is_image_missing:
                raise
            await self._images.provide(tools.image, waiter)
            identifier = await self._engine.create_container(called, document)
        live = await self._engine.container(identifier)
        # Looked for before the marker is written: an image without Claude Code fills nothing, and an engine finds no
        # fault in it.
        if live is None or await self._engine.read_file(identifier, f"{tools.directory}/manifest") is None:
            raise EngineError(404, f"the image {tools.image.reference} has nothing in {tools.directory}")
        entry = tarfile.TarInfo(MARKER)
        entry.mode = 0o444
        await self._engine.put_archive(identifier, tools.directory, archive_of([(entry, _mark(live).encode())]))

    async def _remove(self, called: str, *, must: bool = False) -> bool:
        """Whether keeper and volume are gone. `must`: raises EngineError where somebody has the volume."""
        live = await self._engine.container(called)
        try:
            if live is not None:
                await self._engine.remove_container(str(live["Id"]))
            await self._engine.remove_volume(called)
        except EngineError as error:
            if must or not error.is_conflict:
                raise
            logger.debug("the volume %s is in use after all", called)
            return False
        return True


def _is_keeper(found: Object, cluster: str) -> bool:
    return labels_of(cluster).items() <= dict(found.get("Labels") or {}).items()


def _mark(live: Object) -> str:
    return str(live.get("Image"))
