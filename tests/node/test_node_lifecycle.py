"""A node comes, is mended, stands beside another, and goes without a trace, whatever was done to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import firewalled_machine
import pytest
import traces
from nodekit import Kubectl, eventually, kubectl_for, namespace, pod, report

from claude_sandbox.localcluster import cluster, components
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.node import COMPONENTS, health, load_image
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.programs.os_packages import ensure

pytestmark = pytest.mark.node

NAME = "tests-node-comes-and-goes"


@pytest.fixture
def layout(needs_root: None, state_home: Path) -> Iterator[Layout]:
    """A cluster's name that nothing has yet, and that has nothing afterwards, come what may."""
    yield Layout.of(NAME)
    cluster.down(NAME, report)


def _up() -> Cluster:
    return cluster.up(NAME, node=True, fsync=False, report=report)


def _rules() -> str:
    """The machine's packet filter, as nft lists it."""
    programs = ensure(NEEDED, report)
    environment = {**os.environ, **programs.environment()}
    return subprocess.run(
        [programs.path("nft"), "list", "ruleset"], env=environment, capture_output=True, text=True, check=True
    ).stdout


def _workload(running: Cluster, image: ImageArchive) -> Kubectl:
    """A pod with a claim: overlays, tmpfs, a bind mount, an interface, policies, a control group."""
    kubectl = kubectl_for(running)
    load_image(running.layout, image)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "workspace", "namespace": "work"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    source = {"persistentVolumeClaim": {"claimName": "workspace"}}
    deny = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "work"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    kubectl.apply(namespace("work"), claim, deny, pod("work", "agent", image.pinned, volumes=[("/workspace", source)]))
    kubectl.ready("work", "agent")
    return kubectl


def test_nothing_is_left_of_a_node_with_running_pods_and_two_nodes_do_not_meet(
    layout: Layout, node: Cluster, kubectl: Kubectl, sandbox_image: ImageArchive
) -> None:
    before, rules = traces.of_machine(layout), _rules()
    other = _workload(_up(), sandbox_image)
    assert traces.of_machine(layout) > before

    # The other cluster's policy is for its own pods: here the same pod, without one, reaches what it likes.
    kubectl.apply(namespace("work"), pod("work", "agent", sandbox_image.pinned))
    kubectl.ready("work", "agent")
    assert kubectl.connects("work", "agent", "10.96.0.1", 443)
    eventually("the policy holds", lambda: not other.connects("work", "agent", "10.96.0.1", 443))
    assert kubectl.connects("work", "agent", "10.96.0.1", 443)

    assert cluster.down(NAME, report)
    assert traces.of_machine(layout) == before
    assert _rules() == rules
    assert not layout.root.exists()
    assert kubectl.connects("work", "agent", "10.96.0.1", 443)
    assert all(health(node.layout, name) for name in COMPONENTS)


@pytest.mark.parametrize(
    "line",
    [
        "Starting etcd.",
        "Starting containerd.",
        pytest.param("Starting kube-router.", marks=pytest.mark.slow),
        "Waiting for",
    ],
)
def test_a_node_that_was_interrupted_on_its_way_up_goes_without_a_trace(layout: Layout, line: str) -> None:
    before, rules = traces.of_machine(layout), _rules()
    script = f"from claude_sandbox.localcluster import cluster; cluster.up({NAME!r}, node=True, report=print)"
    process = subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert any(printed.startswith(line) for printed in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert cluster.down(NAME, report)
    assert traces.of_machine(layout) == before
    assert _rules() == rules


@pytest.mark.slow
def test_a_node_whose_parts_were_torn_out_goes_without_a_trace(layout: Layout, sandbox_image: ImageArchive) -> None:
    before = traces.of_machine(layout)
    running = _up()
    _workload(running, sandbox_image)
    names = Names.of(layout)
    for name in ("containerd", "kube-apiserver"):
        cluster.kill(running, name)
    subprocess.run(["ip", "link", "delete", names.link], check=True)
    for record in layout.run.glob("*.json"):
        record.unlink()
    assert cluster.down(NAME, report)
    assert traces.of_machine(layout) == before


@pytest.mark.slow
def test_a_node_is_mended_by_bringing_it_up_again(layout: Layout, sandbox_image: ImageArchive) -> None:
    running = _up()
    kubectl = _workload(running, sandbox_image)
    started = kubectl("get", "pod", "-n", "work", "agent", "-o", "jsonpath={.status.startTime}").stdout
    for name in COMPONENTS:
        cluster.kill(running, name)
        assert not health(layout, name)
    subprocess.run(["ip", "link", "delete", Names.of(layout).link], check=True)
    _up()
    assert all(health(layout, name) for name in COMPONENTS)
    # The pods ran on, as they do when a node's programs are restarted.
    kubectl.ready("work", "agent")
    assert kubectl.run("work", "agent", "true").returncode == 0
    assert kubectl("get", "pod", "-n", "work", "agent", "-o", "jsonpath={.status.startTime}").stdout == started


def test_bringing_up_a_node_that_is_up_changes_nothing(node: Cluster) -> None:
    before = {name: components.running(node.layout, name) for name in COMPONENTS}
    assert cluster.up(node.name, node=True, fsync=False, report=report) == node
    assert {name: components.running(node.layout, name) for name in COMPONENTS} == before


@pytest.mark.slow
def test_pods_get_out_past_a_firewall_that_forwards_nothing_which_is_as_it_was_afterwards(
    needs_root: None, state_home: Path, sandbox_image: ImageArchive
) -> None:
    """On a machine of its own (a network namespace), because the firewall is the machine's."""
    script = Path(firewalled_machine.__file__)
    result = subprocess.run(
        ["unshare", "--net", sys.executable, script],
        stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": str(script.parent)},
    )  # fmt: skip
    told = json.loads(result.stdout.splitlines()[-1])
    # The machine's own address: pods' addresses mean nothing beyond it.
    assert told["seen"] == firewalled_machine.INSIDE
    assert told["before"] != told["meanwhile"]
    assert told["after"] == told["before"]
