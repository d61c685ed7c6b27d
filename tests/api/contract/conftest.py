"""Control planes with the CRDs as the models make them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from contract_server import Server

from claude_sandbox.api.crds import definitions
from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster

NEWER = "1.37"


@pytest.fixture(scope="session")
def with_crd(control_plane: Cluster) -> Cluster:
    _install(control_plane)
    return control_plane


@pytest.fixture(scope="session")
def newer_with_crd(state_home: Path) -> Iterator[Cluster]:
    def report(line: str) -> None:
        print(line, file=sys.__stderr__, flush=True)

    try:
        newer = cluster.up("contract-newer", version=NEWER, fsync=False, report=report)
        _install(newer)
        yield newer
    finally:
        cluster.down("contract-newer", report)


def _install(cluster: Cluster) -> None:
    async def install() -> None:
        for kind in definitions.KINDS:
            async with Server(cluster, kind) as server:
                await server.install()

    asyncio.run(install())


@pytest.fixture
async def server(with_crd: Cluster) -> AsyncIterator[Server]:
    async with Server(with_crd) as server:
        yield server


@pytest.fixture
async def newer_server(newer_with_crd: Cluster) -> AsyncIterator[Server]:
    async with Server(newer_with_crd) as server:
        yield server


@pytest.fixture
async def hosts(with_crd: Cluster) -> AsyncIterator[Server]:
    """The server, asked about DockerHosts."""
    async with Server(with_crd, definitions.HOST) as server:
        yield server


@pytest.fixture
async def newer_hosts(newer_with_crd: Cluster) -> AsyncIterator[Server]:
    async with Server(newer_with_crd, definitions.HOST) as server:
        yield server
