"""Kubernetes objects as the API server answers them: raw, never copied, never changed."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Object: TypeAlias = Mapping[str, Any]
Manifest: TypeAlias = dict[str, Any]


def labels(live: Object) -> Mapping[str, str]:
    """The object's labels; empty where it has none."""
    return live["metadata"].get("labels") or {}


def annotations(live: Object) -> Mapping[str, str]:
    """The object's annotations; empty where it has none."""
    return live["metadata"].get("annotations") or {}


def terminating(live: Object) -> bool:
    """Whether its deletion was asked for."""
    return bool(live["metadata"].get("deletionTimestamp"))


WRITER = ("manager", "operation", "time")
"""What is kept of who wrote an object."""
_WRITERS = 4

DATA_CHANGED_AT = "dataChangedAt"
"""Where a followed object that is kept without its data has when that was written last."""


def data_changed_at(obj: Mapping[str, Any]) -> str | None:
    """When an object's data was written last, by the API server's own records: the newest of who wrote any of it.

    It is at the earliest then that the data is as it is; whoever wrote it may have written something else at that time.
    """
    if DATA_CHANGED_AT in obj:
        return str(obj[DATA_CHANGED_AT])
    times = [
        str(one.get("time"))
        for one in obj["metadata"].get("managedFields") or ()
        if one.get("time") and {"f:data", "f:stringData"} & (one.get("fieldsV1") or {}).keys()
    ]
    return max(times, default=None)


def last_writers(metadata: Mapping[str, Any]) -> list[dict[str, str]]:
    """Who wrote an object last, beside its subresources: `WRITER` of the managedFields of the newest second.

    They tell no smaller time, so there may be several.
    """
    managed = metadata.get("managedFields") or ()
    whole = [one for one in managed if not one.get("subresource") and isinstance(one.get("time"), str)]
    newest = max((one["time"] for one in whole), default="")
    last = [one for one in whole if one["time"] == newest]
    return [{name: str(one[name])[:128] for name in WRITER if name in one} for one in last[:_WRITERS]]
