"""Backups without a machine: a claim and a Secret for them, and helpers that end as the test says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from kubelet import Kubelet
from world import World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.unstructured import labels

VOLUME = {"type": "PersistentVolumeClaim", "size": "1Gi", "retention": "Delete"}
TARGET = {"target": {"type": "VolumeClaim", "claimName": "backups"}, "passwordSecretRef": {"name": "backups"}}
HELPERS = f"{meta.LABEL_COMPONENT}=backup"
WITH_HELPERS = "--gateway-image=example.org/operator@sha256:" + "c" * 64
"""The operator's option without which there are none."""
SNAPSHOT, REPOSITORY = "a" * 64, "b" * 64
RESULT = {
    "outcome": "Done", "snapshot": SNAPSHOT, "repository": REPOSITORY, "files": 2, "bytes": 10, "added": 4,
    "changed": 0, "unread": 0, "different": 0, "problem": "",
}  # fmt: skip


@dataclass
class Helpers:
    """What was seen of them. `may_end`: while it is not set they are at work."""

    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each was told that ended well, by its pod's UID, the first one first."""
    may_end: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def pretended_backups(world: World, api: Api, kubelet: Kubelet) -> AsyncIterator[Helpers]:
    """What helpers would say at their end is written into their pods' statuses, as a kubelet does."""
    found = Helpers()
    found.may_end.set()

    async def end_helpers() -> None:
        while True:
            await found.may_end.wait()
            for pod in (await api.list(r.PODS, world.namespace, label_selector=HELPERS)).items:
                uid = pod["metadata"]["uid"]
                if uid in found.told or pod.get("status", {}).get("phase") != "Running":
                    continue
                found.told[uid] = json.loads(pod["metadata"]["annotations"][f"{meta.GROUP}/backup-order"])
                ended = {"exitCode": 0, "reason": "Completed", "message": json.dumps(RESULT)}
                said = [{"name": "backup", "state": {"terminated": ended}, "image": "a", "imageID": "a", "ready": False,
                         "restartCount": 0}]  # fmt: skip
                await kubelet.write(pod, {"phase": "Succeeded", "containerStatuses": said})
            await asyncio.sleep(0.1)

    claim = {
        "metadata": {"name": "backups", "labels": {meta.LABEL_BACKUPS: "true"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    await api.create(r.PERSISTENT_VOLUME_CLAIMS, claim, world.namespace)
    secret = {"metadata": {"name": "backups"}, "type": meta.BACKUP_SECRET_TYPE, "stringData": {"password": "p"}}
    await api.create(r.SECRETS, secret, world.namespace)
    ending = asyncio.create_task(end_helpers())
    try:
        yield found
    finally:
        ending.cancel()
        with suppress(asyncio.CancelledError):
            await ending


async def back_up(world: World, api: Api, name: str, **more: Any) -> None:
    """Ask for a backup of alice."""
    spec = {"sandboxName": "alice", **TARGET, **more}
    body = {"apiVersion": meta.API_VERSION, "kind": meta.BACKUP_KIND, "metadata": {"name": name}, "spec": spec}
    await api.create(r.BACKUPS, body, world.namespace)


def helpers_made(world: World) -> list[Obj]:
    """The pods of all helpers that ever were."""
    made = [event.obj for event in world.ledger.history() if (event.kind, event.type) == ("Pod", "ADDED")]
    return [pod for pod in made if labels(pod).get(meta.LABEL_COMPONENT) == "backup"]


async def helpers_left(world: World, api: Api) -> list[Obj]:
    """What there is of helpers."""
    left: list[Obj] = []
    for kind in (r.PODS, r.NETWORK_POLICIES):
        left += (await api.list(kind, world.namespace, label_selector=HELPERS)).items
    return left
