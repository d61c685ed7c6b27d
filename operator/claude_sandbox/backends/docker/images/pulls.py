"""The images that containers are made of: fetched in the background, since that may take minutes.

Theory of operation. It holds the pulls of one engine, in the order in which they were asked for, each with the
sandboxes that wait for it. One pull for each image; so many at a time on the engine, and so many of them for one
namespace. A pass never waits for one: it is told that the image is on its way, and is due again when the pull has
ended. What nobody asks for any more is ended. Use it from one event loop. A crash leaves nothing: an engine ends a pull
whose connection ends.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from claude_sandbox.api import references
from claude_sandbox.api.meta import GROUP
from claude_sandbox.api.references import Reference
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.threads import PULLS
from claude_sandbox.backends.docker.images.store import ImageStore
from claude_sandbox.blueprint.model import Image

SHARE = 2
"""Pulls for one namespace at a time."""
ABANDONED = 60.0
"""Seconds after which a pull is ended that nobody has asked for: who waits asks every few seconds."""
_MOST_LAYERS = 512
"""Of one image; overlay2 mounts 128 at most."""
_MOST_LABELLED = 512
_OWN_LABELS = f"{GROUP}/"

Waiter = tuple[str, str]
"""A sandbox, by its namespace and name."""

Login = Callable[[Reference], Awaitable[Object | None]]
"""What to log in to the image's registry with, as the engine takes it; None: nothing. Raises ImageMissingError."""


class ImagePendingError(Exception):
    """The image is still being pulled; look again later. The message is a sentence for people."""


class ImageMissingError(Exception):
    """The image can't be had; the message says why and what to do."""


class ImageRefusedError(Exception):
    """The image must not be run on the host; the message says why and what to do."""


async def anonymously(_: Reference) -> Object | None:
    """No registry is logged in to."""
    return None


class PullProgress:
    """How far a pull is, by what the engine tells of its layers; of what a registry says only numbers are kept."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def tell(self, said: Object) -> None:
        """Take in a line of the engine's. In any one thread."""
        detail, layer = said.get("progressDetail"), said.get("id")
        if said.get("status") != "Downloading" or not isinstance(detail, dict) or not isinstance(layer, str):
            return
        current, total = detail.get("current"), detail.get("total")
        if isinstance(current, int) and (layer in self._layers or len(self._layers) < _MOST_LAYERS):
            self._layers[layer] = current, total if isinstance(total, int) else 0

    def __str__(self) -> str:
        layers = list(self._layers.values())
        got, known = sum(one for one, _ in layers), all(total > 0 for _, total in layers)
        if not layers:
            return "nothing of it has come yet"
        if not known:
            return f"{_mib(got)} so far"
        # Layers are told of as they come, so there may be more than that.
        return f"{_mib(got)} of at least {_mib(sum(total for _, total in layers))} so far"


@dataclass
class _Pull:
    """A pull that is under way or waits for its turn. `waiters`: when each asked last."""

    image: Reference
    waiters: dict[Waiter, float] = field(default_factory=dict)
    progress: PullProgress = field(default_factory=PullProgress)
    task: "asyncio.Task[None] | None" = None
    namespace: str = ""
    """Whose share it is of, once it has begun."""
    was_here: bool = False


