"""Carries out a plan, stage by stage, and says what became of it.

A missing object is created, never taken over: a container's and a network's name can be had once, and of a volume,
which an engine hands out again without a word, the labels are looked at. What is there is changed by its identifier.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import Cause, Failure, Healed, Outcome
from claude_sandbox.backends.docker import address_pools, drift, names
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError, ForeignObjectError
from claude_sandbox.backends.docker.images.pulls import (
    ImageMissingError,
    ImagePendingError,
    ImageRefusedError,
    Images,
)
from claude_sandbox.backends.docker.keys import delivery
from claude_sandbox.backends.docker.keys.delivery import Key, KeyUnavailableError
from claude_sandbox.backends.docker.names import is_owned, is_workspace_of
from claude_sandbox.backends.docker.plan import (
    CONTAINER,
    NETWORK,
    RELAY,
    SETTINGS,
    VOLUME,
    Desired,
    Inside,
    Plan,
    Step,
    Verb,
)
from claude_sandbox.backends.docker.relay import relays
from claude_sandbox.backends.docker.removal import remove_network
from claude_sandbox.backends.docker.written import Learned, Started
from claude_sandbox.blueprint.model import Blueprint, Image

# Seconds until an object in the way is looked at again, of which no event may tell.
FOREIGN_AGAIN = 10.0
# Seconds until a pass whose picture was behind is made again.
STALE_AGAIN = 1.0
# Seconds until it is told how far a pull is; its end is told at once.
PULL_AGAIN = 10.0
# Seconds until a port is tried again that the engine refused to publish: somebody else may have given it up.
PORTS_AGAIN = 30.0
# Another network may take the addresses between looking and creating; so often is another part of the pool tried.
_TRIES = 16
# What the reading of a key may show of one that runs already. One that is missing may be made again at this moment,
# which the next look at it tells.
_WITHDRAWN = (Reason.SECRET_NOT_OPTED_IN, Reason.SECRET_KEY_MISSING)
# In an engine's messages; of an endpoint, which is another one at each try.
_IDENTIFIER = re.compile(r" \([0-9a-f]{64}\)")

_RUNS = (Verb.CREATE, Verb.START, Verb.RESTART)

Pace = Callable[[], float]
"""Seconds until a paced step may be done; 0 for now, which then counts as done."""

ReadKey = Callable[[], Awaitable[Key]]
"""Reads the key of the sandbox's Secret. Raises KeyUnavailableError."""


class StaleError(Exception):
    """What was seen is not so any more; another look is due."""


@dataclass
class Hands:
    """What a plan is carried out with."""

    engine: Engine
    images: Images
    blueprint: Blueprint
    read_key: ReadKey
    changed: Callable[[str], None]
    """Told of each container that something is delivered to, or that is started."""
    made: Callable[[str], None]
    """Told of the sandbox's container as soon as there is one: what happens to it from then on has to be heard."""
    learned: Learned
    """Of this pass."""
    pace_key: Pace = lambda: 0.0
    """Of helper containers: whatever makes another one necessary, it is not made without end."""
    helper: Image | None = None
    """What brings the key: the operator's own image. None: none can be brought."""
    refusal: str = ""
    """Why the sandbox's image must not be run on the host; empty where it may be."""
    pace_relay: Pace = lambda: 0.0
    """Of the relay, which has nothing to do with how often the sandbox itself is replaced."""
    published: Mapping[str, int] = field(default_factory=dict)
    """The host's ports that declared ones had before, by their names."""
    pool: IPv4Network | None = address_pools.POOL
    """Where sandboxes' networks get their addresses; None: from the engine's own pools."""

    @property
    def waiter(self) -> tuple[str, str]:
        """Who waits for what takes long."""
        return self.blueprint.identity.namespace, self.blueprint.identity.name


