"""`claude-sandbox demo` from nothing to a sandbox that is Ready, Compliant and at work, again, and back to nothing."""

import base64
import json
from collections.abc import Iterator

import pytest
from demokit import KEY, Demo, versions

from claude_sandbox.demo import stand_in_pod
from claude_sandbox.demo.clusters import LOCAL
from claude_sandbox.demo.provider import ALLOWED, DENIED
from claude_sandbox.demo.stand_in import ANSWER
from claude_sandbox.install.errors import SetupError

# Images are built where no earlier run has left them.
pytestmark = [pytest.mark.node, pytest.mark.timeout(1500)]

INSIDE = "$ kubectl exec --namespace agents pod/sandbox-alice --"
IN_IT = ("exec", "--namespace=agents", "sandbox-alice", "--")
IDENTITY = "/run/claude-sandbox/api-key/api-key"


@pytest.fixture(scope="module")
def demo(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"), LOCAL)
    try:
        yield demo
    finally:
        demo.run("--down")


@pytest.fixture(scope="module")
def first(demo: Demo) -> str:
    """What the first run printed; without a key, so that a stand-in answers."""
    return demo.run()


def test_it_ends_with_a_sandbox_that_is_ready_and_compliant(first: str) -> None:
    lines = [line.split() for line in first.splitlines()]
    assert ["alice", "True", "True"] in [line[:3] for line in lines]
    assert "(Claude Code)" in first
    assert "denied" in first


def test_it_says_how_to_look_further_and_how_to_clean_up(first: str, demo: Demo) -> None:
    assert f"export KUBECONFIG={demo.layout.kubeconfig}" in first
    assert "make demo-down" in first


def test_claude_code_works_in_it_by_the_gateway_and_gets_no_further_than_is_allowed(first: str) -> None:
    assert f"{INSIDE} claude -p 'Answer with one word: pong'\n{ANSWER}\n" in first
    assert f"{INSIDE} curl http://{ALLOWED}/\n200\n" in first
    (denied,) = (line for line in first.splitlines() if line.startswith("curl: "))
    assert "403" in denied
    rows = [line.split()[1:5] for line in first.partition("claude-sandbox audit agents/alice")[2].splitlines()]
    assert [row for row in rows if row[:1] == ["agents/alice"]] == [
        ["agents/alice", "Allowed", "200", "claude-opus-5-5"],
        ["agents/alice", "Allowed", "200", ALLOWED],
        ["agents/alice", "Refused", "403", DENIED],
    ]
    assert ["claude-sandbox-gateway", "2/2"] in [line.split()[:2] for line in first.splitlines()]


def test_the_sandbox_holds_no_key_but_a_token_that_is_for_its_gateway(first: str, demo: Demo) -> None:
    assert "The Secret's key is not in the sandbox" in first
    _, claims, _ = demo.kubectl.run(*IN_IT, "cat", IDENTITY).split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert told["aud"] == ["claude-sandbox-gateway"]


def test_nobody_but_the_gateway_reaches_the_stand_in(first: str, demo: Demo) -> None:
    service = demo.kubectl.get("service", stand_in_pod.NAME, stand_in_pod.NAMESPACE)
    assert service is not None
    # The operator's pod reaches other addresses; the sandbox none, without its proxy.
    to_it = f"import socket; socket.create_connection(('{service['spec']['clusterIP']}', 80), 3)"
    for pod in (("exec", "--namespace=claude-sandbox-system", "deployment/claude-sandbox-operator", "--"), IN_IT):
        with pytest.raises(SetupError, match=r"TimeoutError|timed out|refused"):
            demo.kubectl.run(*pod, "python3", "-c", to_it)


def test_the_operator_asks_for_nothing_that_it_may_not(first: str, demo: Demo) -> None:
    read = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
    pods = demo.kubectl.list("pods", "claude-sandbox-system")
    assert len(pods) == 2
    for pod in pods:
        name = pod["metadata"]["name"]
        metrics = demo.kubectl.run("exec", "--namespace=claude-sandbox-system", name, "--", "python3", "-c", read)
        requests = [line for line in metrics.splitlines() if line.startswith("rest_client_requests_total{")]
        assert requests
        assert not [line for line in requests if 'code="401"' in line or 'code="403"' in line]
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_run_again_it_changes_nothing(first: str, demo: Demo) -> None:
    before = versions(demo.kubectl)
    again = demo.run()
    assert "Building the image" not in again
    assert "alice" in again
    assert ANSWER in again
    assert versions(demo.kubectl) == before


def test_a_deleted_policy_comes_back(first: str, demo: Demo) -> None:
    kubectl = demo.kubectl
    (before,) = (one["metadata"]["uid"] for one in [kubectl.get("networkpolicy", "sandbox-alice", "agents") or {}])
    kubectl.run("delete", "networkpolicy", "sandbox-alice", "--namespace=agents")
    kubectl.run("wait", "--for=create", "networkpolicy/sandbox-alice", "--namespace=agents", "--timeout=30s")
    after = json.loads(kubectl.run("get", "networkpolicy", "sandbox-alice", "--namespace=agents", "--output=json"))
    assert after["metadata"]["uid"] != before


@pytest.mark.slow
def test_a_key_goes_to_the_claude_api_and_stays_out_of_sight(first: str, demo: Demo) -> None:
    printed = demo.run(key=KEY)
    assert "stand-in" not in printed.partition("== At work")[2]
    assert "The Secret's key is not in the sandbox" in printed
    assert KEY not in printed
    assert demo.kubectl.get("namespace", stand_in_pod.NAMESPACE) is None
    gateway = demo.kubectl.get("deployment", "claude-sandbox-gateway", "agents")
    assert gateway is not None
    # Nothing of the stand-in's is left in what the gateway is told.
    told = json.loads(gateway["spec"]["template"]["metadata"]["annotations"]["claudesandbox.dev/gateway"])
    assert "provider" not in told
    logs = demo.kubectl.run("logs", "--namespace=agents", "deployment/claude-sandbox-gateway", "--all-pods=true")
    pods = json.dumps(demo.kubectl.list("pods,configmaps,deployments", "agents"))
    assert KEY not in logs + pods


def test_down_leaves_nothing(first: str, demo: Demo) -> None:
    demo.run("--down")
    assert not demo.layout.root.exists()
    assert "There is nothing of the demo's." in demo.run("--down")
