"""A sandbox's volumes: made, or made again where no container has them."""

from claude_sandbox.backends.apply import ForeignObjectError
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.model import VOLUME, Desired, Step, Verb
from claude_sandbox.backends.docker.names import is_kept_by, is_owned
from claude_sandbox.backends.docker.steps.context import ApplyContext


async def volume_step(context: ApplyContext, desired: Desired, step: Step) -> None:
    """Create a volume, or replace one that no container has. Raises EngineError, ForeignObjectError."""
    document = next(volume for volume in desired.documents.volumes if volume["Name"] == step.name)
    if step.verb is Verb.REPLACE:
        await context.engine.remove_volume(step.name)
    live = await context.engine.create_volume(document)
    # Of a volume that is there already an engine says just what it says of a new one.
    if drift.volume_differences(document, live) or not _is_ours(desired, live):
        raise ForeignObjectError(f"{VOLUME} {step.name}")
    context.results.volumes[step.name] = live


def _is_ours(desired: Desired, live: Object) -> bool:
    if (what := desired.documents.names.kept.get(live["Name"])) is not None:
        return is_kept_by(live, desired.cluster, desired.identity, what)
    return any(is_owned(live, desired.cluster, desired.identity, one) for one in names.OWN_VOLUMES)
