"""One control plane with controllers, one node without a machine, and for each test a namespace with an operator."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import repository
import yaml
from kubelet import Kubelet, provide_storage
from nursery import Nursery
from world import World
from worlds import Worlds

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import Credentials, from_kubeconfig
from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster

CRD = repository.CRDS / "claudesandbox.dev_claudesandboxes.yaml"
CRDS = r.Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")


@pytest.fixture(scope="session")
def ground(operators_control_plane: Cluster) -> Cluster:
    """The cluster with the CRD and a default StorageClass."""
    asyncio.run(_prepare(operators_control_plane))
    # The garbage collector looks for new kinds twice a minute only.
    cluster.restart(operators_control_plane, "kube-controller-manager")
    return operators_control_plane


@pytest.fixture
def credentials(ground: Cluster) -> Credentials:
    """An administrator's."""
    return from_kubeconfig(str(ground.kubeconfig))


@pytest.fixture
async def api(credentials: Credentials) -> AsyncIterator[Api]:
    """An administrator's way to the server."""
    async with Api(credentials, user_agent="tests") as api:
        yield api


@pytest.fixture
async def kubelet(api: Api) -> AsyncIterator[Kubelet]:
    """Runs the pods."""
    async with Kubelet(api, "node-a") as kubelet:
        yield kubelet


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where operators are started."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
async def worlds(
    api: Api, credentials: Credentials, kubelet: Kubelet, nursery: Nursery, tmp_path: Path
) -> AsyncIterator[Worlds]:
    """For tests that need several namespaces, or one that is special."""
    made = Worlds(api, credentials, tmp_path, nursery)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def world(worlds: Worlds) -> World:
    """A namespace with a key in it."""
    return await worlds()


async def _prepare(ground: Cluster) -> None:
    async with Api(from_kubeconfig(str(ground.kubeconfig))) as api:
        applied = await api.apply(CRDS, yaml.safe_load(CRD.read_text()))
        if not _established(applied):
            async with aclosing(api.watch(CRDS, resource_version=applied["metadata"]["resourceVersion"])) as watch:
                async for event in watch:
                    if _established(event["object"]):
                        break
        await provide_storage(api, 20)


def _established(definition: Obj) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
