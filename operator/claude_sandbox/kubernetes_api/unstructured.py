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
