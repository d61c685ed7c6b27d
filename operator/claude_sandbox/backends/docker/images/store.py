"""The images that the operator had an engine pull, and when each was needed last: so that they go, and no others do.

What it holds is on the engine, and so outlives the operator: each such image has one more name, MARKER/<cluster>, whose
tag says which reference was pulled and in which hour it was needed last. An image that was there before, or that
somebody has given another name since, is somebody else's and is left alone.
Invariants: a marker is made only after a pull of what was not there; a newer marker is made before an older one is
taken away, so that no image is ever without; an image that any container is of is never removed, which the engine sees
to as well. A crash leaves an image without marker, which stays, or with two, of which the newer counts.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from claude_sandbox.api.meta import GROUP
from claude_sandbox.api.references import Reference, parse
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError

logger = logging.getLogger(__name__)

MARKER = f"{GROUP}/pulled"
MOST_UNUSED = 32
"""Images that are kept although nothing needs them, whatever their age; those go first that were needed longest ago."""
_HOUR = 3600.0


@dataclass(frozen=True)
class PulledImage:
    """An image that the operator had pulled. `markers`: by the hour since 1970 in which it was needed last."""

    identifier: str
    markers: tuple[tuple[int, str], ...]
    names: tuple[str, ...]
    """Its other names, with tags and with digests."""

    @property
    def hour(self) -> int:
        """In which it was needed last."""
        return max(hour for hour, _ in self.markers)

    @property
    def is_shared(self) -> bool:
        """Whether it has names that the pull of one reference would not have given it."""
        return len({named.repository if (named := parse(name)) else name for name in self.names}) > 1


class ImageStore:
    """Of one engine. `cluster` tells this control plane from others that use it; `clock` gives seconds since 1970."""

    def __init__(self, engine: Engine, cluster: str, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._repository = f"{MARKER}/{_digest(cluster)}"
        self._clock = clock

    async def mark(self, reference: Reference) -> None:
        """Remember an image that was pulled and not there before. Raises EngineError."""
        found = await self._engine.image(str(reference))
        if found is None:
            return
        names = _names(found)
        # Another control plane that shares the engine had it pulled, and is the one that removes it.
        if any(name.startswith(f"{MARKER}/") for name in names):
            return
        # The same image may have been there by another name: then it is not only the operator's.
        if all((named := parse(name)) is not None and named.repository == reference.repository for name in names):
            await self._engine.tag(str(found["Id"]), self._repository, self._tag(_digest(str(reference)), self._hour()))

    async def tidy(self, hours: int, needed: Iterable[str] = ()) -> tuple[str, ...]:
        """Remove what no container is of and nothing needed for so many hours; what was removed. Raises EngineError.

        `needed`: references that sandboxes are waiting for.
        """
        marked = self._marked(await self._engine.images())
        if not marked:
            return ()
        used = {str(one.get("ImageID")) for one in await self._engine.containers([])}
        wanted = set(needed)
        for image in marked:
            if image.identifier in used or wanted & set(image.names):
                used.add(image.identifier)
                await self._refresh(image)
        unused = sorted((one for one in marked if one.identifier not in used), key=lambda one: one.hour, reverse=True)
        # What was pulled a moment ago, though in another hour, is about to be used.
        age = max(hours, 1)
        late = [one for number, one in enumerate(unused) if number >= MOST_UNUSED or self._hour() - one.hour > age]
        return tuple([name for one in late for name in await self._remove(one)])

    async def _refresh(self, image: PulledImage) -> None:
        if image.hour < self._hour():
            what = image.markers[0][1].rpartition(":")[2].partition("-")[0]
            await self._engine.tag(image.identifier, self._repository, self._tag(what, self._hour()))
        for hour, marker in image.markers:
            if hour < self._hour():
                await self._engine.remove_image(marker)

    async def _remove(self, image: PulledImage) -> tuple[str, ...]:
        gone = []
        try:
            # The markers last: whatever happens before, it is known whose the image is.
            for name in () if image.is_shared else image.names:
                await self._engine.remove_image(name)
                gone.append(name)
            for _, marker in image.markers:
                await self._engine.remove_image(marker)
        except EngineError as error:
            if not error.is_conflict:
                raise
            logger.debug("the image %s is in use after all", image.identifier)
        return tuple(gone)

    def _marked(self, images: Iterable[Object]) -> list[PulledImage]:
        found = []
        for one in images:
            names = _names(one)
            own = [name for name in names if name.startswith(f"{self._repository}:")]
            markers = tuple((int(hour), name) for name in own if (hour := name.rpartition("-")[2]).isdigit())
            if markers:
                others = tuple(name for name in names if name not in own)
                found.append(PulledImage(str(one.get("Id")), markers, others))
        return found

    def _hour(self) -> int:
        return int(self._clock() // _HOUR)

    @staticmethod
    def _tag(what: str, hour: int) -> str:
        return f"{what}-{hour}"


def _names(image: Object) -> tuple[str, ...]:
    """With tags and with digests. Of the marker itself an engine may know a digest too, which is no name of its own."""
    found = [*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ())]
    return tuple(
        name
        for name in found
        if isinstance(name, str) and "<none>" not in name and not (name.startswith(f"{MARKER}/") and "@" in name)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
