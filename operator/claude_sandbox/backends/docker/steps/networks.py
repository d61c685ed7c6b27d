"""A sandbox's network: made, emptied, made again."""

from ipaddress import IPv4Network

from claude_sandbox.backends.apply import ForeignObjectError, StaleError
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.model import NETWORK, Desired, Step, Verb
from claude_sandbox.backends.docker.names import is_owned
from claude_sandbox.backends.docker.steps import address_pools
from claude_sandbox.backends.docker.steps.context import ApplyContext

# Another network may take the addresses between looking and creating; so often is another part of the pool tried.
_TRIES = 16


async def network_step(context: ApplyContext, desired: Desired, step: Step) -> None:
    """Create or replace the sandbox's network, or take a stranger off it. Raises EngineError, ForeignObjectError."""
    engine = context.engine
    if step.verb is Verb.CREATE:
        await create_network(context, desired.documents.network)
        return
    assert step.live is not None  # noqa: S101 - the planner's promise
    identifier = str(step.live["Id"])
    if step.verb is Verb.DISCONNECT:
        await engine.disconnect(identifier, step.other)
        return
    # It may lead out: whoever is on it is taken off before anything else.
    live = await engine.network(identifier)
    for member in (live or {}).get("Containers") or {}:
        await engine.disconnect(identifier, member)
    # Read anew, since the plan's look: one that is not the sandbox's is not removed, whatever it is called.
    if live is not None and not is_owned(live, desired.cluster, desired.identity, names.NETWORK):
        raise ForeignObjectError(f"{NETWORK} {step.name}")
    await engine.remove_network(identifier)
    await create_network(context, desired.documents.network)


async def create_network(context: ApplyContext, document: Object) -> None:
    """Create a network, with free addresses of the sandboxes' pool where there is one. Raises EngineError."""
    if context.pool is None:
        await context.engine.create_network(document)
        return
    # An engine refuses addresses that are taken, and there are far more than networks: asked for only where it does.
    taken: tuple[IPv4Network, ...] = ()
    for number in range(_TRIES):
        subnet = next(address_pools.candidates(context.pool, document["Name"], taken), None)
        if subnet is None:
            break
        try:
            await context.engine.create_network({**document, "IPAM": {"Config": [{"Subnet": str(subnet)}]}})
        except EngineError as error:
            if not error.is_pool_overlap or number == _TRIES - 1:
                raise
            taken = (subnet, *taken, *address_pools.taken_by(await context.engine.networks()))
        else:
            return
    raise EngineError(400, f"no addresses are left in {context.pool} for another sandbox's network")


async def own_network(engine: Engine, desired: Desired) -> Object:
    """The sandbox's network, if it is as it should be. Raises StaleError."""
    live = await engine.network(desired.documents.names.network)
    if live is None or not is_owned(live, desired.cluster, desired.identity, names.NETWORK):
        raise StaleError
    if drift.network_differences(desired.documents.network, live):
        raise StaleError
    return live
