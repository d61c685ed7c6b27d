"""Isolation is proven by trying, on a node that enforces policies: what is open is seen to be open."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import world_server
from node_operator import NodeOperator
from nodekit import Kubectl, eventually, pod, report
from sandboxkit import SMALL, Sandbox, sandbox

from claude_sandbox.api import meta
from claude_sandbox.api.status import Result
from claude_sandbox.backends.kubernetes.probing import controls
from claude_sandbox.backends.kubernetes.probing.controls import Controls
from claude_sandbox.backends.kubernetes.probing.pod import confined_spec
from claude_sandbox.backends.kubernetes.probing.running import Questions, ask
from claude_sandbox.backends.kubernetes.probing.targets import RESOLVED
from claude_sandbox.backends.probing.wanted import METADATA_NAMES, NO_PORT, Named, Wanted
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.compliance.controls.judges.probed import denial, metadata
from claude_sandbox.compliance.evidence.probes import Expected, ProbeReport, Subject
from claude_sandbox.install.manifests import PROBES, Installation, render
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import build_image
from claude_sandbox.localcluster.node.commands import call
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.namespaces import enter
from claude_sandbox.localcluster.node.network import near
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.programs.os_packages import ensure
from claude_sandbox.probe import VERSION
from claude_sandbox.probe.kernel import ATTEMPTS

pytestmark = pytest.mark.node

BROKERED = {"credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}}


def probes(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    """The pods that try."""
    found = json.loads(kubectl("get", "pods", "-n", namespace, "-o", "json").stdout)["items"]
    return [one for one in found if one["metadata"]["name"].startswith("probe-")]


@pytest.fixture(scope="module")
def proven(kubectl: Kubectl, sandboxes: str) -> Iterator[Sandbox]:
    """A sandbox with a gateway and a declared port, as soon as its isolation is proven."""
    spec = {**SMALL, **BROKERED, "network": {"ports": [{"name": "web", "containerPort": 8000}]}}
    with sandbox(kubectl, sandboxes, "proven", **spec) as made:
        made.wait("IsolationVerified")
        yield made


def test_isolation_is_proven_and_nothing_is_left_of_that(proven: Sandbox, kubectl: Kubectl) -> None:
    assert proven.results()["NET-03"] == "Pass"
    assert proven.results()["KERN-07"] == "Pass"
    assert proven.is_("Ready")
    assert proven.is_("Compliant")
    eventually("the probe's pod is gone", lambda: not probes(kubectl, proven.namespace))


@contextmanager
def open_to_all(proven: Sandbox, kubectl: Kubectl) -> Iterator[Sandbox]:
    """The sandbox with another policy of the namespace, which lets it connect anywhere."""
    name = f"open-{secrets.token_hex(3)}"
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
    metadata = {"name": name, "namespace": proven.namespace}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    kubectl.apply(policy)
    try:
        yield proven
    finally:
        kubectl("delete", "networkpolicy", "-n", proven.namespace, name)
    proven.wait("IsolationVerified")


@pytest.fixture
def opened(proven: Sandbox, kubectl: Kubectl) -> Iterator[Sandbox]:
    with open_to_all(proven, kubectl):
        yield proven


def test_a_policy_of_somebody_else_that_opens_everything_is_found_by_trying(opened: Sandbox) -> None:
    eventually("what is open is reached", lambda: opened.results()["NET-03"] == "Fail")
    assert "the API server at" in opened.control("NET-03")["message"]
    assert opened.is_("IsolationVerified", "False")


def test_who_runs_commands_in_a_probe_can_not_have_it_say_that_all_is_denied(opened: Sandbox, kubectl: Kubectl) -> None:
    """They are its user, and write its message. What it can't be made to say is its exit code."""
    eventually("it is probed", lambda: bool(running(kubectl, opened.namespace)))
    forging = forge(kubectl, running(kubectl, opened.namespace)[0])
    seen: list[tuple[str, str]] = []

    def ended() -> bool:
        seen.append(verdict(opened))
        return "exit code" in seen[-1][1]

    try:
        eventually("it has ended, with another message than its own", ended)
    finally:
        forging.kill()
        forging.wait()
    assert {result for result, _ in seen} == {"Unknown"}


