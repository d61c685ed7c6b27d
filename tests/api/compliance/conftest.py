"""A control plane of the newest supported Kubernetes, beside the oldest one that all tests have."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster


@pytest.fixture(scope="session")
def newer_control_plane(state_home: Path) -> Iterator[Cluster]:
    """Kubernetes 1.37."""
    try:
        yield cluster.up("tests-newer", version="1.37", fsync=False, report=print)
    finally:
        cluster.down("tests-newer", print)
