"""How large a volume on an engine's disk may become. Pure.

An engine enforces that by project quotas of the file system that its data is on (XFS or ext4, mounted with prjquota),
and by nothing else. It says in no document whether it can: it refuses a volume of a size where it can't. Nothing else
that sandboxes write to is on a disk: the root is read-only, scratch space is in memory, logs have a size of their own.
"""

from collections.abc import Iterator, Mapping

from claude_sandbox.api import quantity
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.blueprint.model import Blueprint

SIZE = "size"
"""The option of the engine's own volume driver."""
NEEDED = "XFS or ext4 with project quotas (prjquota) under the engine's data"


def options(size: int) -> dict[str, str]:
    """What a volume of so many bytes is asked for with."""
    return {SIZE: str(size)}


def without_size(document: Object) -> Object:
    """The document of the same volume, without a bound."""
    return {**document, "DriverOpts": {key: value for key, value in document["DriverOpts"].items() if key != SIZE}}


def asks_for_size(document: Object) -> bool:
    """Whether a volume is to have a size that takes a quota; one in memory has one among its mount options."""
    return SIZE in document["DriverOpts"]


def is_refused(error: EngineError) -> bool:
    """Whether an engine says that it can enforce no size (moby, volume/local: validateOpts)."""
    return not error.is_unreachable and "no quota support" in error.message


def size_of(volume: Object) -> int | None:
    """The size that an engine enforces on a volume, in bytes; None where that is none."""
    told = (volume.get("Options") or {}).get(SIZE)
    return int(told) if isinstance(told, str) and told.isascii() and told.isdecimal() else None


def told(blueprint: Blueprint, volumes: Mapping[str, Object | None]) -> Iterator[str]:
    """Of the workspace and what is kept of the home, where they are not as large as the spec says: each as a clause.

    `volumes`: the live ones by what they are for, None where there is none yet.
    """
    kept = blueprint.kept_home
    wanted = {"its workspace": blueprint.workspace.size if blueprint.workspace.volume is not None else None}
    wanted["its home"] = None if kept is None else quantity.bytes_of(kept.volume.size)
    unbounded = []
    for what, size in wanted.items():
        live = volumes.get(what)
        if size is None or live is None:
            continue
        actual = size_of(live)
        if actual is None:
            unbounded.append(what)
        elif actual != size:
            yield (
                f"{what} stays at the {actual} bytes that it was made with, since no engine changes the"
                " size of a volume: copy the files to a new sandbox"
            )
    if unbounded:
        yield f"the size of {' and of '.join(unbounded)} is not enforced, which takes {NEEDED}"
