"""A container made from its document, with its image fetched where the engine has none."""

from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.blueprint.model import Image


async def create_container(
    context: ApplyContext, name: str, document: Object, image: Image, *, theirs: bool = False
) -> str:
    """The identifier of a new container, whose image is fetched only where the engine says that it has none.

    `theirs`: the image is not the operator's own, and its labels are to reach nobody.
    """

    async def make() -> str:
        wanted = await context.images.with_own_labels(document, image) if theirs else document
        return await context.engine.create_container(name, wanted)

    try:
        return await make()
    except EngineError as error:
        if not error.is_image_missing:
            raise
        # Asking first would cost each create a call more, and the image may go in between all the same.
        await context.images.provide(image, context.waiter)
        return await make()
