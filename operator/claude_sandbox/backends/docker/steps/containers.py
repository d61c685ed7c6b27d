"""A sandbox's container: made, changed in place, ended."""

from claude_sandbox.backends.apply import ForeignObjectError, StaleError
from claude_sandbox.backends.base import Cause
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.images.pulls import ImageRefusedError
from claude_sandbox.backends.docker.model import CONTAINER, SETTINGS, Desired, Step, Verb
from claude_sandbox.backends.docker.names import is_owned
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.steps.creation import create_container
from claude_sandbox.backends.docker.steps.networks import own_network
from claude_sandbox.backends.docker.steps.starting import deliver, start

_RUNS = (Verb.CREATE, Verb.START, Verb.RESTART)


async def container_step(context: ApplyContext, desired: Desired, step: Step) -> None:
    """Raises EngineError, ForeignObjectError, StaleError, KeyUnavailableError, and what `Images.provide` raises."""
    engine, live = context.engine, step.live
    # What runs goes on: it is not removed for one that could not be made.
    if context.refusal and (step.verb in _RUNS or (step.cause is Cause.UPDATE and not desired.suspended)):
        raise ImageRefusedError(context.refusal)
    match step.verb:
        case Verb.CREATE:
            await _create(context, desired, step.cloned)
        case Verb.START:
            await start(context, desired)
        case _ if live is not None:
            await _change(context, desired, step, live)
        case _:
            raise AssertionError(f"{engine} {step.verb}: the planner names what it is done to")


async def _change(context: ApplyContext, desired: Desired, step: Step, live: Object) -> None:
    engine, identifier = context.engine, str(live["Id"])
    match step.verb:
        case Verb.REMOVE:
            # A removal by force gives nobody time to end: agents get their grace, helpers and who has a withdrawn key
            # don't.
            if running(live) and step.cause is not Cause.PROVISION and not step.at_once:
                await engine.stop(identifier, context.blueprint.grace_seconds)
            await engine.remove_container(identifier)
            context.results.removed.append(identifier)
        case Verb.RENAME:
            await engine.rename(identifier, step.name)
        case Verb.UPDATE:
            host = desired.documents.container["HostConfig"]
            # All of them, not those that differ: engines check limits against each other (memory and its swap).
            await engine.update(identifier, {key: host[key] for key in sorted(drift.UPDATABLE)})
        case Verb.UNPAUSE:
            await engine.unpause(identifier)
        case Verb.RESTART:
            # Not the engine's own restart: the volume for the key is empty after it.
            await engine.stop(identifier, context.blueprint.grace_seconds)
            await start(context, desired)
        case Verb.DISCONNECT:
            await engine.disconnect(step.other, identifier)
        case Verb.CONNECT:
            network = await own_network(engine, desired)
            await engine.connect(str(network["Id"]), identifier)
        case Verb.DELIVER:
            await deliver(context, desired, identifier, settings=SETTINGS in step.paths)
        case _:
            raise AssertionError(f"{step.verb} is nothing that is done to a container")


async def _create(context: ApplyContext, desired: Desired, cloned: str) -> None:
    called, image, document = desired.documents.names, context.blueprint.image, desired.documents.container
    if cloned:
        document = {**document, "Labels": {**document["Labels"], names.LABEL_CLONED: cloned}}
    if (shared := await context.provide_tools()) is not None:
        context.results.volumes[str(shared["Name"])] = shared
    # Where a pull has ended, who waited for it takes its result here, and with it the pull.
    if image.pull_policy == "Always" or context.images.pulls(image):
        await context.images.provide(image, context.waiter)
    try:
        context.made(await create_container(context, called.container, document, image, theirs=True))
    except EngineError as error:
        if not error.is_conflict:
            raise
        live = await context.engine.container(called.container)
        if live is not None and not is_owned(live, desired.cluster, desired.identity, names.AGENT):
            raise ForeignObjectError(f"{CONTAINER} {called.container}") from None
        # An earlier try of this very create, whose answer was lost.
        raise StaleError from None
