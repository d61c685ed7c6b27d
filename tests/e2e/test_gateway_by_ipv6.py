"""A namespace's gateway in a cluster of IPv6 alone: each packet, from pod to gateway and on, is of IPv6, and what may
not be connected to can't be. Each denial has a control: a pod without a policy, which shows that the target answers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gatewaykit import authority
from node_operator import operating
from nodekit import Kubectl, eventually, kubectl_for, namespace, pod, report
from origin_process import OriginProcess, origin_process
from provider_process import ProviderProcess, provider_in
from real_clients import ALLOWED, CLIENTS, EMPTY, REFUSED, TRUST
from sandboxkit import Sandbox, sandbox

from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.node.names import Names

# A node of its own has to begin.
pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(900)]

GATEWAY = "claude-sandbox-gateway"
SPACE, ELSEWHERE = "by-ipv6", "by-ipv6-elsewhere"
ADDRESS = "fd00:99::99"
"""The provider's and the server's, in the node's network."""
KEY = "sk-ant-not-a-real-key-6"
SERVE = "python3 -m http.server 8000 --bind :: --directory /tmp"


@dataclass(frozen=True)
class Lab:
    """A sandbox, and beside it pods that no policy selects."""

    node: Cluster
    kubectl: Kubectl
    made: Sandbox
    provider: ProviderProcess
    server: OriginProcess

    def address(self, kind: str, where: str, name: str, path: str = ".status.podIP") -> str:
        return self.kubectl("get", kind, "-n", where, name, "-o", f"jsonpath={{{path}}}").stdout

    def reaches(self, where: str, name: str, host: str, port: int) -> bool:
        return self.kubectl.connects(where, name, host, port)

    def fetches(self, name: str) -> str:
        return self.made.run("sh", "-c", CLIENTS[0].command(name, self.server.secure, self.server.plain))


@pytest.fixture(scope="module")
def node(needs_root: None, state_home: Path, sandbox_image: ImageArchive) -> Iterator[Cluster]:
    name = f"tests-node-six-{os.getpid()}"
    try:
        running = cluster.up(name, node=True, ipv6=True, fsync=False, report=report)
        load_image(running.layout, sandbox_image)
        yield running
    finally:
        cluster.down(name, report)