@pytest.mark.slow
def test_a_pod_of_a_tenant_that_looks_like_a_probe_says_nothing(proven: Sandbox, kubectl: Kubectl) -> None:
    """With the labels, the owner and the name; and with a message that all is denied."""
    own = json.loads(kubectl("get", "pod", "-n", proven.namespace, proven.pod, "-o", "json").stdout)
    alike = pod(proven.namespace, "probe-proven-0123456789", own["spec"]["containers"][0]["image"])
    alike["metadata"] |= {"labels": own["metadata"]["labels"], "ownerReferences": own["metadata"]["ownerReferences"]}
    alike["spec"]["restartPolicy"] = "Never"
    alike["spec"]["containers"][0]["command"] = ["sh", "-c", "echo denied >/dev/termination-log"]
    kubectl.apply(alike)
    with open_to_all(proven, kubectl):
        eventually("what is open is reached", lambda: proven.results()["NET-03"] == "Fail")
        # The next probe begins with taking away what an earlier one may have left.
        eventually("it is taken away", lambda: not probes(kubectl, proven.namespace))
    assert proven.pod_uid() == own["metadata"]["uid"]


def running(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    return [one for one in probes(kubectl, namespace) if one["status"].get("phase") == "Running"]


def verdict(sandbox: Sandbox) -> tuple[str, str]:
    """NET-03's result and message, of one moment."""
    found = sandbox.get()["status"]["compliance"]["controls"]
    of_probe = (one for one in found if one["id"] == "NET-03")
    return next(((one["result"], str(one.get("message"))) for one in of_probe), ("Pass", ""))


def forge(kubectl: Kubectl, probe: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A command in the probe's own container that goes on writing its message: as asked, and all denied."""
    asked = json.loads(probe["spec"]["containers"][0]["args"][0])["targets"]
    came = [[one["name"], "connected" if one["allowed"] else "timeout", "", 3000] for one in asked]
    kernel = [[name, "denied", "EPERM"] for name in ATTEMPTS]
    attempts = [["self", "connected", "", 0], *came]
    message = json.dumps({"version": VERSION, "attempts": attempts, "open": 0, "kernel": kernel, "strict": []})
    script = f"""
import os
file, said = os.open("/dev/termination-log", os.O_WRONLY), {message.encode()!r}
while True:
    os.pwrite(file, said, 0)
    os.ftruncate(file, len(said))
"""
    metadata = probe["metadata"]
    where = ["-n", metadata["namespace"], metadata["name"]]
    command = [kubectl.program, "--kubeconfig", kubectl.kubeconfig, "exec", *where, "--", "python3", "-c", script]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


METADATA = "169.254.253.254"
"""Link-local, as that of clouds. Theirs may be answered on the machine that runs the tests."""


@pytest.fixture(scope="module")
def image() -> Image:
    return parse_image(build_image("operator", report).pinned, "IfNotPresent")


@pytest.fixture
def controls_namespace(kubectl: Kubectl) -> str:
    """As it is installed, but for the account of an operator that is a pod."""
    shipped = [
        one for one in render(Installation()) if one["metadata"].get("namespace", one["metadata"]["name"]) == PROBES
    ]
    kubectl.apply(*(one for one in shipped if not one["kind"].startswith("Role")))
    return PROBES


@pytest.fixture(autouse=True)
def _beside_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator takes away what looks like a probe that another operator left: ours must not."""
    monkeypatch.setattr(meta, "PROBE_PREFIX", "trial-")


@pytest.fixture
def _confined_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose own policy lets it reach none of this, as the shipped one does."""

    async def here(wanted: tuple[Wanted, ...], _seconds: float) -> dict[str, bool]:
        return {one.name: False for one in wanted if one.elsewhere}

    monkeypatch.setattr(controls, "tried_here", here)


class Watch:
    """What a watch would tell, read anew each time."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def get(self, _resource: Any, space: str, name: str) -> dict[str, Any] | None:
        found = self.kubectl("get", "pod", "-n", space, name, "-o", "json", check=False)
        return json.loads(found.stdout) if found.returncode == 0 else None

    def of(self, *_: Any) -> Any:
        return self

    @property
    def store(self) -> Any:
        return self

    def by_namespace(self, _space: str) -> tuple[Any, ...]:
        return ()


async def twin(proven: Sandbox, cluster: Cluster, image: Image, wanted: tuple[Wanted, ...]) -> ProbeReport:
    """What a twin of the sandbox's pod finds now, and what answers on its node."""
    live = json.loads(proven.kubectl("get", "pod", "-n", proven.namespace, proven.pod, "-o", "json").stdout)
    identity = Identity(proven.namespace, proven.name, proven.get()["metadata"]["uid"])
    watch: Any = Watch(proven.kubectl)
    async with Api(from_kubeconfig(str(cluster.kubeconfig))) as api:
        asked = Questions(identity, live, wanted, 120.0)
        return await ask(api, watch, image, asked, Controls(api, image, PROBES))


def of_node(proven: Sandbox) -> tuple[Wanted, Wanted, Wanted]:
    """The kubelet on the sandbox's node, and the metadata service of the cloud that it were in, by its name too."""
    query = "jsonpath={.status.hostIP}"
    host = proven.kubectl("get", "pod", "-n", proven.namespace, proven.pod, "-o", query).stdout
    common: Any = {"expected": Expected.DENIED_IF_THERE, "elsewhere": True, "by_node": True}
    named = {**common, "protocol": "named", "query": METADATA_NAMES[0], "subject": Subject.METADATA}
    return (
        Wanted("the kubelet", host, 10250, subject=Subject.CLUSTER, **common),
        Wanted("the metadata service", METADATA, 80, subject=Subject.METADATA, **common),
        Wanted("the metadata service by its name", METADATA, 80, **named),
    )


ACCEPTS = """import socket, sys, threading
s = socket.create_server((sys.argv[1], 80))
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind((sys.argv[1], 53))
def answer():
    record = bytes.fromhex("c00c000100010000003c0004") + socket.inet_aton(sys.argv[1])
    while True:
        asked, who = names.recvfrom(512)
        names.sendto(asked[:2] + bytes.fromhex("81800001000100000000") + asked[12:] + record, who)
threading.Thread(target=answer, daemon=True).start()
print("ready", flush=True)
while True: s.accept()
"""
"""One that takes connections, and a resolver beside it that says of every name that it is there."""


@contextmanager
def on_the_node(cluster: Cluster, address: str, program: str) -> Iterator[None]:
    """Somebody at an address, as a process in the node's network."""
    inside = ("nsenter", f"--net={Names.of(cluster.layout).network}", "--")
    subprocess.run([*inside, "ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    command = [*inside, sys.executable, "-c", program, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as serving:
        try:
            assert serving.stdout is not None
            assert serving.stdout.readline() == b"ready\n"
            yield
        finally:
            serving.kill()
            subprocess.run([*inside, "ip", "address", "del", f"{address}/32", "dev", "lo"], check=False)


@pytest.mark.usefixtures("controls_namespace", "_confined_operator")
async def test_what_answers_on_a_sandboxs_node_is_seen_from_there(
    proven: Sandbox, node: Cluster, kubectl: Kubectl, image: Image
) -> None:
    """So the kubelet and a metadata service are proven to be denied, though no policy lets the operator reach them."""
    wanted = of_node(proven)
    found = await twin(proven, node, image, wanted)
    # Whether somebody answers at the other address is the machine's: some lead every way out to a proxy.
    assert found.tried[0].answers
    assert "seen to be denied: the kubelet" in denial(found).value
    with on_the_node(node, METADATA, ACCEPTS):
        there = await twin(proven, node, image, wanted)
        assert [one.answers for one in there.tried] == [True] * len(wanted)
        assert {one.outcome for one in there.tried} <= {"timeout", "refused", "unreachable"}
        assert ", ".join(one.name for one in wanted) in denial(there).value
        assert metadata(there).result is Result.PASS
        with open_to_all(proven, kubectl):
            reached = await twin(proven, node, image, wanted)
            assert [one.name for one in wanted if f"{one.name} can be reached" not in denial(reached).message] == []
            assert metadata(reached).result is Result.FAIL
            assert "kubelet" not in metadata(reached).message
    left = ("get", "pods", "-n", PROBES, "-o", "name")
    eventually("no control is left", lambda: not kubectl(*left).stdout)


@pytest.mark.slow
@pytest.mark.usefixtures("controls_namespace", "_confined_operator")
async def test_servers_of_the_world_are_reached_where_a_policy_opens_everything(
    proven: Sandbox, node: Cluster, kubectl: Kubectl, image: Image
) -> None:
    wanted = tuple(one.wanted() for one in world_server.SERVED)
    with on_the_node(node, world_server.WORLD, world_server.PROGRAM):
        found = await twin(proven, node, image, wanted)
        # A pod on the node is the control.
        assert [one.name for one in found.tried if not one.answers] == []
        assert [one.name for one in wanted if one.name not in denial(found).value] == []
        with open_to_all(proven, kubectl):
            reached = denial(await twin(proven, node, image, wanted)).message
        assert [one.name for one in wanted if f"{one.name} can be reached" not in reached] == []


@pytest.mark.slow
@pytest.mark.usefixtures("controls_namespace", "_confined_operator")
async def test_the_clusters_resolver_and_the_node_by_icmp_are_reached_where_a_policy_opens_everything(
    proven: Sandbox, node: Cluster, kubectl: Kubectl, image: Image
) -> None:
    """The resolver as a sandbox has it that may not ask it."""
    query = "jsonpath={.spec.clusterIP}"
    service = kubectl("get", "service", "-n", "kube-system", "kube-dns", "-o", query).stdout
    denied: Any = {"expected": Expected.DENIED_IF_THERE, "elsewhere": True, "by_node": True, "query": RESOLVED}
    resolver = tuple(
        Wanted(f"the cluster's resolver over {name}", service, 53, protocol=f"dns-{name.lower()}", **denied)
        for name in ("UDP", "TCP")
    )
    host = kubectl("get", "pod", "-n", proven.namespace, proven.pod, "-o", "jsonpath={.status.hostIP}").stdout
    echo = Named(host, NO_PORT, "icmp").wanted()
    closed = await twin(proven, node, image, (*resolver, echo))
    assert [one.answers for one in closed.tried] == [True] * 3
    assert ", ".join(one.name for one in resolver) in denial(await twin(proven, node, image, resolver)).value
    with open_to_all(proven, kubectl):
        reached = denial(await twin(proven, node, image, (*resolver, echo))).message
    assert [one.name for one in (*resolver, echo) if f"{one.name} can be reached" not in reached] == []


@pytest.mark.slow
@pytest.mark.usefixtures("controls_namespace")
async def test_another_sandbox_is_reached_where_a_policy_opens_everything(
    proven: Sandbox, node: Cluster, kubectl: Kubectl, image: Image
) -> None:
    serving = {"args": ["python3", "-m", "http.server", "8000", "--directory", "/tmp"]}
    ports = {"ports": [{"name": "web", "containerPort": 8000}]}
    with sandbox(kubectl, proven.namespace, "beside", **{**SMALL, **serving}, network=ports) as beside:
        query = "jsonpath={.status.podIP}"
        address = kubectl("get", "pod", "-n", beside.namespace, beside.pod, "-o", query).stdout
        other = Wanted("another sandbox", address, 8000, Expected.DENIED_IF_THERE)
        assert denial(await twin(proven, node, image, (other,))).result is Result.UNKNOWN
        with open_to_all(proven, kubectl):
            eventually("it listens", lambda: kubectl.connects(proven.namespace, proven.pod, address, 8000))
            assert "another sandbox can be reached" in denial(await twin(proven, node, image, (other,))).message


@contextmanager
def by_link_local(cluster: Cluster) -> Iterator[None]:
    """The node's bridge passes on what goes between link-local addresses, as bridges do."""
    programs, names = ensure(NEEDED, report), Names.of(cluster.layout)
    environment = {**os.environ, **programs.environment()}
    call([*enter(names), str(programs.path("nft")), "delete", "table", "bridge", "claude-sandbox"], environment)
    try:
        yield
    finally:
        near.close(names, programs)


@pytest.mark.slow
@pytest.mark.usefixtures("controls_namespace")
async def test_a_pod_beside_it_is_tried_by_its_link_local_address(
    proven: Sandbox, node: Cluster, kubectl: Kubectl, image: Image
) -> None:
    selector = f"{meta.LABEL_COMPONENT}={meta.COMPONENT_GATEWAY}"
    listed = kubectl("get", "pods", "-n", proven.namespace, "-l", selector, "-o", "json").stdout
    address = json.loads(listed)["items"][0]["status"]["podIP"]
    page = Wanted("the page", address, 8081, Expected.DENIED_IF_THERE, "link-local", answers=True)
    closed = await twin(proven, node, image, (page,))
    assert closed.tried[0].outcome == "timeout"
    assert "seen to be denied: the page" in denial(closed).value
    with by_link_local(node):
        assert "the page can be reached" in denial(await twin(proven, node, image, (page,))).message
        # And by the operator itself, at its next look.
        proven.kubectl("label", "pod", "-n", proven.namespace, proven.pod, "look=again")
        eventually("it is found", lambda: "link-local" in verdict(proven)[1])
        assert verdict(proven)[0] == "Fail"
    proven.kubectl("label", "pod", "-n", proven.namespace, proven.pod, "look-")
    proven.wait("IsolationVerified")


@pytest.mark.slow
@pytest.mark.usefixtures("controls_namespace")
async def test_a_policy_of_its_own_that_is_gone_is_found_by_trying_and_comes_back(
    proven: Sandbox, node: Cluster, kubectl: Kubectl, image: Image, operator: NodeOperator
) -> None:
    """Else it is back within milliseconds, too soon to be tried."""
    server = Named(*_address(kubectl)).wanted()
    operator.kill()
    try:
        assert (await twin(proven, node, image, (server,))).tried[0].outcome != "connected"
        policies = (f"networkpolicy/sandbox-{proven.name}", "networkpolicy/claude-sandbox-default-deny")
        kubectl("delete", "-n", proven.namespace, *policies)
        found = await twin(proven, node, image, (server,))
        assert f"{server.name} can be reached" in denial(found).message
    finally:
        operator.start()
    eventually("its policy is back", lambda: all(_is_there(kubectl, proven.namespace, one) for one in policies))
    proven.wait("IsolationVerified")


def _is_there(kubectl: Kubectl, space: str, what: str) -> bool:
    return kubectl("get", "-n", space, what, check=False).returncode == 0


def _address(kubectl: Kubectl) -> tuple[str, int]:
    """The API server behind its Service."""
    found = json.loads(kubectl("get", "endpointslices", "-n", "default", "kubernetes", "-o", "json").stdout)
    return found["endpoints"][0]["addresses"][0], found["ports"][0]["port"]


LOOSE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "as a sandbox is": ({}, set()),
    "without a filter": (
        {"seccompProfile": {"type": "Unconfined"}},
        {"unshare of users", "keyctl", "io_uring_setup", "perf_event_open", "userfaultfd"},
    ),
    "privileged, as root": (
        {"privileged": True, "allowPrivilegeEscalation": True, "runAsUser": 0, "runAsNonRoot": False,
         "readOnlyRootFilesystem": False, "capabilities": {}},
        ATTEMPTS.keys() - {"memory of others", "finit_module"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOSE)
def test_what_the_kernel_lets_a_pod_do_is_seen(
    name: str, kubectl: Kubectl, operator: NodeOperator, image: Image
) -> None:
    change, possible = LOOSE[name]
    space, spec = "e2e-calls", confined_spec(image, json.dumps({"seconds": 1, "settle": 0, "targets": []}))
    spec["containers"][0]["securityContext"] |= change
    metadata = {"name": f"calls-{secrets.token_hex(3)}", "namespace": space}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def ended() -> dict[str, Any]:
        live = json.loads(kubectl("get", "pod", "-n", space, metadata["name"], "-o", "json").stdout)
        statuses = live["status"].get("containerStatuses") or [{}]
        return (statuses[0].get("state") or {}).get("terminated") or {}

    try:
        eventually("it has ended", lambda: bool(ended()))
        told = json.loads(ended()["message"])["kernel"]
    finally:
        kubectl("delete", "pod", "-n", space, metadata["name"], "--wait=false")
    came = {call: may for call, may, _ in told}
    assert "failed" not in came.values()
    if possible:
        assert {call for call in possible if came[call] != "possible"} == set()
    else:
        assert set(came.values()) == {"denied"}
