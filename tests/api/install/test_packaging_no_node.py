"""The demo on a control plane without a node: no pod would ever run there, so it says so instead of waiting for one."""

import time

import pytest
from click.testing import CliRunner

from claude_sandbox.cli.main import cli
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.programs import toolchain

pytestmark = pytest.mark.controlplane


def test_it_is_said_at_once_and_what_to_do_instead(control_plane: Cluster) -> None:
    kubectl = Kubectl(toolchain.kubectl(print), str(control_plane.kubeconfig))
    before = kubectl.list("namespaces,secrets")
    began = time.monotonic()
    said = CliRunner().invoke(cli, ["demo", "--kubeconfig", str(control_plane.kubeconfig)])
    assert time.monotonic() - began < 30
    assert said.exit_code == 1
    assert "has no node" in said.output
    assert "make demo BACKEND=docker" in said.output
    # Nothing was made, so nothing is left to remove.
    assert [one["metadata"]["uid"] for one in kubectl.list("namespaces,secrets")] == [
        one["metadata"]["uid"] for one in before
    ]


def test_what_an_earlier_version_left_there_can_still_be_removed(control_plane: Cluster) -> None:
    options = ["--down", "--backend=kubernetes", "--kubeconfig", str(control_plane.kubeconfig)]
    said = CliRunner().invoke(cli, ["demo", *options])
    assert said.exit_code == 0, said.output
