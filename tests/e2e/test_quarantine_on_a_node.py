"""A sandbox whose agent is an attacker, in quarantine on a real node: nothing gets out, and what it did is kept."""

import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nodekit import Kubectl, eventually
from sandboxkit import Object, Sandbox, sandbox

from claude_sandbox.backends.kubernetes.node_agents import NAMESPACE
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.node_agent import PORT

# The other half of the drill of test_incident_drill_on_a_node.py: with the agents on the nodes as witnesses.
pytestmark = [pytest.mark.node, pytest.mark.slow]

# Ignores what can be ignored, writes without end, and says to somebody outside that it is alive, twenty times a second.
ATTACKER = r"""
import signal, socket, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
outside, written = socket.create_connection((sys.argv[1], int(sys.argv[2]))), open("/workspace/loot", "wb", 0)
while True:
    outside.send(b"alive\n")
    written.write(b"x" * 4096)
    written.seek(0)
    time.sleep(0.05)
"""
KEY = "sk-ant-" + "not-a-real-key-2"


class Outside:
    """Somebody that the sandbox has a connection to. `heard`: when something came last, by time.time()."""

    def __init__(self, address: str) -> None:
        self._server = socket.create_server((address, 0))
        self.address, self.port = self._server.getsockname()
        self.heard = 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        connection, _ = self._server.accept()
        with connection, self._server:
            while connection.recv(4096):
                self.heard = time.time()


@contextmanager
def everything_allowed(kubectl: Kubectl, namespace: str) -> Iterator[None]:
    """A tenant's policy allows every pod everything."""
    policy: Object = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    policy["metadata"] = {"name": "allow-all", "namespace": namespace}
    policy["spec"] = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
    kubectl.apply(policy)
    try:
        yield
    finally:
        kubectl("delete", "networkpolicy", "-n", namespace, "allow-all")


def here(agent: str) -> str:
    """The address by which pods reach this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        any_socket.connect((agent, PORT))
        return str(any_socket.getsockname()[0])


def unpacked(node: Cluster, made: Sandbox, directory: Path) -> Path:
    """The evidence, as a person fetches it, once sha256sum has said that each file is as it was kept."""
    archive, place = directory / "evidence.tar", directory / "evidence"
    program = (sys.executable, "-m", "claude_sandbox.cli.main", "incident", "collect")
    command = [*program, f"{made.namespace}/{made.name}", "-o", str(archive), f"--kubeconfig={node.kubeconfig}"]
    subprocess.run(command, check=True, timeout=120)
    with tarfile.open(archive) as tar:
        tar.extractall(place, filter="data")
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=place, check=True, capture_output=True)
    return place


def quarantined(made: Sandbox) -> float:
    """Declare it, and wait: when it was seen to be contained."""
    patch = json.dumps({"spec": {"incident": {"state": "Quarantined", "note": "a test"}}})
    made.kubectl("patch", "claudesandbox", "-n", made.namespace, made.name, "--type=merge", "-p", patch)
    made.wait("Contained")
    return time.time()


def test_nothing_of_an_attacker_gets_out_and_the_kernel_s_word_of_it_is_kept(
    node: Cluster,
    kubectl: Kubectl,
    sandboxes: str,
    agent: str,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    with everything_allowed(kubectl, sandboxes), sandbox(kubectl, sandboxes, "hostile") as made:
        outside = Outside(here(agent))
        attack = (ATTACKER, outside.address, str(outside.port), "--api-key", KEY)
        made.run("sh", "-c", 'setsid python3 -c "$@" >/dev/null 2>&1 &', "sh", *attack)
        eventually("it is heard", lambda: outside.heard > 0)
        contained = quarantined(made)
        time.sleep(3)
        assert outside.heard < contained
        incident = made.get()["status"]["incident"]
        record_testsuite_property("contained within, with agents", incident["containedWithin"])
        eventually("its evidence is kept", lambda: bool(made.get()["status"]["incident"].get("evidence")))
        place = unpacked(node, made, tmp_path)
        missing = (place / "NOT-KEPT.txt").read_text()
        assert missing.startswith("changed files, memory: only a pod's node knows of them"), missing
        processes = [json.loads(line) for line in (place / "node/processes.jsonl").read_text().splitlines()]
        [attacker] = [one for one in processes if one["name"] == "python3" and "[redacted]" in one["command"]]
        assert attacker["user"] != 0
        assert len(attacker["container"]) == 64
        assert not any(KEY.encode() in file.read_bytes() for file in place.rglob("*") if file.is_file())
        packed = socket.inet_aton(outside.address)
        towards = f"{int.from_bytes(packed, sys.byteorder):08X}:{outside.port:04X} 01"
        assert any(towards in table.read_text() for table in place.glob("node/net-*/tcp"))
        groups = json.loads((place / "node/groups.json").read_text())
        assert {"pids.current", "cpu.stat"} <= groups[attacker["container"]].keys()
        assert "/workspace" in json.loads((place / "node/mounts.json").read_text())[attacker["container"]]


@contextmanager
def silent_agent(kubectl: Kubectl) -> Iterator[None]:
    """The agent is there, and does nothing."""
    uid = kubectl("get", "pods", "-n", NAMESPACE, "-o", "jsonpath={.items[0].metadata.uid}").stdout
    places = [path.parent for path in Path("/proc").glob("[0-9]*/cgroup") if uid in path.read_text()]
    pids = [int(place.name) for place in places if b"node_agent" in (place / "cmdline").read_bytes()]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_where_no_agent_answers_it_is_contained_as_fast_and_that_is_named(
    node: Cluster,
    kubectl: Kubectl,
    sandboxes: str,
    agent: str,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    with sandbox(kubectl, sandboxes, "unseen") as made, silent_agent(kubectl):
        quarantined(made)
        record_testsuite_property(
            "contained within, with an agent that is silent", made.get()["status"]["incident"]["containedWithin"]
        )
        eventually("its evidence is kept", lambda: bool(made.get()["status"]["incident"].get("evidence")))
        place = unpacked(node, made, tmp_path)
        missing = (place / "NOT-KEPT.txt").read_text()
        assert "what the agent on its node tells: no answer in time" in missing
        assert "processes, open connections, counters, changed files, memory" in missing
        assert (place / "pod.json").exists()
