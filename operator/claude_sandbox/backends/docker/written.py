"""What a pass learns while it writes, so that it need not ask for it again.

Theory of operation. One `WriteResults` for each pass, filled by its steps on the event loop, read once when it looks
at what came of it, and gone with it. What it has is newer than what the plan was made upon. It is relied upon only
where everything went as planned; else all is read anew. Only `removed` is read in any case: those containers are gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.model import Delivered


@dataclass(frozen=True)
class Started:
    """A container that the pass started last, as the engine told of it afterwards.

    `container` was read while the key was certainly still in memory, `network` just before the start.
    """

    container: Object
    network: Object
    inside: Delivered


@dataclass
class WriteResults:
    """Of one pass: newer than what its plan was made upon."""

    volumes: dict[str, Object] = field(default_factory=dict)
    """Those that were made, as the engine answered."""
    started: Started | None = None
    removed: list[str] = field(default_factory=list)
    """Identifiers of containers that are gone at the pass's end: what the engine tells of them concerns nobody."""

    def volumes_over(self, before: Mapping[str, Object]) -> dict[str, Object]:
        """All volumes, those that were made in the place of older ones."""
        return {**before, **self.volumes}
