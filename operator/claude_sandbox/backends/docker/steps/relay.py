"""A sandbox's relay with its outer network: made, made again, taken away."""

from collections.abc import Mapping

from claude_sandbox.backends.apply import ForeignObjectError, StaleError
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.model import CONTAINER, NETWORK, Desired, Step, Verb
from claude_sandbox.backends.docker.names import is_owned
from claude_sandbox.backends.docker.relay import relays
from claude_sandbox.backends.docker.removal import remove_network
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.steps.creation import create_container
from claude_sandbox.backends.docker.steps.networks import create_network, own_network


async def relay_step(context: ApplyContext, desired: Desired, step: Step) -> None:
    """Make the relay with its outer network, anew where there is one, or take both away.

    Raises EngineError, ForeignObjectError, StaleError, and what `Images.provide` raises.
    """
    engine, relay = context.engine, desired.documents.relay
    # The network first: where the rest is not done, the container tells that there is something left.
    outer = await engine.network(step.name)
    if outer is not None and (relay is None or step.verb is Verb.REMOVE or _differs(relay, outer)):
        if not is_owned(outer, desired.cluster, desired.identity, names.OUTER):
            raise ForeignObjectError(f"{NETWORK} {step.name}")
        await remove_network(engine, str(outer["Id"]))
        outer = None
    if step.live is not None:
        await engine.remove_container(str(step.live["Id"]))
        context.results.removed.append(str(step.live["Id"]))
    if relay is None or step.verb is Verb.REMOVE:
        return
    inner = await own_network(engine, desired)
    if outer is None:
        await create_network(context, relay.network)
    try:
        await _run_relay(context, desired, relay, str(inner["Id"]), context.published)
    except EngineError as error:
        # Somebody may have taken a port of the host that any other would do for.
        if error.is_unreachable or not context.published:
            raise
        await _run_relay(context, desired, relay, str(inner["Id"]), {})


def _differs(relay: relays.Relay, outer: Object) -> bool:
    return bool(drift.network_differences(relay.network, outer))


async def _run_relay(
    context: ApplyContext, desired: Desired, relay: relays.Relay, inner: str, published: Mapping[str, int]
) -> None:
    engine, name = context.engine, desired.documents.names.relay
    document = relays.with_ports(relay.container, published, relay.ports)
    try:
        identifier = await create_container(context, name, document, relay.image)
    except EngineError as error:
        live = await engine.container(name) if error.is_conflict else None
        if live is not None and not is_owned(live, desired.cluster, desired.identity, names.RELAY):
            raise ForeignObjectError(f"{CONTAINER} {name}") from None
        raise
    try:
        await engine.connect(inner, identifier)
        live = await engine.container(identifier)
        if live is None or set(drift.networks_of(live)) != {name, desired.documents.names.network}:
            # Somebody has put it on another network since, or taken it off one.
            raise StaleError
        await engine.start(identifier)
    except (EngineError, StaleError) as error:
        # One on other networks than its own is left for nobody to start. Of a silent engine that can't be asked.
        if isinstance(error, StaleError) or not error.is_unreachable:
            await engine.remove_container(identifier)
            context.results.removed.append(identifier)
        raise
