"""What clones a sandbox's repositories: made, started, given another key."""

from claude_sandbox.backends.apply import ForeignObjectError, StaleError
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.images.pulls import ImageRefusedError
from claude_sandbox.backends.docker.model import CONTAINER, Desired, Step, Verb
from claude_sandbox.backends.docker.names import is_owned
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.steps.creation import create_container
from claude_sandbox.backends.docker.steps.starting import deliver, start_cloner


async def cloner_step(context: ApplyContext, desired: Desired, step: Step) -> None:
    """Raises EngineError, ForeignObjectError, StaleError, KeyUnavailableError, and what `Images.provide` raises."""
    if context.refusal:
        # Nothing is cloned for a sandbox that will not be.
        raise ImageRefusedError(context.refusal)
    match step.verb:
        case Verb.CREATE:
            await _create(context, desired)
        case Verb.START:
            await start_cloner(context, desired)
        case Verb.DELIVER if step.live is not None:
            await deliver(context, desired, str(step.live["Id"]), settings=False)
        case _:
            raise AssertionError(f"{step.verb} is nothing that is done to what clones")


async def _create(context: ApplyContext, desired: Desired) -> None:
    name, document, git = desired.documents.names.cloner, desired.documents.cloner, context.blueprint.git
    assert document is not None and git is not None  # noqa: S101, PT018 - the planner's promise
    try:
        context.made(await create_container(context, name, document, git.image))
    except EngineError as error:
        if not error.is_conflict:
            raise
        live = await context.engine.container(name)
        if live is not None and not is_owned(live, desired.cluster, desired.identity, names.CLONER):
            raise ForeignObjectError(f"{CONTAINER} {name}") from None
        # An earlier try of this very create, whose answer was lost.
        raise StaleError from None
