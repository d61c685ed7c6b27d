"""A control plane with the CRD as the models make it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from contract_server import Server

from claude_sandbox.localcluster.cluster import Cluster


@pytest.fixture(scope="session")
def with_crd(control_plane: Cluster) -> Cluster:
    async def install() -> None:
        async with Server(control_plane) as server:
            await server.install()

    asyncio.run(install())
    return control_plane


@pytest.fixture
async def server(with_crd: Cluster) -> AsyncIterator[Server]:
    async with Server(with_crd) as server:
        yield server
