"""What holds a sandbox's EmptyDir: made and started, made again, taken away."""

from claude_sandbox.backends.apply import ForeignObjectError, StaleError
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.model import CONTAINER, Desired, Step, Verb
from claude_sandbox.backends.docker.names import is_owned
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.steps.creation import create_container


async def holder_step(context: ApplyContext, desired: Desired, step: Step) -> None:
    """Raises EngineError, ForeignObjectError, StaleError, and what `Images.provide` raises."""
    engine, holder = context.engine, desired.documents.holder
    if step.verb is Verb.START and step.live is not None:
        await engine.start(str(step.live["Id"]))
        return
    if step.live is not None:
        await engine.remove_container(str(step.live["Id"]))
        context.results.removed.append(str(step.live["Id"]))
    if holder is None or step.verb is Verb.REMOVE:
        return
    try:
        identifier = await create_container(context, step.name, holder.container, holder.image)
    except EngineError as error:
        if not error.is_conflict:
            raise
        live = await engine.container(step.name)
        if live is not None and not is_owned(live, desired.cluster, desired.identity, names.HOLDER):
            raise ForeignObjectError(f"{CONTAINER} {step.name}") from None
        # An earlier try of this very create, whose answer was lost.
        raise StaleError from None
    await engine.start(identifier)
