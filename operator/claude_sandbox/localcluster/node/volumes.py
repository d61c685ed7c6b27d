"""Directories of the node as PersistentVolumes, used again when their claims are gone."""

import contextlib
import shutil
from pathlib import Path

from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.node import manifests
from claude_sandbox.localcluster.node.api import Api, collection


def ensure(api: Api, layout: Layout, node: str) -> None:
    """Make the volumes that are missing, and empty ones of those whose claim was deleted."""
    directory = layout.node / "volumes"
    directory.mkdir(mode=0o755, exist_ok=True)
    wanted = {f"{node}-{number:02}": directory / f"{number:02}" for number in range(1, manifests.VOLUMES + 1)}
    path = collection(manifests.volume("any", directory, node))
    found = {one["metadata"]["name"]: one.get("status", {}).get("phase") for one in api.get(path)["items"]}
    for name, place in wanted.items():
        if name not in found:
            _directory(place)
            api.apply(manifests.volume(name, place, node))
        # Emptied before it is free for the next claim.
        elif found[name] == "Released":
            shutil.rmtree(place, ignore_errors=True)
            _directory(place)
            api.merge(f"{path}/{name}", {"spec": {"claimRef": None}})


def _directory(place: Path) -> None:
    # Owned by root until a pod with an fsGroup mounts it.
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o755)