async def carry_out(hands: Hands, desired: Desired, wanted: Plan, pace: Pace) -> Outcome:
    """Do what the plan says. Stops after the first stage that did not wholly succeed; never raises EngineError."""
    found = _Found()
    for stage in wanted.stages:
        if (wait := _wait(hands, stage, pace)) > 0:
            # What comes after it would need it done.
            found.paced = wait
            break
        results = await asyncio.gather(*(_do(hands, desired, step) for step in stage), return_exceptions=True)
        for step, result in zip(stage, results, strict=True):
            found.note(step, result)
        if found.foreign or found.stale:
            found.paced = FOREIGN_AGAIN if found.foreign else STALE_AGAIN
        if found.failure or found.paced is not None:
            break
    if wanted.foreign and found.paced is None:
        found.paced = FOREIGN_AGAIN
    done = found.done
    return Outcome(
        created=(
            *_said(done, (Verb.CREATE,), (Cause.PROVISION, Cause.UPDATE)),
            # What an earlier pass had only begun to make.
            *_said(done, (Verb.REPLACE,), (Cause.PROVISION,)),
        ),
        updated=_said(done, (Verb.UPDATE, Verb.REPLACE, Verb.DELIVER), (Cause.UPDATE,)),
        removed=_said(done, (Verb.REMOVE,), (Cause.UPDATE,)),
        healed=tuple(_healed(step) for step in done if step.cause is Cause.HEAL),
        foreign=(*wanted.foreign, *found.foreign),
        drifted=wanted.drifted,
        spec_changed=wanted.spec_changed,
        ended=next((_uid(step) for step in done if _ends(step)), None),
        key_sent=any(step.verb is Verb.DELIVER for step in done),
        paced=found.paced,
        failure=found.failure,
        unpublished=found.unpublished,
        stale=found.stale,
    )


@dataclass
class _Found:
    """What became of a plan's steps so far."""

    done: list[Step] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    failure: Failure | None = None
    unpublished: str = ""
    paced: float | None = None
    stale: bool = False

    def note(self, step: Step, result: BaseException | None) -> None:
        """Take in one step's result. Raises what is neither the engine's doing nor the key's."""
        if result is None:
            self.done.append(step)
        elif isinstance(result, ForeignObjectError):
            self.foreign.append(str(result))
        elif isinstance(result, StaleError):
            self.stale = True
        elif isinstance(result, ImagePendingError):
            self.paced = PULL_AGAIN
        elif isinstance(result, ImageRefusedError):
            self.failure = Failure(Reason.IMAGE_NOT_ALLOWED, str(result), permanent=True)
        elif isinstance(result, EngineError | ImageMissingError | KeyUnavailableError):
            if why := _unpublished(step, result):
                self.unpublished, self.paced = why, PORTS_AGAIN
            else:
                self.failure = self.failure or explain(step, result)
        else:
            raise result


def _wait(hands: Hands, stage: tuple[Step, ...], pace: Pace) -> float:
    """Seconds until a stage may be carried out."""
    if any(step.paced for step in stage):
        wait = (hands.pace_relay if any(step.kind == RELAY for step in stage) else pace)()
        if wait > 0:
            return wait
    return hands.pace_key() if any(step.brings_key for step in stage) else 0.0


def _unpublished(step: Step, error: EngineError | ImageMissingError | KeyUnavailableError) -> str:
    """Why declared ports are not published, as something that a person can act upon; empty where it is not that."""
    if step.kind != RELAY or isinstance(error, KeyUnavailableError):
        return ""
    if isinstance(error, EngineError) and error.is_unreachable:
        return ""
    if isinstance(error, ImageMissingError):
        return f"No port of spec.network.ports is published, for want of the relay's image (--relay-image): {error}"
    said = _IDENTIFIER.sub("", error.message)
    return (
        f"No port of spec.network.ports is published: the Docker host answers: {said}. Where a port is taken,"
        " write another hostPort or leave it out; it is tried again."
    )


def explain(step: Step, error: EngineError | ImageMissingError | KeyUnavailableError) -> Failure:
    """What went wrong, as something that a person can act upon."""
    what = f"{step.verb.value} {step.kind} {step.name}"
    if isinstance(error, ImageMissingError):
        return Failure(Reason.IMAGE_PULL_FAILED, str(error), permanent=False)
    if isinstance(error, KeyUnavailableError):
        return Failure(error.reason, str(error), permanent=error.reason is not Reason.RETRYING)
    if error.is_invalid:
        return Failure(Reason.REJECTED, f"The Docker host refused to {what}: {error.message}", permanent=True)
    if "address pool" in error.message or "fully subnetted" in error.message:
        remedy = "Give it more with `default-address-pools` in its daemon.json."
        return Failure(Reason.RETRYING, f"The Docker host has no addresses left for a network. {remedy}", False)
    return Failure(Reason.RETRYING, f"Could not {what}: {error}", permanent=False)


