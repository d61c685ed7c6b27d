"""A claim that gets no volume: what is missing is told by its name, as a real scheduler and API server have it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.kubernetes.evidence.volume_claims import AGAIN, StorageClasses
from claude_sandbox.backends.kubernetes.state import state_of
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.resources import (
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
)
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

NAMESPACE = "storage-classes"


@pytest_asyncio.fixture
async def api(control_plane_with_controllers: Cluster) -> AsyncIterator[Api]:
    async with Api(from_kubeconfig(str(control_plane_with_controllers.kubeconfig), None)) as api:
        metadata = {"name": NAMESPACE}
        await api.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": NAMESPACE}}
        await api.apply(SERVICE_ACCOUNTS, account)
        yield api


async def claim(api: Api, name: str, **spec: Any) -> Any:
    """A claim that a pod waits for, once the scheduler has said that no node takes that."""
    metadata = {"name": name, "namespace": NAMESPACE}
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    claimed = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": wanted}
    await api.apply(PERSISTENT_VOLUME_CLAIMS, claimed)
    volume = {"name": "w", "persistentVolumeClaim": {"claimName": name}}
    body = {"serviceAccountName": "a", "containers": [{"name": "agent", "image": "x"}], "volumes": [volume]}
    await api.apply(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body})
    async with asyncio.timeout(60):
        while state_of(await api.get(PODS, name, NAMESPACE)).reason is not Reason.POD_UNSCHEDULABLE:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await api.delete(PODS, name, NAMESPACE, grace_seconds=0)
    return await api.get(PERSISTENT_VOLUME_CLAIMS, name, NAMESPACE)


async def test_a_class_that_does_not_exist_is_named_and_so_is_that_there_is_no_default(api: Api) -> None:
    now = 0.0
    claims = StorageClasses(api, lambda: now)
    live = await claim(api, "named", storageClassName="fast")
    why = await claims.why_unbound(live)
    assert "Claim named gets no volume: there is no StorageClass fast." in why
    assert "spec.workspace.storageClassName" in why
    assert "no StorageClass is the cluster's default" in await claims.why_unbound(await claim(api, "default"))
    made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}}
    await api.apply(STORAGE_CLASSES, made | {"provisioner": "example.org/none"})
    try:
        # Asked again when the answer is old, and not before.
        assert await claims.why_unbound(live) == why
        now = AGAIN
        assert await claims.why_unbound(live) == ""
    finally:
        await api.delete(STORAGE_CLASSES, "fast")


async def test_of_a_claim_that_is_bound_or_gone_nothing_is_said(api: Api) -> None:
    claims = StorageClasses(api)
    bound = {"metadata": {"name": "b"}, "spec": {"storageClassName": "none"}, "status": {"phase": "Bound"}}
    assert await claims.why_unbound(bound) == await claims.why_unbound(None) == ""
