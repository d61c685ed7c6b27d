"""Faults made on purpose: a component crashes, and comes back on the same port and data."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_sandbox.localcluster import cluster, status
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.errors import LocalClusterError

pytestmark = pytest.mark.controlplane


@pytest.fixture(scope="module")
def plane(state_home: Path) -> Iterator[Cluster]:
    try:
        yield cluster.up("faults", fsync=False, report=print)
    finally:
        cluster.down("faults", print)


@pytest.mark.parametrize("component", ["etcd", "kube-apiserver"])
def test_a_crashed_component_restarts_where_it_was(plane: Cluster, component: str) -> None:
    kubectl = ["kubectl", "--kubeconfig", plane.kubeconfig]
    subprocess.run([*kubectl, "create", "namespace", f"before-{component}"], check=True)
    before = status.status("faults")
    cluster.kill(plane, component)
    assert not status.status("faults").healthy
    cluster.restart(plane, component)
    after = status.status("faults")
    assert after.healthy
    assert [one.endpoint for one in after.components] == [one.endpoint for one in before.components]
    subprocess.run([*kubectl, "get", "namespace", f"before-{component}"], check=True)


def test_a_component_it_does_not_have_is_named(plane: Cluster) -> None:
    with pytest.raises(LocalClusterError, match="kube-scheduler"):
        cluster.restart(plane, "kube-scheduler")
