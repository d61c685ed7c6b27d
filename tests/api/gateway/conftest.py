"""A namespace with a gateway's account, on the real API server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_place import Place, place

from claude_sandbox.localcluster.cluster import Cluster


@pytest.fixture
async def here(control_plane: Cluster, tmp_path: Path) -> AsyncIterator[Place]:
    async with place(control_plane, tmp_path) as found:
        yield found
