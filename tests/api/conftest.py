"""A namespace of its own for each test, and ways to reach the API server: straight, or through trouble."""

import uuid
from collections.abc import AsyncIterator

import pytest
from faulty_proxy import FaultyProxy

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials, from_kubeconfig
from claude_sandbox.kubernetes_api.resources import NAMESPACES
from claude_sandbox.localcluster.cluster import Cluster


@pytest.fixture
def credentials(control_plane: Cluster) -> Credentials:
    return from_kubeconfig(str(control_plane.kubeconfig))


@pytest.fixture
async def api(credentials: Credentials) -> AsyncIterator[Api]:
    async with Api(credentials) as api:
        yield api


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    name = f"t-{uuid.uuid4().hex[:10]}"
    await api.create(NAMESPACES, {"metadata": {"name": name}})
    yield name
    await api.delete(NAMESPACES, name)


@pytest.fixture
async def proxy(credentials: Credentials) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(credentials) as proxy:
        yield proxy
