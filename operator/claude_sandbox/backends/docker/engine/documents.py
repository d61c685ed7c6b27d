"""Documents of the Engine API as the engine answers them: raw, never copied, never changed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

Object: TypeAlias = Mapping[str, Any]
Manifest: TypeAlias = dict[str, Any]

_FIRST_YEAR = 2013
"""Of Docker: an image that says that it is older says nothing."""


def labels(live: Object) -> Mapping[str, str]:
    """The labels of a container, a network or a volume; empty where it has none."""
    config = live.get("Config")
    return (config if isinstance(config, Mapping) else live).get("Labels") or {}


def name_of(live: Object) -> str:
    """The name of a container (which the engine writes with a slash), a network or a volume."""
    return str(live["Name"]).removeprefix("/")


def running(live: Object) -> bool:
    """Whether a container's first process runs, be it paused or not. Of a container in a list, too."""
    state = live.get("State")
    return bool(state.get("Running")) if isinstance(state, Mapping) else state in ("running", "paused")


def started_at(live: Object) -> str:
    """When a container was started last; what was delivered to an earlier start is gone."""
    return str(live.get("State", {}).get("StartedAt", ""))


def made_at(image: Object | None) -> datetime | None:
    """When an image or a container was made, as it says itself; None where it says nothing, or what builds write that
    are to come out the same each time."""
    told = (image or {}).get("Created")
    try:
        at = datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None and at.year >= _FIRST_YEAR else None


def name_of_summary(summary: Object) -> str:
    """The name of a container in a list."""
    return str((summary.get("Names") or ["/"])[0]).removeprefix("/")
