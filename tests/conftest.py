"""Real control planes for the tests: an etcd and a kube-apiserver of their own, gone when the tests are over."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tests' clusters live, so that a person's own are never touched. Built programs are shared."""
    home = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def control_plane(state_home: Path) -> Iterator[Cluster]:
    """etcd and kube-apiserver, with no controller: what a test writes stays as it is."""
    yield from _running("tests")


@pytest.fixture(scope="session")
def control_plane_with_controllers(state_home: Path) -> Iterator[Cluster]:
    """A control plane with kube-controller-manager and kube-scheduler: garbage is collected, pods are scheduled."""
    yield from _running("tests-controllers", controllers=True)


def _running(name: str, *, controllers: bool = False) -> Iterator[Cluster]:
    try:
        yield cluster.up(name, controllers=controllers, fsync=False, report=_report)
    finally:
        cluster.down(name, _report)


def _report(line: str) -> None:
    # Past pytest's capture, so that one sees why the first run takes minutes.
    print(line, file=sys.__stderr__, flush=True)