async def _do(hands: Hands, desired: Desired, step: Step) -> None:
    try:
        await _by_kind(hands, desired, step)
    except EngineError as error:
        # What it was decided upon is gone, or no longer as it was: a container can't be unpaused that is not paused.
        # A volume that somebody else's container has mounted stays as it is, and that has to be said.
        behind = error.is_conflict and not (step.kind == VOLUME and step.verb is Verb.REPLACE)
        if behind or (error.is_not_found and not error.is_image_missing):
            raise StaleError from None
        raise


async def _by_kind(hands: Hands, desired: Desired, step: Step) -> None:
    match step.kind:
        case "Network":
            await _network(hands, desired, step)
        case "Relay":
            await _relay(hands, desired, step)
        case "Volume" if step.verb is not Verb.DELIVER:
            await _volume(hands, desired, step)
        case _:
            await _container(hands, desired, step)


async def _network(hands: Hands, desired: Desired, step: Step) -> None:
    engine = hands.engine
    if step.verb is Verb.CREATE:
        await _create_network(hands, desired.documents.network)
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
    if live is not None and not is_owned(live, desired.cluster, desired.identity, names.NETWORK):
        raise ForeignObjectError(f"{NETWORK} {step.name}")
    await engine.remove_network(identifier)
    await _create_network(hands, desired.documents.network)


async def _relay(hands: Hands, desired: Desired, step: Step) -> None:
    """Make the relay with its outer network, anew where there is one, or take both away."""
    engine, relay = hands.engine, desired.documents.relay
    # The network first: where the rest is not done, the container tells that there is something left.
    outer = await engine.network(step.name)
    if outer is not None and (relay is None or step.verb is Verb.REMOVE or _differs(relay, outer)):
        if not is_owned(outer, desired.cluster, desired.identity, names.OUTER):
            raise ForeignObjectError(f"{NETWORK} {step.name}")
        await remove_network(engine, str(outer["Id"]))
        outer = None
    if step.live is not None:
        await engine.remove_container(str(step.live["Id"]))
        hands.learned.removed.append(str(step.live["Id"]))
    if relay is None or step.verb is Verb.REMOVE:
        return
    inner = await _own_network(engine, desired)
    if outer is None:
        await _create_network(hands, relay.network)
    try:
        await _run_relay(hands, desired, relay, str(inner["Id"]), hands.published)
    except EngineError as error:
        # Somebody may have taken a port of the host that any other would do for.
        if error.is_unreachable or not hands.published:
            raise
        await _run_relay(hands, desired, relay, str(inner["Id"]), {})


def _differs(relay: relays.Relay, outer: Object) -> bool:
    return bool(drift.network_differences(relay.network, outer))


async def _run_relay(
    hands: Hands, desired: Desired, relay: relays.Relay, inner: str, published: Mapping[str, int]
) -> None:
    engine, name = hands.engine, desired.documents.names.relay
    document = relays.with_ports(relay.container, published, relay.ports)
    try:
        identifier = await _made(hands, name, document, relay.image)
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
        if isinstance(error, StaleError) or not error.is_unreachable:
            await engine.remove_container(identifier)
            hands.learned.removed.append(identifier)
        raise


async def _create_network(hands: Hands, document: Object) -> None:
    if hands.pool is None:
        await hands.engine.create_network(document)
        return
    # An engine refuses addresses that are taken, and there are far more than networks: asked for only where it does.
    taken: tuple[IPv4Network, ...] = ()
    for number in range(_TRIES):
        subnet = next(address_pools.candidates(hands.pool, document["Name"], taken), None)
        if subnet is None:
            break
        try:
            await hands.engine.create_network({**document, "IPAM": {"Config": [{"Subnet": str(subnet)}]}})
        except EngineError as error:
            if not error.is_pool_overlap or number == _TRIES - 1:
                raise
            taken = (subnet, *taken, *address_pools.taken_by(await hands.engine.networks()))
        else:
            return
    raise EngineError(400, f"no addresses are left in {hands.pool} for another sandbox's network")


