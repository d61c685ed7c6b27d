"""A sandbox's gateway with its outer network: made, made again, told what it needs, taken away."""

import asyncio

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.apply import ForeignObjectError, StaleError
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.gateway import gateways
from claude_sandbox.backends.docker.gateway.gateways import Gateway
from claude_sandbox.backends.docker.keys.delivery import KeyUnavailableError
from claude_sandbox.backends.docker.keys.placeholder import placeholder_of
from claude_sandbox.backends.docker.model import CONTAINER, NETWORK, Desired, Step, Verb
from claude_sandbox.backends.docker.names import is_owned
from claude_sandbox.backends.docker.removal import remove_network
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.steps.creation import create_container
from claude_sandbox.backends.docker.steps.networks import create_network, own_network
from claude_sandbox.blueprint import agent

_WITHDRAWN = (Reason.SECRET_NOT_OPTED_IN, Reason.SECRET_KEY_MISSING)
_ENDED = (
    "the gateway ended before it had taken its configuration: see `docker logs` of its container; if that lasts, see"
    " that --relay-image names the operator's image of the operator's own version"
)


async def gateway_step(context: ApplyContext, desired: Desired, step: Step) -> None:
    """Make the gateway with its outer network, anew where there is one, tell it anew, or take both away.

    Raises EngineError, ForeignObjectError, StaleError, KeyUnavailableError, and what `Images.provide` raises.
    """
    engine, gateway = context.engine, desired.documents.gateway
    if step.verb is Verb.DELIVER and gateway is not None and step.live is not None:
        await _tell(context, desired, gateway, str(step.live["Id"]), start=False)
        return
    # The network first: where the rest is not done, the container tells that there is something left.
    outer = await engine.network(step.name)
    gone = gateway is None or step.verb is Verb.REMOVE
    if outer is not None and (gateway is None or gone or drift.network_differences(gateway.network, outer)):
        if not is_owned(outer, desired.cluster, desired.identity, names.GATEWAY_NETWORK):
            raise ForeignObjectError(f"{NETWORK} {step.name}")
        await remove_network(engine, str(outer["Id"]))
        outer = None
    if step.live is not None:
        await _remove(context, str(step.live["Id"]))
    if gateway is None or gone:
        return
    inner = await own_network(engine, desired)
    if outer is None:
        await create_network(context, gateway.network)
    await _run(context, desired, gateway, str(inner["Id"]))


async def _run(context: ApplyContext, desired: Desired, gateway: Gateway, inner: str) -> None:
    engine, name = context.engine, desired.documents.names.gateway
    try:
        identifier = await create_container(context, name, gateway.container, gateway.image)
    except EngineError as error:
        live = await engine.container(name) if error.is_conflict else None
        if live is not None and not is_owned(live, desired.cluster, desired.identity, names.GATEWAY):
            raise ForeignObjectError(f"{CONTAINER} {name}") from None
        raise
    try:
        # Before its start: it listens on the address that it has in the sandbox's network.
        await engine.connect(inner, identifier, aliases=(agent.GATEWAY_HOST,))
        await _tell(context, desired, gateway, identifier, start=True)
    except (EngineError, StaleError, KeyUnavailableError) as error:
        # One that was made and not told would be taken for a gateway. Of a silent engine nothing can be asked; the next
        # pass finds it with no revision.
        if not isinstance(error, EngineError) or not error.is_unreachable:
            await _remove(context, identifier)
        raise


async def _tell(context: ApplyContext, desired: Desired, gateway: Gateway, identifier: str, *, start: bool) -> None:
    """Give a gateway the key and its configuration, and wait until it follows them.

    Where it is to use none, its key goes in any case: one that can't be told so is removed.
    """
    try:
        await _told(context, desired, gateway, identifier, start=start)
    except (EngineError, KeyUnavailableError) as error:
        withdrawn = isinstance(error, KeyUnavailableError) and error.reason in _WITHDRAWN
        silent = isinstance(error, EngineError) and error.is_unreachable
        if withdrawn or (desired.keyless and not silent):
            # What it still has, nobody lets it have any more.
            await _remove(context, identifier)
        raise


async def _told(context: ApplyContext, desired: Desired, gateway: Gateway, identifier: str, *, start: bool) -> None:
    engine = context.engine
    # Of a key that is not to be used only the placeholder is made, which the sandbox has.
    key = await context.read_credential()
    try:
        generation = gateways.KEYLESS if desired.keyless else key.generation
        # In a thread: it takes tens of milliseconds on purpose.
        instead = await asyncio.to_thread(placeholder_of, key, desired.identity.uid)
        others = await context.read_others()
        value = None if desired.keyless else key.value
        line = gateways.message(gateway, value, generation, instead.value, others)
        instead.wipe()
        others.wipe()
    finally:
        key.wipe()
    session = None
    try:
        session = await engine.attach(identifier)
        if start:
            live = await engine.container(identifier)
            called = desired.documents.names
            if live is None or set(drift.networks_of(live)) != {called.gateway, called.network}:
                # Somebody has put it on another network since, or taken it off one. Nothing comes after this look but
                # the start.
                raise StaleError
            await engine.start(identifier)
        await session.send(line)
        await session.expect(gateways.taken(gateway.revision(generation)), _ENDED)
    finally:
        line[:] = bytes(len(line))
        if session is not None:
            await session.close()
    context.told(identifier, gateway.revision(generation))


async def _remove(context: ApplyContext, identifier: str) -> None:
    await context.engine.remove_container(identifier)
    context.results.removed.append(identifier)
