"""One control plane with controllers, one node without a machine, and for each test a namespace with an operator."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kubelet import Kubelet
from nursery import Nursery
from prepared import prepare
from tagged import policies, registry
from world import World
from worlds import Worlds

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials, from_kubeconfig
from claude_sandbox.localcluster.cluster import Cluster

__all__ = ["policies", "registry"]


@pytest.fixture(scope="session")
def ground(operators_control_plane: Cluster) -> Cluster:
    """The cluster with the CRD and a default StorageClass."""
    prepare(operators_control_plane)
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
