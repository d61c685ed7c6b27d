"""What a container has in the place of its key, in the terms in which compliance is judged."""

import posixpath

from claude_sandbox import delivery
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.keys.placeholder import is_placeholder
from claude_sandbox.backends.docker.model import Delivered
from claude_sandbox.blueprint.model import KeyFile
from claude_sandbox.compliance.evidence.containers import KeyPlace


def place_of(delivered: Delivered | None) -> KeyPlace | None:
    """As a pass found it; None where nothing was brought, or the container does not run."""
    if delivered is None or not delivered.is_keyed:
        return None
    known = True if delivered.key_generation is not None else None
    return KeyPlace(delivered.placeholder, False if delivered.other else known)


async def read_place(engine: Engine, container: Object, key: KeyFile) -> KeyPlace | None:
    """As the engine reads it now, by somebody who does not know which key there is."""
    if not running(container):
        return None
    try:
        marker = await engine.read_file(str(container["Id"]), posixpath.join(key.directory, delivery.MARKER))
    except EngineError:
        return None
    return KeyPlace(is_placeholder(marker.decode(errors="replace"))) if marker else None
