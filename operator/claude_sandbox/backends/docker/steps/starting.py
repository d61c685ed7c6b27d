"""What goes into a sandbox's container from outside, its settings and its key, and that it runs with them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.apply import ForeignObjectError, StaleError
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.images.pulls import ImageMissingError
from claude_sandbox.backends.docker.images.tools import MARKER
from claude_sandbox.backends.docker.keys import delivery
from claude_sandbox.backends.docker.keys.delivery import Key, KeyUnavailableError
from claude_sandbox.backends.docker.keys.placeholder import is_placeholder
from claude_sandbox.backends.docker.model import CONTAINER, Delivered, Desired
from claude_sandbox.backends.docker.names import is_owned
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.steps.creation import create_container
from claude_sandbox.backends.docker.steps.networks import own_network
from claude_sandbox.backends.docker.written import Started

# What the reading of a key may show of one that runs already. One that is missing may be made again at this moment,
# which the next look at it tells.
_WITHDRAWN = (Reason.SECRET_NOT_OPTED_IN, Reason.SECRET_KEY_MISSING)


async def start(context: ApplyContext, desired: Desired) -> None:
    """Start the container with its settings and its key, unless it is on any network but its own by now.

    Raises EngineError, ForeignObjectError, StaleError, ImageMissingError, and KeyUnavailableError.
    """
    engine, key = context.engine, await context.read_key()
    generation = key.generation
    async with _helping(context, desired, key, settings=True) as helper:
        live, network = await _about_to_start(engine, desired, desired.documents.names.container, names.AGENT)
        identifier = str(live["Id"])
        await _see_tools(context, identifier)
        # Before the first write: should any of them fail, what was read in it before says nothing any more.
        context.changed(identifier)
        # The key first: a container that runs without one would be one that can't be worked with.
        await helper.deliver()
        await engine.start(identifier)
        # While the helper keeps the key in memory: whenever it was started since, it has the key. Somebody may have
        # removed the helper, though, and the key with it.
        now, kept = await asyncio.gather(engine.container(identifier), engine.container(helper.identifier))
    if now is None:
        raise StaleError
    if kept is not None and running(kept):
        inside = Delivered(generation, desired.settings, placeholder=is_placeholder(generation))
        context.results.started = Started(now, network, inside)


async def start_cloner(context: ApplyContext, desired: Desired) -> None:
    """Start what clones the sandbox's repositories, with the settings and the key that the sandbox has. Raises as
    `start` does."""
    engine, key = context.engine, await context.read_key()
    async with _helping(context, desired, key, settings=True) as helper:
        live, _ = await _about_to_start(engine, desired, desired.documents.names.cloner, names.CLONER)
        await helper.deliver()
        await engine.start(str(live["Id"]))


async def _see_tools(context: ApplyContext, identifier: str) -> None:
    """See that Claude Code is in the volume that is mounted, where that is not the image's own. Raises StaleError.

    An engine makes a volume that is missing without a word, and empty. With the container it can be filled again.
    """
    if context.blueprint.tools is None:
        return
    path = f"{context.blueprint.tools.directory}/{MARKER}"
    if await context.engine.read_file(identifier, path) is None:
        await context.engine.remove_container(identifier)
        context.results.removed.append(identifier)
        raise StaleError


async def _about_to_start(engine: Engine, desired: Desired, name: str, component: str) -> tuple[Object, Object]:
    """A container of the sandbox's, and its network, if it does not run and is on no other. Raises StaleError."""
    live, network = await asyncio.gather(engine.container(name), own_network(engine, desired))
    if live is None or not is_owned(live, desired.cluster, desired.identity, component) or running(live):
        raise StaleError
    on, own = drift.networks_of(live), desired.documents.names.network
    if set(on) != {own} or on[own] not in ("", network["Id"]):
        raise StaleError
    return live, network


async def deliver(context: ApplyContext, desired: Desired, identifier: str, *, settings: bool) -> None:
    """Bring a running container its key, and its settings where they are asked for; raises as `start` does.

    One whose Secret may no longer be used is removed.
    """
    try:
        key = await context.read_key()
    except KeyUnavailableError as error:
        if error.reason in _WITHDRAWN:
            # What it still has, nobody lets it have any more.
            await context.engine.remove_container(identifier)
            context.results.removed.append(identifier)
        raise
    try:
        async with _helping(context, desired, key, settings=settings) as helper:
            await helper.deliver()
    finally:
        # However it ended: the key may be in place although the helper's answer was lost.
        context.changed(identifier)


@asynccontextmanager
async def _helping(
    context: ApplyContext, desired: Desired, key: Key, *, settings: bool
) -> AsyncIterator[delivery.Helper]:
    """As `delivery.helping`. Raises ForeignObjectError where somebody else's container has the helper's name."""
    engine, wanted, image = context.engine, desired.documents, context.helper
    if image is None:
        key.wipe()
        raise ImageMissingError(
            "The operator has no image to bring the key with: have its administrator start it with --relay-image."
        )

    async def make(generation: str) -> str:
        document = delivery.helper(context.blueprint, wanted, desired.cluster, generation, image, settings=settings)
        return await create_container(context, wanted.names.helper, document, image)

    try:
        async with delivery.helping(engine, make, context.blueprint, key, settings=settings) as helper:
            # Noted at once: the helper goes with the block, whatever ends that.
            context.results.removed.append(helper.identifier)
            yield helper
    except EngineError as error:
        live = await engine.container(wanted.names.helper) if error.is_conflict else None
        if live is not None and not is_owned(live, desired.cluster, desired.identity, names.HELPER):
            raise ForeignObjectError(f"{CONTAINER} {wanted.names.helper}") from None
        raise
