"""A node without a machine: the test says what becomes of the pods on it, as a kubelet would."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import Resource

VOLUMES = Resource("", "v1", "persistentvolumes", False, "PersistentVolume")
CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", False, "StorageClass")
# The node controller gives up on a node that it has not heard of for 40 s.
HEARTBEAT = 8.0
_PLENTY = {"cpu": "10k", "memory": "100Ti", "ephemeral-storage": "1000Ti", "pods": "5000"}


class Kubelet:
    """Runs every pod that the scheduler gives to its node, until told otherwise."""

    def __init__(self, api: Api, node: str) -> None:
        self.node = node
        self.holds: set[str] = set()
        """Namespaces whose pods it leaves alone."""
        self.addresses: Callable[[UUID], tuple[str, ...]] = _addresses
        """Of a pod, by its UID."""
        self.broken: dict[str, dict[str, Any]] = {}
        """By an image's digest, what becomes of its containers instead of running: their state."""
        self.images: set[str] = set()
        """Of all containers that it was given."""
        self._api = api
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        with suppress(ApiError):
            await self._api.create(r.NODES, {"metadata": {"name": self.node, "labels": {"fake": "yes"}}})
        await self._beat()
        listing = await self._api.list(r.PODS, field_selector=f"spec.nodeName={self.node}")
        for pod in listing.items:
            await self._look(pod)
        self._tasks = [
            asyncio.create_task(self._follow(r.PODS, self._look, f"spec.nodeName={self.node}")),
            asyncio.create_task(self._follow(r.PERSISTENT_VOLUME_CLAIMS, self._provide, None)),
            asyncio.create_task(self._beat_forever()),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def run(self, pod: Obj, **status: Any) -> None:
        """Write a running pod's status; `status` on top of it."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        images = {container["name"]: container["image"] for container in pod["spec"]["containers"]}
        kinds = ("Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready")
        running: dict[str, Any] = {
            "phase": "Running",
            "startTime": now,
            "podIP": (addresses := self.addresses(UUID(pod["metadata"]["uid"])))[0],
            "podIPs": [{"ip": address} for address in addresses],
            "conditions": [
                *(pod.get("status", {}).get("conditions") or ()),
                *({"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds),
            ],
            "containerStatuses": [
                {
                    "name": name,
                    "image": "example.org/sandbox",
                    "imageID": image if "@" in image else "example.org/sandbox@sha256:" + "a" * 64,
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                    "user": {"linux": _user(pod["spec"].get("securityContext", {}))},
                }
                for name, image in images.items()
            ],
        }
        await self.write(pod, running | status)

    async def _fail(self, pod: Obj, state: dict[str, Any]) -> None:
        """Write the status of a pod whose containers don't run."""
        failing = [
            {
                "name": one["name"],
                "image": one["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 3,
                "state": state,
            }
            for one in pod["spec"]["containers"]
        ]
        await self.run(
            pod,
            phase="Failed" if "terminated" in state else "Running",
            conditions=[{"type": kind, "status": "False"} for kind in ("ContainersReady", "Ready")],
            containerStatuses=failing,
        )

    async def write(self, pod: Obj, status: dict[str, Any]) -> None:
        """Write a pod's status, unless the pod is gone."""
        metadata = pod["metadata"]
        with suppress(ApiError):
            await self._api.patch_status(
                r.PODS, metadata["name"], metadata["namespace"], status, uid=metadata["uid"], field_manager="kubelet"
            )

    async def remove(self, pod: Obj) -> None:
        """Say that a terminating pod's containers have ended."""
        metadata = pod["metadata"]
        with suppress(ApiError):
            await self._api.delete(
                r.PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_seconds=0
            )

    async def release(self, namespace: str) -> None:
        """Look at a held namespace's pods again."""
        self.holds.discard(namespace)
        for pod in (await self._api.list(r.PODS, namespace)).items:
            if pod["spec"].get("nodeName") == self.node:
                await self._look(pod)

    async def _look(self, pod: Obj) -> None:
        if pod["metadata"]["namespace"] in self.holds:
            return
        if pod["metadata"].get("deletionTimestamp"):
            await self.remove(pod)
        elif pod.get("status", {}).get("phase") == "Pending":
            image = str(pod["spec"]["containers"][0]["image"])
            self.images.add(image)
            if (state := self.broken.get(image.partition("@")[2])) is None:
                await self.run(pod)
            else:
                await self._fail(pod, state)

    async def _provide(self, claim: Obj) -> None:
        if not claim["spec"].get("volumeName"):
            await provide_volume(self._api, f"for-{claim['metadata']['uid']}")

    async def _follow(self, kind: Resource, look: Callable[[Obj], Any], field_selector: str | None) -> None:
        version = ""
        while True:
            try:
                if not version:
                    listing = await self._api.list(kind, field_selector=field_selector)
                    version = listing.resource_version
                    for item in listing.items:
                        await look(item)
                watch = self._api.watch(kind, resource_version=version, field_selector=field_selector)
                async with aclosing(watch):
                    async for event in watch:
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] in ("ADDED", "MODIFIED"):
                            await look(event["object"])
            except ApiError:
                version = ""
                await asyncio.sleep(0.1)

    async def _beat(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        status = {"capacity": _PLENTY, "allocatable": _PLENTY, "conditions": [ready]}
        await self._api.patch_status(r.NODES, self.node, None, status, field_manager="kubelet")

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            with suppress(ApiError):
                await self._beat()


async def provide_storage(api: Api, count: int) -> None:
    """A default StorageClass, and some volumes of it."""
    storage = {
        "metadata": {"name": "fake", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }
    with suppress(ApiError):
        await api.create(CLASSES, storage)
    await asyncio.gather(*(provide_volume(api, f"pool-{number}") for number in range(count)))


async def provide_volume(api: Api, name: str) -> None:
    """One volume that nobody has claimed."""
    spec = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fake",
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": f"/nonexistent/{name}"},
    }
    with suppress(ApiError):
        await api.create(VOLUMES, {"metadata": {"name": name}, "spec": spec})


def _addresses(uid: UUID) -> tuple[str, ...]:
    """One that no other pod has: whose endpoints lead to it leads to the pod."""
    return (str(IPv4Address(10 << 24 | int(uid) % 2**24)),)


def _user(context: Mapping[str, Any]) -> dict[str, Any]:
    """As a node tells it whose runtime knows supplementalGroupsPolicy."""
    groups = {context.get("runAsGroup", 0), *context.get("supplementalGroups", ()), context.get("fsGroup", 0)}
    found = sorted(groups)
    return {"uid": context.get("runAsUser", 0), "gid": context.get("runAsGroup", 0), "supplementalGroups": found}
