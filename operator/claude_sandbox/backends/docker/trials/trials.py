"""Another image is tried beside a sandbox, in a container of its own on the sandbox's host.

Theory of operation. It holds nothing: what there is, the engine says. A sandbox has one such container at a time, by
its name, and of which image that is its document tells. It is on no network from its making on, and has of the sandbox
its settings for reading alone, so that it needs no order in which it is protected. What a crash leaves is looked at by
the next pass that asks for it, and goes with the sandbox at the latest; it ends by itself before that. Called by the
one pass at work on a sandbox.
"""

import asyncio

from claude_sandbox.backends.base import Trial
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.threads import of_tenant
from claude_sandbox.backends.docker.images.pulls import (
    ImageMissingError,
    ImagePendingError,
    ImagePulls,
    ImageRefusedError,
)
from claude_sandbox.backends.docker.images.tools import ToolsVolumes
from claude_sandbox.backends.docker.names import is_owned, names_of
from claude_sandbox.backends.docker.trials.container import document, is_new, trial_of
from claude_sandbox.blueprint.model import Blueprint, Identity

_ENOUGH = 60.0
"""Seconds for what one pass asks of an engine about it."""
_NOT_SEEN = Trial(seen=False)


class DockerTrials:
    """On one host."""

    def __init__(self, engine: Engine, cluster: str, images: ImagePulls, tools: ToolsVolumes) -> None:
        self._engine = engine
        self._cluster = cluster
        self._images = images
        self._tools = tools

    async def look(self, identity: Identity) -> Trial:
        """What is seen of it."""
        try:
            async with asyncio.timeout(_ENOUGH):
                with of_tenant(identity.namespace):
                    live = await self._live(identity)
        except (EngineError, TimeoutError):
            return _NOT_SEEN
        return Trial() if live is None else trial_of(live)

    async def begin(self, canary: Blueprint) -> Trial:
        """Have it run, of the canary's image."""
        identity = canary.identity
        try:
            async with asyncio.timeout(_ENOUGH):
                with of_tenant(identity.namespace):
                    return await self._begin(canary)
        except (ImageMissingError, ImageRefusedError, ImagePendingError) as error:
            return Trial(message=str(error))
        except EngineError as error:
            return _NOT_SEEN if error.is_unreachable else Trial(message=f"it can't be made: {error}")
        except TimeoutError:
            return _NOT_SEEN

    async def end(self, identity: Identity) -> bool:
        """Whether it is gone."""
        try:
            async with asyncio.timeout(_ENOUGH):
                with of_tenant(identity.namespace):
                    if (live := await self._live(identity)) is not None:
                        await self._engine.remove_container(str(live["Id"]))
        except EngineError as error:
            # What has its name and is another's was never made by this.
            return error.is_conflict
        except TimeoutError:
            return False
        return True

    async def _begin(self, canary: Blueprint) -> Trial:
        identity, image = canary.identity, canary.image
        live = await self._live(identity)
        if live is not None and not self._is_of(live, canary):
            await self._engine.remove_container(str(live["Id"]))
            live = None
        if live is None:
            waiter = identity.namespace, identity.name
            if canary.tools is not None:
                await self._tools.provide(canary.tools, waiter)
            await self._images.provide(image, waiter)
            body = document(canary, self._cluster, await self._engine.capabilities())
            name = names_of(self._cluster, identity).canary
            await self._engine.create_container(name, await self._images.with_own_labels(body, image))
            live = await self._live(identity)
        # Also one that an earlier pass made, and did not come to start.
        if live is not None and is_new(live):
            try:
                await self._engine.start(str(live["Id"]))
            except EngineError as error:
                # Of what can't be started the engine keeps why.
                if error.is_unreachable:
                    raise
            live = await self._live(identity)
        return Trial() if live is None else trial_of(live)

    def _is_of(self, live: Object, canary: Blueprint) -> bool:
        """Whether it is of that image, and has not been ended from outside."""
        named = (live.get("Config") or {}).get("Image")
        return named == canary.image.reference and bool(is_new(live) or trial_of(live).uid)

    async def _live(self, identity: Identity) -> Object | None:
        """The sandbox's own. Raises EngineError where somebody else's has its name."""
        name = names_of(self._cluster, identity).canary
        live = await self._engine.container(name)
        if live is None or is_owned(live, self._cluster, identity, names.CANARY):
            return live
        raise EngineError(409, f"a container of others has the name {name}: remove or rename it")
