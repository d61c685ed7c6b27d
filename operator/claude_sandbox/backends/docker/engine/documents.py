"""Documents of the Engine API as the engine answers them: raw, never copied, never changed."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Object: TypeAlias = Mapping[str, Any]
Manifest: TypeAlias = dict[str, Any]


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


def name_of_summary(summary: Object) -> str:
    """The name of a container in a list."""
    return str((summary.get("Names") or ["/"])[0]).removeprefix("/")
