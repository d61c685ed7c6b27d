"""What a pod on the node is: hardened where it asks for it, with storage and names, and nobody else's business."""

import asyncio
import http.client
import ssl
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nodekit import Kubectl, eventually, namespace, pod, report

from claude_sandbox.api.spec import BackendType
from claude_sandbox.cli.audit import pods
from claude_sandbox.cli.audit.sandboxes import Audited
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.node.names import Names

pytestmark = pytest.mark.node

WHERE = "node-pods"


@pytest.fixture(scope="module")
def agent(kubectl: Kubectl, sandbox_image: ImageArchive) -> str:
    """A pod of the sandbox's image, named by a digest that no registry has ever served."""
    kubectl.apply(namespace(WHERE), pod(WHERE, "agent", sandbox_image.pinned))
    kubectl.ready(WHERE, "agent")
    return "agent"


def test_a_namespace_that_enforces_restricted_pods_accepts_and_runs_one(kubectl: Kubectl, agent: str) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in kubectl.run(WHERE, agent, "cat", "/proc/1/status").stdout.splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == ["1000"] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    refused = kubectl.run(WHERE, agent, "touch", "/usr/local/bin/mine", check=False)
    assert "Read-only file system" in refused.stderr


def test_the_namespace_refuses_a_pod_that_is_not_restricted(
    kubectl: Kubectl, agent: str, sandbox_image: ImageArchive
) -> None:
    loose = pod(WHERE, "loose", sandbox_image.pinned)
    del loose["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(AssertionError, match=r"violates PodSecurity .restricted"):
        kubectl.apply(loose)


def test_the_kernel_limits_the_processes_of_a_pod(kubectl: Kubectl, node: Cluster, agent: str) -> None:
    uid = kubectl("get", "pod", "-n", WHERE, agent, "-o", "jsonpath={.metadata.uid}").stdout
    group = Names.of(node.layout).cgroup
    limits = [path.read_text().strip() for path in Path("/sys/fs/cgroup").glob(f"**/{group}/**/*pod{uid}*/pids.max")]
    assert limits == ["512"]


def test_the_image_holds_no_program_that_gives_privileges(kubectl: Kubectl, agent: str) -> None:
    found = kubectl.run(WHERE, agent, "find", "/", "-xdev", "-type", "f", "-perm", "/6000", check=False)
    assert found.stdout == ""
    # The search itself works: it finds what is there.
    assert "claude" in kubectl.run(WHERE, agent, "find", "/usr/local/bin", "-perm", "/111").stdout


def test_the_agent_is_called_claude_and_claude_code_runs(kubectl: Kubectl, agent: str) -> None:
    assert kubectl.run(WHERE, agent, "id", "-un").stdout.strip() == "claude"
    assert "(Claude Code)" in kubectl.run(WHERE, agent, "claude", "--version").stdout


def test_a_waiting_sandbox_ends_at_once_when_told_to(kubectl: Kubectl, sandbox_image: ImageArchive) -> None:
    """The grace period is an hour here: a first process that ignores SIGTERM would be seen."""
    kubectl.apply(namespace(WHERE), pod(WHERE, "leaving", sandbox_image.pinned))
    kubectl.ready(WHERE, "leaving")
    kubectl("delete", "pod", "-n", WHERE, "leaving", "--grace-period=3600", "--wait=false")
    eventually("the pod is gone", lambda: kubectl("get", "pod", "-n", WHERE, "leaving", check=False).returncode != 0)


def test_pods_resolve_the_names_of_services(kubectl: Kubectl, agent: str) -> None:
    assert kubectl.resolves(WHERE, agent, "kubernetes.default.svc.cluster.local")
    assert kubectl.resolves(WHERE, agent, "kube-dns.kube-system")
    assert not kubectl.resolves(WHERE, agent, "nobody.default.svc.cluster.local")


def test_a_claim_is_bound_writable_by_the_agent_and_outlives_its_pod(
    kubectl: Kubectl, node: Cluster, sandbox_image: ImageArchive
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "workspace", "namespace": WHERE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
    }
    source = {"persistentVolumeClaim": {"claimName": "workspace"}}
    kubectl.apply(namespace(WHERE), claim)
    for name in ("first", "second"):
        kubectl.apply(pod(WHERE, name, sandbox_image.pinned, volumes=[("/workspace", source)]))
        kubectl.ready(WHERE, name)
        kubectl.run(WHERE, name, "sh", "-c", "echo work >>/workspace/file")
        lines = kubectl.run(WHERE, name, "cat", "/workspace/file").stdout
        owner = kubectl.run(WHERE, name, "stat", "-c", "%u", "/workspace/file").stdout.strip()
        kubectl("delete", "pod", "-n", WHERE, name)
    assert (lines, owner) == ("work\nwork\n", "1000")

    volume = kubectl("get", "pvc", "-n", WHERE, "workspace", "-o", "jsonpath={.spec.volumeName}").stdout
    kubectl("delete", "pvc", "-n", WHERE, "workspace")

    def phase() -> str:
        return kubectl("get", "pv", volume, "-o", "jsonpath={.status.phase}").stdout

    eventually("the volume is released", lambda: phase() == "Released")
    cluster.up(node.name, node=True, fsync=False, report=report)
    eventually("the volume can be had again", lambda: phase() == "Available")
    place = kubectl("get", "pv", volume, "-o", "jsonpath={.spec.local.path}").stdout
    assert list(Path(place).iterdir()) == []


@pytest.mark.parametrize("path", ["/pods", "/runningpods/", "/metrics"])
def test_the_kubelet_tells_strangers_nothing(node: Cluster, kubectl: Kubectl, path: str) -> None:
    address = kubectl("get", "node", "-o", "jsonpath={.items[0].status.addresses[0].address}").stdout
    trust = ssl.create_default_context(cafile=node.layout.pki / "ca.crt")
    connection = http.client.HTTPSConnection(address, 10250, timeout=10, context=trust)
    connection.request("GET", path)
    assert connection.getresponse().status == http.client.UNAUTHORIZED
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection(address, 10255, timeout=10).request("GET", path)


def test_the_api_server_reaches_pods_for_webhooks(node: Cluster, kubectl: Kubectl, agent: str) -> None:
    """From the machine. Where nobody listens on the pod's port the answer is a refusal, not silence."""
    address = kubectl("get", "pod", "-n", WHERE, agent, "-o", "jsonpath={.status.podIP}").stdout
    assert urlsplit(node.server).hostname != address
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(address, 9, timeout=10).request("GET", "/")


# A line of a gateway's audit each 0.2 s, with a number; before, what is none.
_WRITES = """echo starting; n=0; while true; do
printf '{"time":"%s","kind":"tunnel","verdict":"Refused","sandbox":"u-1","host":"%s"}\\n' \
  "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)" "$HOSTNAME-$n"; n=$((n + 1)); sleep 0.2; done"""


async def test_the_logs_of_gateways_are_read_and_followed(
    node: Cluster, kubectl: Kubectl, agent: str, sandbox_image: ImageArchive
) -> None:
    names = ("gateway-a", "gateway-b")
    labels = {"app.kubernetes.io/managed-by": "claude-sandbox-operator", "claudesandbox.dev/component": "gateway"}
    kubectl.apply(
        *(pod(WHERE, name, sandbox_image.pinned, args=("bash", "-c", _WRITES), labels=labels) for name in names)
    )
    kubectl.ready(WHERE, *names)
    sandbox = Audited(WHERE, "alice", "u-1", BackendType.KUBERNETES)
    async with Api(from_kubeconfig(str(node.kubeconfig))) as api:
        now = [line async for line in pods.lines(api, sandbox, None, follow=False)]
        assert {line.text("host").rpartition("-")[0] for line in now} == set(names)
        assert [line.time for line in now] == sorted(line.time for line in now)
        found: dict[str, list[int]] = {name: [] for name in names}
        async with asyncio.timeout(60), aclosing(pods.lines(api, sandbox, None, follow=True)) as reading:
            while min(map(len, found.values())) < len(now) + 10:
                pod_name, _, number = (await anext(reading)).text("host").rpartition("-")
                found[pod_name].append(int(number))
    for numbers in found.values():
        assert numbers == list(range(len(numbers)))
