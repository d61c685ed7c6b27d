"""A sandbox's volumes: made, or made again where no container has them."""

from claude_sandbox.backends.apply import ForeignObjectError
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.documents import sizes
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.model import VOLUME, Desired, Step, Verb
from claude_sandbox.backends.docker.names import is_kept_by, is_owned
from claude_sandbox.backends.docker.steps.context import ApplyContext


class UnenforcedSizeError(Exception):
    """The host's administrator wants volumes of an enforced size only, and the engine can enforce none."""

    def __init__(self) -> None:
        super().__init__(
            "The DockerHost's spec.storage.sizes is Required, and its engine can enforce no size of a volume: that"
            f" takes {sizes.NEEDED}. Have its administrator see to that or allow IfPossible, choose another host, or"
            " set spec.workspace.type to EmptyDir, which is in memory."
        )


async def volume_step(context: ApplyContext, desired: Desired, step: Step) -> None:
    """Create a volume, or replace one that no container has. Raises EngineError, ForeignObjectError,
    UnenforcedSizeError.
    """
    document = next(volume for volume in desired.documents.volumes if volume["Name"] == step.name)
    if step.verb is Verb.REPLACE:
        await context.engine.remove_volume(step.name)
    live = await _create(context, document)
    # Of a volume that is there already an engine says just what it says of a new one.
    if drift.volume_differences(document, live) or not _is_ours(desired, live):
        raise ForeignObjectError(f"{VOLUME} {step.name}")
    context.results.volumes[step.name] = live


async def _create(context: ApplyContext, document: Object) -> Object:
    """The volume, with its size where the engine can enforce one, which is found out by trying."""
    if not sizes.asks_for_size(document):
        return await context.engine.create_volume(document)
    if context.engine.enforces_sizes is not False:
        try:
            live = await context.engine.create_volume(document)
        except EngineError as error:
            if not sizes.is_refused(error):
                raise
            # Remembered until the engine is asked anew what it can do: each try is a call that fails.
            context.engine.enforces_sizes = False
        else:
            if sizes.size_of(live) is not None:
                context.engine.enforces_sizes = True
            return live
    if context.sizes_required:
        raise UnenforcedSizeError
    return await context.engine.create_volume(sizes.without_size(document))


def _is_ours(desired: Desired, live: Object) -> bool:
    if (what := desired.documents.names.kept.get(live["Name"])) is not None:
        return is_kept_by(live, desired.cluster, desired.identity, what)
    return any(is_owned(live, desired.cluster, desired.identity, one) for one in names.OWN_VOLUMES)