async def _volume(hands: Hands, desired: Desired, step: Step) -> None:
    document = next(volume for volume in desired.documents.volumes if volume["Name"] == step.name)
    if step.verb is Verb.REPLACE:
        await hands.engine.remove_volume(step.name)
    live = await hands.engine.create_volume(document)
    if drift.volume_differences(document, live) or not _is_ours(desired, live):
        raise ForeignObjectError(f"{VOLUME} {step.name}")
    hands.learned.volumes[step.name] = live


def _is_ours(desired: Desired, live: Object) -> bool:
    if live["Name"] == desired.documents.names.workspace:
        return is_workspace_of(live, desired.cluster, desired.identity)
    return any(is_owned(live, desired.cluster, desired.identity, one) for one in (names.KEY, names.SETTINGS))


async def _container(hands: Hands, desired: Desired, step: Step) -> None:
    engine, live = hands.engine, step.live
    # What runs goes on: it is not removed for one that could not be made.
    if hands.refusal and (step.verb in _RUNS or (step.cause is Cause.UPDATE and not desired.suspended)):
        raise ImageRefusedError(hands.refusal)
    match step.verb:
        case Verb.CREATE:
            await _create(hands, desired)
        case Verb.START:
            await _start(hands, desired)
        case _ if live is not None:
            await _change(hands, desired, step, live)
        case _:
            raise AssertionError(f"{engine} {step.verb}: the planner names what it is done to")


async def _change(hands: Hands, desired: Desired, step: Step, live: Object) -> None:
    engine, identifier = hands.engine, str(live["Id"])
    match step.verb:
        case Verb.REMOVE:
            if running(live) and step.cause is not Cause.PROVISION and not step.at_once:
                await engine.stop(identifier, hands.blueprint.grace_seconds)
            await engine.remove_container(identifier)
            hands.learned.removed.append(identifier)
        case Verb.RENAME:
            await engine.rename(identifier, step.name)
        case Verb.UPDATE:
            host = desired.documents.container["HostConfig"]
            await engine.update(identifier, {key: host[key] for key in sorted(drift.UPDATABLE)})
        case Verb.UNPAUSE:
            await engine.unpause(identifier)
        case Verb.RESTART:
            # Not the engine's own restart: the volume for the key is empty after it.
            await engine.stop(identifier, hands.blueprint.grace_seconds)
            await _start(hands, desired)
        case Verb.DISCONNECT:
            await engine.disconnect(step.other, identifier)
        case Verb.CONNECT:
            network = await _own_network(engine, desired)
            await engine.connect(str(network["Id"]), identifier)
        case Verb.DELIVER:
            await _deliver(hands, desired, identifier, settings=SETTINGS in step.paths)
        case _:
            raise AssertionError(f"{step.verb} is nothing that is done to a container")


async def _create(hands: Hands, desired: Desired) -> None:
    called, image = desired.documents.names, hands.blueprint.image
    if image.pull_policy == "Always" or hands.images.pulls(image):
        await hands.images.provide(image, hands.waiter)
    try:
        hands.made(await _made(hands, called.container, desired.documents.container, image, theirs=True))
    except EngineError as error:
        if not error.is_conflict:
            raise
        live = await hands.engine.container(called.container)
        if live is not None and not is_owned(live, desired.cluster, desired.identity, names.AGENT):
            raise ForeignObjectError(f"{CONTAINER} {called.container}") from None
        # An earlier try of this very create, whose answer was lost.
        raise StaleError from None


async def _made(hands: Hands, name: str, document: Object, image: Image, *, theirs: bool = False) -> str:
    """The identifier of a new container, whose image is fetched only where the engine says that it has none.

    `theirs`: the image is not the operator's own, and its labels are to reach nobody.
    """

    async def make() -> str:
        wanted = await hands.images.with_own_labels(document, image) if theirs else document
        return await hands.engine.create_container(name, wanted)

    try:
        return await make()
    except EngineError as error:
        if not error.is_image_missing:
            raise
        await hands.images.provide(image, hands.waiter)
        return await make()


