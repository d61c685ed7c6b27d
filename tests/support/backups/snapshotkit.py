"""VolumeSnapshots: their CRDs, as external-snapshotter has them, and what its controllers say of one."""

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from nodekit import report

from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.resources import VOLUME_SNAPSHOTS, Resource
from claude_sandbox.localcluster.programs import toolchain
from claude_sandbox.localcluster.programs.builder import environment, go_needed
from claude_sandbox.localcluster.programs.tools import tool

CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")
_CLIENT = "github.com/kubernetes-csi/external-snapshotter/client/v8"


@cache
def definitions(groups: tuple[str, ...] = (VOLUME_SNAPSHOTS.group,)) -> tuple[dict[str, Any], ...]:
    """The CRDs of these groups, of the module that the snapshot-controller is built from."""
    module = tool("snapshot-controller", "").module
    go = toolchain.go(go_needed((module / "go.mod").read_text()), report)
    argv = [str(go), "mod", "download", "-json", _CLIENT]
    told = subprocess.run(
        argv, cwd=module, env=environment(go, dict(os.environ)), check=True, capture_output=True, text=True
    )
    directory = Path(json.loads(told.stdout)["Dir"]) / "config/crd"
    return tuple(yaml.safe_load(path.read_text()) for group in groups for path in sorted(directory.glob(f"{group}_*")))


def snapshot_class(name: str, driver: str, **more: Any) -> dict[str, Any]:
    """A VolumeSnapshotClass."""
    kind = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "metadata": {"name": name}}
    return kind | {"driver": driver, "deletionPolicy": "Delete"} | more


async def say(api: Api, live: Obj, **status: Any) -> None:
    """What the controllers write of a snapshot."""
    metadata = live["metadata"]
    await api.patch_status(
        VOLUME_SNAPSHOTS, metadata["name"], metadata["namespace"], status, uid=metadata["uid"],
        field_manager="snapshot-controller",
    )  # fmt: skip


def ready(at: datetime | None = None) -> Mapping[str, Any]:
    """That it is there."""
    moment = f"{at or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"readyToUse": True, "creationTime": moment, "restoreSize": "3Gi"}
