"""What is lost of streams under way by a namespace's gateway when something ends: the table of docs/gateway.md.

A sandbox has requests to the model and downloads by the proxy under way, each of EVENTS parts, and asks one short
request after another. In the middle something happens. It is counted what arrived, and what of the short ones failed.
"""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from node_operator import NodeOperator
from nodekit import Kubectl, eventually, namespace, report
from sandboxkit import Sandbox, sandbox
from slow_provider import EVENTS, PORT, slow_provider_in

from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.node.names import Names

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

GATEWAY = "claude-sandbox-gateway"
SPACE, NAME, ADDRESS = "streams", "slow.example.org", "10.99.99.98"
TICK = 0.15
MANY = 6
"""Requests, and downloads, that are under way."""
KEYS = ("sk-ant-not-a-real-key-streams-1", "sk-ant-not-a-real-key-streams-2")
CLIENT = Path(__file__).with_name("gateway_client.py")


@dataclass
class Lab:
    """A sandbox whose model's provider takes its time."""

    node: Cluster
    kubectl: Kubectl
    operator: NodeOperator
    made: Sandbox
    egress: dict[str, Any]

    def secret(self, key: str) -> None:
        kind = {"apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/api-key"}
        metadata = {"name": "key", "namespace": SPACE}
        self.kubectl.apply(kind | {"metadata": metadata, "stringData": {"api-key": key}})

    def settle(self, **limits: int) -> None:
        """What the operator's gateways are told."""
        document = {"provider": {"baseURL": f"http://{ADDRESS}:{PORT}"}, "egress": self.egress, "limits": limits}
        self.operator.settings.write_text(json.dumps(document))

    def allow(self, *names: str) -> None:
        patch = {"spec": {"network": {"egress": {"allowedDomains": list(names)}}}}
        self.kubectl("patch", "claudesandbox", "-n", SPACE, self.made.name, "--type=merge", "-p", json.dumps(patch))

    def pods(self) -> list[dict[str, Any]]:
        label = "claudesandbox.dev/component=gateway"
        return list(json.loads(self.kubectl("get", "pods", "-n", SPACE, "-l", label, "-o", "json").stdout)["items"])

    def open_at(self, pod: dict[str, Any]) -> int:
        """How much is under way at this replica."""
        inside = ("nsenter", f"--net={Names.of(self.node.layout).network}", "--", "curl", "-sS", "-m", "5")
        done = subprocess.run(
            [*inside, f"http://{pod['status']['podIP']}:8081/readyz"], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        return int(found["requests"]) + int(found["connections"])

    def process_of(self, pod: dict[str, Any]) -> int:
        identifier = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        for path in Path("/proc").glob("[0-9]*/cgroup"):
            try:
                if (
                    identifier in path.read_text()
                    and b"claude_sandbox.gateway" in (path.parent / "cmdline").read_bytes()
                ):
                    return int(path.parent.name)
            except OSError:
                continue
        raise AssertionError(f"no process of {identifier}")


@pytest.fixture(scope="module")
def lab(
    node: Cluster, kubectl: Kubectl, operator: NodeOperator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    directory, before = tmp_path_factory.mktemp("streams"), operator.settings
    made = Sandbox(kubectl, SPACE, "streams")
    egress = {"hosts": {NAME: [ADDRESS]}, "privateNetworks": [f"{ADDRESS}/32"]}
    found = Lab(node, kubectl, operator, made, egress)
    operator.stop()
    operator.settings = directory / "settings.json"
    try:
        found.settle()
        operator.start()
        kubectl.apply(namespace(SPACE))
        found.secret(KEYS[0])
        credentials = {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}
        network = {"egress": {"allowedDomains": [f"{NAME}:{PORT}"]}}
        with (
            slow_provider_in(Names.of(node.layout).network, directory, ADDRESS, TICK),
            sandbox(kubectl, SPACE, "streams", credentials=credentials, network=network),
        ):
            kubectl("exec", "-i", "-n", SPACE, made.pod, "--", "sh", "-c", "cat > /workspace/client.py",
                    stdin=CLIENT.read_text())  # fmt: skip
            yield found
    finally:
        operator.stop()
        operator.settings = before
        operator.start()
        kubectl("delete", "namespace", SPACE, "--wait=false", check=False)


@dataclass(frozen=True)
class Loss:
    """Of streams and downloads how many came whole; of short requests how many failed, and for how many seconds none
    was answered, from the first that failed on."""

    streamed: int
    loaded: int
    failed: int
    silent: float
    asked: tuple[tuple[float, float, bool, str], ...]


def during(lab: Lab, happens: Callable[[], object], seconds: float) -> Loss:
    """Have it happen a fifth of the way through."""
    script = f"python3 /workspace/client.py {MANY} {NAME}:{PORT} {seconds} > /workspace/found 2>/workspace/wrong"
    # Into a file: what one asks through may be away meanwhile.
    lab.made.run("sh", "-c", f"rm -f /workspace/found; ({script}; touch /workspace/done) </dev/null >/dev/null 2>&1 &")
    eventually("all is under way", lambda: sum(map(lab.open_at, lab.pods())) >= 2 * MANY)
    time.sleep(EVENTS * TICK / 5)
    happens()
    eventually("it has ended", lambda: not lab.made.fails("test", "-e", "/workspace/done"))
    wrong = lab.made.run("sh", "-c", "cat /workspace/wrong; rm /workspace/done")
    assert wrong == "", wrong
    found = json.loads(lab.made.run("cat", "/workspace/found"))
    asked = tuple(tuple(one) for one in found["asked"])
    whole = [sum(count == EVENTS for count in found[kind]) for kind in ("streamed", "loaded")]
    return Loss(whole[0], whole[1], sum(not fine for _, _, fine, _ in asked), _silent(asked), asked)


def _silent(asked: tuple[Any, ...]) -> float:
    longest, since = 0.0, None
    for began, ended, fine, _ in asked:
        if fine:
            longest, since = max(longest, ended - since if since is not None else 0.0), None
        elif since is None:
            since = began
    return round(longest, 2)


def told(what: str, loss: Loss) -> None:
    why = sorted({str(one[3]) for one in loss.asked if not one[2]})
    print(f"\n{what}: of {MANY} streams {loss.streamed} whole, of {MANY} downloads {loss.loaded}; of {len(loss.asked)}"
          f" short requests {loss.failed} failed {why}, none answered for {loss.silent} s")  # fmt: skip


WHOLE = (MANY, MANY)


def test_a_replica_that_is_killed_takes_its_own_streams_along_and_no_others(lab: Lab) -> None:
    lost = []

    def happens() -> None:
        pod = max(lab.pods(), key=lab.open_at)
        lost.append(lab.open_at(pod))
        os.kill(lab.process_of(pod), signal.SIGKILL)

    loss = during(lab, happens, EVENTS * TICK)
    told("a replica was killed", loss)
    # One more than is under way may be a short one.
    assert 0 <= lost[0] - (2 * MANY - loss.streamed - loss.loaded) <= 1, (lost, loss)
    assert loss.silent < 5
    lab.made.wait("Ready")


@pytest.mark.slow
def test_a_replica_that_is_deleted_goes_on_to_the_end(lab: Lab) -> None:
    def happens() -> None:
        pod = max(lab.pods(), key=lab.open_at)
        assert lab.open_at(pod) > 0
        lab.kubectl("delete", "pod", "-n", SPACE, pod["metadata"]["name"], "--wait=false")

    loss = during(lab, happens, EVENTS * TICK + 5)
    told("a replica was deleted", loss)
    assert ((loss.streamed, loss.loaded), loss.failed) == (WHOLE, 0), loss


@pytest.mark.slow
def test_the_whole_deployment_is_replaced_and_nothing_is_cut(lab: Lab) -> None:
    before = {pod["metadata"]["uid"] for pod in lab.pods()}

    def happens() -> None:
        lab.settle(requestsPerMinutePerSandbox=2999)
        lab.operator.stop()
        lab.operator.start()

    loss = during(lab, happens, EVENTS * TICK + 15)
    told("other settings", loss)
    assert ((loss.streamed, loss.loaded), loss.failed) == (WHOLE, 0), loss
    eventually("all pods are others", lambda: not before & {pod["metadata"]["uid"] for pod in lab.pods()})


@pytest.mark.slow
def test_the_operator_is_killed(lab: Lab) -> None:
    loss = during(lab, lab.operator.kill, EVENTS * TICK)
    lab.operator.start()
    told("the operator was killed", loss)
    assert ((loss.streamed, loss.loaded), loss.failed) == (WHOLE, 0), loss


@pytest.mark.slow
def test_the_api_server_is_away_and_comes_back(lab: Lab) -> None:
    def happens() -> None:
        cluster.kill(lab.node, "kube-apiserver")
        time.sleep(10)
        cluster.restart(lab.node, "kube-apiserver")

    loss = during(lab, happens, EVENTS * TICK + 15)
    lab.operator.goes_on()
    told("the API server was away for 10 s", loss)
    assert ((loss.streamed, loss.loaded), loss.failed) == (WHOLE, 0), loss
    lab.made.wait("Ready")


@pytest.mark.slow
def test_the_kubelet_is_killed_and_comes_back(lab: Lab) -> None:
    def happens() -> None:
        cluster.kill(lab.node, "kubelet")
        time.sleep(3)
        cluster.up(lab.node.layout.name, node=True, fsync=False, report=report)

    loss = during(lab, happens, EVENTS * TICK + 5)
    told("the kubelet was killed", loss)
    assert ((loss.streamed, loss.loaded), loss.failed) == (WHOLE, 0), loss
    lab.made.wait("Ready")


@pytest.mark.slow
def test_another_key_is_used_by_the_next_request(lab: Lab) -> None:
    changed = []
    before, after = (hashlib.sha256(key.encode()).hexdigest() for key in KEYS)

    def happens() -> None:
        lab.secret(KEYS[1])
        changed.append(time.time())

    loss = during(lab, happens, EVENTS * TICK)
    lab.secret(KEYS[0])
    told("another key", loss)
    assert ((loss.streamed, loss.loaded), loss.failed) == (WHOLE, 0), loss
    used = [(began, key) for began, _, _, key in loss.asked]
    late = [began - changed[0] for began, key in used if key == before]
    print(f"the key of before was used for {max(late):.2f} s after the Secret was another")
    assert max(late) < 1
    assert {key for _, key in used} == {before, after}


@pytest.mark.slow
def test_a_name_that_is_taken_out_ends_what_goes_to_it(lab: Lab) -> None:
    loss = during(lab, lambda: lab.allow("pypi.org"), EVENTS * TICK)
    lab.allow(f"{NAME}:{PORT}")
    told("the name was taken out", loss)
    assert (loss.streamed, loss.loaded, loss.failed) == (MANY, 0, 0), loss