async def _start(hands: Hands, desired: Desired) -> None:
    """Start the container with its settings and its key, unless it is on any network but its own by now."""
    engine, key = hands.engine, await hands.read_key()
    generation = key.generation
    async with _helping(hands, desired, key, settings=True) as helper:
        live, network = await asyncio.gather(_about_to_start(engine, desired), _own_network(engine, desired))
        if drift.networks_of(live)[desired.documents.names.network] not in ("", network["Id"]):
            raise StaleError
        identifier = str(live["Id"])
        hands.changed(identifier)
        await helper.deliver()
        await engine.start(identifier)
        # While the helper keeps the key in memory: whenever it was started since, it has the key. Somebody may have
        # removed the helper, though, and the key with it.
        now, kept = await asyncio.gather(engine.container(identifier), engine.container(helper.identifier))
    if now is None:
        raise StaleError
    if kept is not None and running(kept):
        hands.learned.started = Started(now, network, Inside(generation, desired.settings))


async def _about_to_start(engine: Engine, desired: Desired) -> Object:
    """The sandbox's container, if it does not run and is on no network but its own. Raises StaleError."""
    called = desired.documents.names
    live = await engine.container(called.container)
    if live is None or not is_owned(live, desired.cluster, desired.identity, names.AGENT) or running(live):
        raise StaleError
    if set(drift.networks_of(live)) != {called.network}:
        raise StaleError
    return live


async def _deliver(hands: Hands, desired: Desired, identifier: str, *, settings: bool) -> None:
    try:
        key = await hands.read_key()
    except KeyUnavailableError as error:
        if error.reason in _WITHDRAWN:
            # What it still has, nobody lets it have any more.
            await hands.engine.remove_container(identifier)
            hands.learned.removed.append(identifier)
        raise
    try:
        async with _helping(hands, desired, key, settings=settings) as helper:
            await helper.deliver()
    finally:
        hands.changed(identifier)


@asynccontextmanager
async def _helping(hands: Hands, desired: Desired, key: Key, *, settings: bool) -> AsyncIterator[delivery.Helper]:
    """As `delivery.helping`. Raises ForeignObjectError where somebody else's container has the helper's name."""
    engine, wanted, image = hands.engine, desired.documents, hands.helper
    if image is None:
        key.wipe()
        raise ImageMissingError(
            "The operator has no image to bring the key with: have its administrator start it with --relay-image."
        )

    async def make(generation: str) -> str:
        document = delivery.helper(hands.blueprint, wanted, desired.cluster, generation, image, settings=settings)
        return await _made(hands, wanted.names.helper, document, image)

    try:
        async with delivery.helping(engine, make, hands.blueprint, key, settings=settings) as helper:
            hands.learned.removed.append(helper.identifier)
            yield helper
    except EngineError as error:
        live = await engine.container(wanted.names.helper) if error.is_conflict else None
        if live is not None and not is_owned(live, desired.cluster, desired.identity, names.HELPER):
            raise ForeignObjectError(f"{CONTAINER} {wanted.names.helper}") from None
        raise


async def _own_network(engine: Engine, desired: Desired) -> Object:
    """The sandbox's network, if it is as it should be. Raises StaleError."""
    live = await engine.network(desired.documents.names.network)
    if live is None or not is_owned(live, desired.cluster, desired.identity, names.NETWORK):
        raise StaleError
    if drift.network_differences(desired.documents.network, live):
        raise StaleError
    return live


def _said(done: list[Step], verbs: tuple[Verb, ...], causes: tuple[Cause, ...]) -> tuple[str, ...]:
    return tuple(f"{step.kind} {step.name}" for step in done if step.verb in verbs and step.cause in causes)


def _ends(step: Step) -> bool:
    return step.kind == CONTAINER and step.verb is Verb.REMOVE and step.cause is not Cause.PROVISION


def _uid(step: Step) -> str:
    assert step.live is not None  # noqa: S101 - the planner's promise
    return str(step.live["Id"])


_REASONS = {Verb.CREATE: "Missing", Verb.DELIVER: "Missing", Verb.REMOVE: "Ended", Verb.START: "Ended"}


def _healed(step: Step) -> Healed:
    return Healed(step.kind, step.name, step.reason or _REASONS.get(step.verb, "Drifted"), step.paths)
