"""An operator that looks after Docker hosts, and a real API server that has its resources."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from docker_fleet import Fleet, Operator, prepare

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials, from_kubeconfig
from claude_sandbox.localcluster.cluster import Cluster


@pytest.fixture(scope="module")
def credentials(control_plane: Cluster) -> Credentials:
    found = from_kubeconfig(str(control_plane.kubeconfig))
    asyncio.run(prepare(found))
    return found


@pytest.fixture(scope="module")
def operator(
    credentials: Credentials, control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    made = Operator(control_plane, tmp_path_factory.mktemp("operator") / "log")
    made.start()
    asyncio.run(made.is_ready())
    yield made
    if made.alive:
        assert made.stop() == 0, made.log.read_text()
    text = made.log.read_text()
    print(text)
    assert "Traceback" not in text


@pytest.fixture
async def fleet(credentials: Credentials) -> AsyncIterator[Fleet]:
    async with Api(credentials, user_agent="tests") as api:
        fleet = Fleet(api)
        try:
            yield fleet
        finally:
            await fleet.close()
