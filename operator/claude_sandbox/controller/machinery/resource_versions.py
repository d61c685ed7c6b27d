"""Which of two versions of an object is the later one. Pure."""

from collections.abc import Mapping
from typing import Any


def not_newer(new: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether the first of two objects' metadata is of the same object and no newer version of it."""
    # Resource versions of one resource can be compared as numbers (Kubernetes 1.35, KEP-5504; true of etcd before).
    return bool(new["uid"] == known["uid"] and int(new["resourceVersion"]) <= int(known["resourceVersion"]))
