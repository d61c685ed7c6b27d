"""The images that containers are made of: fetched in the background, since that may take minutes."""

import asyncio

from claude_sandbox.backends.docker.engine import Engine
from claude_sandbox.backends.docker.errors import EngineError
from claude_sandbox.blueprint.model import Image

# Seconds that a pass waits for a pull before it says so and comes back later.
PATIENCE = 2.0


class ImagePendingError(Exception):
    """The image is still being pulled; look again later."""


class ImageMissingError(Exception):
    """The image can't be had; the message says why and what to do."""


class Images:
    """One engine's pulls: one at a time for each image, however many sandboxes wait for it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pulls: dict[str, asyncio.Task[None]] = {}

    async def provide(self, image: Image) -> None:
        """Have the image on the engine, as its pull policy says.

        Raises ImagePendingError, ImageMissingError, and EngineError where the engine could not be asked.
        """
        here = await self._engine.image(image.reference) is not None
        if image.reference in self._pulls:
            return await self._wait(image)
        if here and image.pull_policy != "Always":
            return None
        if image.pull_policy == "Never":
            raise ImageMissingError(
                f"The image {image.reference} is not on the Docker host, and pullPolicy Never forbids to pull it: "
                "load it there (`docker load`), or set spec.image.pullPolicy to IfNotPresent."
            )
        self._pulls[image.reference] = asyncio.create_task(self._engine.pull(image.reference))
        return await self._wait(image)

    def pulls(self, image: Image) -> bool:
        """Whether the image is on its way."""
        return image.reference in self._pulls

    async def close(self) -> None:
        """Wait for none of the pulls any more."""
        pulls = list(self._pulls.values())
        self._pulls.clear()
        for task in pulls:
            task.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)

    async def _wait(self, image: Image) -> None:
        task = self._pulls[image.reference]
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        if not done:
            raise ImagePendingError(f"The image {image.reference} is being pulled.")
        self._pulls.pop(image.reference, None)
        try:
            task.result()
        except EngineError as error:
            if error.is_unreachable:
                raise
            raise ImageMissingError(f"The image {image.reference} can't be pulled: {error.message}") from None