class ImagePulls:
    """One engine's pulls. `wake` is told of each sandbox that waited for one that has ended."""

    def __init__(
        self,
        engine: Engine,
        *,
        store: ImageStore | None = None,
        login: Login = anonymously,
        wake: Callable[[str, str], None] = lambda _namespace, _name: None,
        at_a_time: int = PULLS,
        share: int = SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._store = store
        self._login = login
        self._wake = wake
        self._at_a_time, self._share = at_a_time, share
        self._clock = clock
        self._pulls: dict[str, _Pull] = {}
        self._labels: dict[str, tuple[str, ...]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def provide(self, image: Image, waiter: Waiter) -> None:
        """Have the image on the engine, as its pull policy says.

        Raises ImagePendingError, ImageMissingError, and EngineError where the engine could not be asked.
        """
        self._end_abandoned()
        here = False
        if image.reference not in self._pulls:
            here = await self._engine.image(image.reference) is not None
            if here and image.pull_policy != "Always":
                return
            if image.pull_policy == "Never":
                raise ImageMissingError(
                    f"The image {image.reference} is not on the Docker host, and pullPolicy Never forbids to pull it: "
                    "load it there (`docker load`), or set spec.image.pullPolicy to IfNotPresent."
                )
        if (pull := self._pulls.get(image.reference)) is None:
            if (named := references.parse(image.reference)) is None:
                raise ImageMissingError(
                    f"The image {image.reference} is not on the Docker host, and can't be pulled by an identifier."
                )
            pull = self._pulls[image.reference] = _Pull(named, was_here=here)
        if pull.task is not None and pull.task.done():
            self._take(image, pull, waiter)
            return
        pull.waiters[waiter] = self._clock()
        self._begin()
        self._watch()
        raise ImagePendingError(self.state(image))

    def awaited(self) -> tuple[str, ...]:
        """References that sandboxes wait for, or have only just got."""
        return tuple(self._pulls)

    def pulls(self, image: Image) -> bool:
        """Whether the image is on its way, or was, and who waits for it has not come for it yet."""
        return image.reference in self._pulls

    def state(self, image: Image) -> str:
        """How far it is, as a sentence."""
        pull = self._pulls.get(image.reference)
        if pull is None or pull.task is None:
            bounds = f"{self._at_a_time} at a time on a host, {self._share} for a namespace"
            return f"The image {image.reference} waits for its turn to be pulled ({bounds})."
        return f"The image {image.reference} is being pulled: {pull.progress}."

    async def with_own_labels(self, document: Object, image: Image) -> Object:
        """A container's document, with which it gets no label of its image's that has a value.

        An engine gives a container all labels of its image, and a reverse proxy or another program may act upon them.
        None can be left out, but each be made empty. Raises ImageRefusedError for labels that are the operator's, and
        EngineError (404) where there is no such image.
        """
        labels = await self._labels_of(image.reference)
        if any(label.startswith(_OWN_LABELS) for label in labels):
            raise ImageRefusedError(
                f"The image {image.reference} has labels that begin with {_OWN_LABELS}, by which the operator knows"
                " what is its own: use one that is built without."
            )
        return {**document, "Labels": dict.fromkeys(labels, "") | document["Labels"]}

    async def _labels_of(self, reference: str) -> tuple[str, ...]:
        if (known := self._labels.get(reference)) is not None:
            return known
        if (found := await self._engine.image(reference)) is None:
            raise EngineError(404, f"No such image: {reference}")
        config = found.get("Config")
        labels = tuple((config.get("Labels") if isinstance(config, Mapping) else None) or {})
        if "sha256:" in reference and len(self._labels) < _MOST_LABELLED:
            self._labels[reference] = labels  # of what is named by a digest or an identifier, nothing ever changes
        return labels

    async def close(self) -> None:
        """End all pulls."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [pull.task for pull in self._pulls.values() if pull.task is not None]
        self._pulls.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        """Begin those whose turn it is."""
        running = [pull for pull in self._pulls.values() if pull.task is not None and not pull.task.done()]
        free = self._at_a_time - len(running)
        for reference, pull in self._pulls.items():
            if free <= 0:
                return
            if pull.task is not None:
                continue
            of = [one.namespace for one in running]
            # Of those who wait, the first whose namespace has a share left; with none the pull waits, and those behind
            # it don't.
            pull.namespace = next((one for one, _ in pull.waiters if of.count(one) < self._share), "")
            if pull.namespace:
                pull.task = asyncio.create_task(self._pull(pull), name=f"pull of {reference}")
                pull.task.add_done_callback(partial(self._ended, pull))
                running.append(pull)
                free -= 1

    async def _pull(self, pull: _Pull) -> None:
        await self._engine.pull(pull.image, await self._login(pull.image), pull.progress.tell)
        if self._store is not None and not pull.was_here:
            with contextlib.suppress(EngineError):  # then it stays for ever, as if somebody else had pulled it
                await self._store.mark(pull.image)

    def _ended(self, pull: _Pull, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            task.exception()  # told to whoever waits, if anybody does
        self._begin()
        for namespace, name in list(pull.waiters):
            self._wake(namespace, name)

    def _take(self, image: Image, pull: _Pull, waiter: Waiter) -> None:
        """Tell one of those who waited what became of it; the last takes it away."""
        assert pull.task is not None  # noqa: S101 - the caller looked
        pull.waiters.pop(waiter, None)
        if not pull.waiters:
            self._pulls.pop(image.reference, None)
        try:
            pull.task.result()
        except EngineError as error:
            if error.is_unreachable:
                raise
            raise ImageMissingError(f"The image {image.reference} can't be pulled: {error.message}") from None

    def _watch(self) -> None:
        """Look for what is abandoned as long as there are pulls, whether anybody asks for another or not."""
        if self._timer is None and self._pulls:
            self._timer = asyncio.get_running_loop().call_later(ABANDONED, self._look)

    def _look(self) -> None:
        self._timer = None
        self._end_abandoned()
        self._begin()
        self._watch()

    def _end_abandoned(self) -> None:
        """Forget who has not asked for long, and what nobody asks for."""
        long_ago = self._clock() - ABANDONED
        for reference, pull in list(self._pulls.items()):
            for waiter in [one for one, asked in pull.waiters.items() if asked < long_ago]:
                del pull.waiters[waiter]
            if not pull.waiters:
                del self._pulls[reference]
                if pull.task is not None:
                    pull.task.cancel()


def _mib(size: int) -> str:
    """Rounded, so that a status is not written for every byte."""
    mib = max(size >> 20, 0)
    return f"{mib if mib < 10 else mib // 10 * 10} MiB"
