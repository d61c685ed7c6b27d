"""Images for an engine, without a registry."""

from claude_sandbox.localcluster.engine import api
from claude_sandbox.localcluster.engine.record import EngineDescription
from claude_sandbox.localcluster.images.archive import ImageArchive


def load_image(engine: EngineDescription, archive: ImageArchive) -> str:
    """Give the engine the image; containers can then name it as is returned, `archive.reference`.

    Raises LocalClusterError where the engine doesn't run or refuses it.
    """
    with archive.path.open("rb") as file:
        api.load(engine.socket_path, file)
    return archive.reference