@pytest.fixture(scope="module")
def lab(node: Cluster, sandbox_image: ImageArchive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory, kubectl, network = tmp_path_factory.mktemp("six"), kubectl_for(node), Names.of(node.layout).network
    trust = authority(directory, ALLOWED, REFUSED)
    with (
        provider_in(network, directory, address=ADDRESS) as provider,
        origin_process(network, ADDRESS, trust, directory) as server,
    ):
        egress = {"hosts": {name: [ADDRESS] for name in (ALLOWED, REFUSED)}, "privateNetworks": [f"{ADDRESS}/128"]}
        settings = directory / "settings.json"
        settings.write_text(json.dumps({"provider": {"baseURL": provider.url}, "egress": egress}))
        log = directory / "operator.log"
        with operating(node, kubectl, sandbox_image, log, settings, "--open-private-network=fd00::/8"):
            _pods(kubectl, sandbox_image)
            credentials = {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}
            network_of_it = {"egress": {"allowedDomains": [f"{ALLOWED}:{server.secure}"]}}
            with sandbox(kubectl, SPACE, "six", credentials=credentials, network=network_of_it) as made:
                bundle = trust.bundle.read_text()
                kubectl("exec", "-i", "-n", SPACE, made.pod, "--", "sh", "-c", f"cat > {TRUST}", stdin=bundle)
                yield Lab(node, kubectl, made, provider, server)


def _pods(kubectl: Kubectl, image: ImageArchive) -> None:
    kubectl.apply(namespace(SPACE), namespace(ELSEWHERE))
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/api-key"}
    kubectl.apply(secret | {"metadata": {"name": "key", "namespace": SPACE}, "stringData": {"api-key": KEY}})
    for where in (SPACE, ELSEWHERE):
        kubectl.apply(pod(where, "free", image.pinned, args=SERVE.split()))
    for where in (SPACE, ELSEWHERE):
        kubectl.ready(where, "free")


def test_claude_code_and_programs_work_through_it_by_ipv6_alone(lab: Lab) -> None:
    pods = json.loads(lab.kubectl("get", "pods", "-n", SPACE, "-o", "json").stdout)["items"]
    addresses = [one["ip"] for each in pods for one in each["status"].get("podIPs", [])]
    assert sum(each["metadata"]["name"].startswith(GATEWAY) for each in pods) == 2
    service = lab.address("service", SPACE, GATEWAY, ".spec.clusterIP")
    assert all(map(IPv6Address, [*addresses, service]))
    # Not even the kernel has another family there, but for what is near.
    assert lab.made.fails("grep", "-v", "^Iface", "/proc/net/route")

    found = json.loads(lab.made.run("claude", "-p", "ping", "--output-format", "json"))
    assert (found["result"], found["is_error"]) == ("pong", False)
    assert lab.provider.requests()[-1]["key"] == KEY
    assert EMPTY in lab.fetches(ALLOWED)
    assert CLIENTS[0].refused in lab.fetches(REFUSED)


def test_its_isolation_is_proven_by_ipv6(lab: Lab) -> None:
    """By the operator itself, which tries."""
    lab.made.wait("IsolationVerified")


METADATA = "fd00:ec2::254"
"""AWS's, and on this node somebody's who takes connections."""
ACCEPTS = """import socket
serving = socket.create_server(("fd00:ec2::254", 80), family=socket.AF_INET6)
print("ready", flush=True)
while True: serving.accept()
"""


@contextmanager
def metadata_service(node: Cluster) -> Iterator[None]:
    inside = ("nsenter", f"--net={Names.of(node.layout).network}", "--")
    subprocess.run([*inside, "ip", "address", "replace", f"{METADATA}/128", "dev", "lo"], check=True)
    command = [*inside, sys.executable, "-c", ACCEPTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as serving:
        try:
            assert serving.stdout is not None
            assert serving.stdout.readline() == b"ready\n"
            yield
        finally:
            serving.kill()
            subprocess.run([*inside, "ip", "address", "del", f"{METADATA}/128", "dev", "lo"], check=False)


def test_a_metadata_service_of_ipv6_is_reached_where_a_policy_opens_everything(lab: Lab) -> None:
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
    named = {"metadata": {"name": "open", "namespace": SPACE}, "spec": spec}
    with metadata_service(lab.node):
        lab.kubectl.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **named})
        try:
            eventually("it is reached", lambda: lab.made.results()["NET-04"] == "Fail")
            assert f"the metadata service at {METADATA} can be reached" in lab.made.control("NET-04")["message"]
        finally:
            lab.kubectl("delete", "networkpolicy", "-n", SPACE, "open")
    lab.made.wait("IsolationVerified")


def test_no_packet_of_ipv6_gets_out_past_it(lab: Lab) -> None:
    server = urlsplit(lab.node.server)
    assert server.hostname
    assert server.port
    targets = {
        "a pod of the namespace": (lab.address("pod", SPACE, "free"), 8000),
        "a pod of another": (lab.address("pod", ELSEWHERE, "free"), 8000),
        "the API server": (server.hostname, server.port),
        "the API server's Service": (lab.address("service", "default", "kubernetes", ".spec.clusterIP"), 443),
        "what the gateway dials": (ADDRESS, lab.server.secure),
    }
    for name, (host, port) in targets.items():
        assert lab.reaches(SPACE, "free", host, port), f"{name} does not answer at all"
        assert not lab.reaches(SPACE, lab.made.pod, host, port), name
    # By the addresses that interfaces have by themselves, which policies don't speak of.
    near = lab.kubectl.link_local(SPACE, "free")
    assert lab.reaches(SPACE, "free", near, 8000), "it does not listen there"
    assert not lab.reaches(SPACE, lab.made.pod, near, 8000)


def test_nobody_but_sandboxes_of_the_namespace_connects_to_it(lab: Lab) -> None:
    service = lab.address("service", SPACE, GATEWAY, ".spec.clusterIP")
    for port in (3128, 8443):
        assert lab.reaches(SPACE, lab.made.pod, service, port)
        for where in (SPACE, ELSEWHERE):
            assert not lab.reaches(where, "free", service, port), where


def test_nobody_connects_to_a_sandbox(lab: Lab) -> None:
    lab.made.run("sh", "-c", f"cd /tmp; ({SERVE} >/dev/null 2>&1 </dev/null &)")
    address = lab.address("pod", SPACE, lab.made.pod)
    eventually("it listens", lambda: lab.reaches(SPACE, lab.made.pod, "::1", 8000))
    assert lab.reaches(SPACE, lab.made.pod, address, 8000), "it does not answer to its own address"
    for where in (SPACE, ELSEWHERE):
        assert not lab.reaches(where, "free", address, 8000), where
