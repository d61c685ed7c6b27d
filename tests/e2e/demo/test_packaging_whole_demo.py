"""`claude-sandbox demo` from nothing to a sandbox at work on a private repository, again, and back to nothing."""

import base64
import json
from collections.abc import Iterator

import pytest
from demokit import KEY, REPOSITORY, Demo, versions, work_is_shown

from claude_sandbox.demo import beside, git_pod, stand_in_pod
from claude_sandbox.demo.clusters import LOCAL
from claude_sandbox.demo.provider import ALLOWED, DENIED
from claude_sandbox.demo.stand_in import ANSWER
from claude_sandbox.demo.work.task import SCRIPTED_BRANCH
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
    assert [row for row in rows if row[:1] == ["agents/alice"]][:3] == [
        ["agents/alice", "Allowed", "200", "claude-opus-5-5"],
        ["agents/alice", "Allowed", "200", ALLOWED],
        ["agents/alice", "Refused", "403", DENIED],
    ]
    assert ["claude-sandbox-gateway", "2/2"] in [line.split()[:2] for line in first.splitlines()]


def on_the_server(demo: Demo, *arguments: str) -> str:
    """What git says on the demo's git server."""
    where = ("exec", f"--namespace={beside.NAMESPACE}", f"deployment/{git_pod.NAME}", "--")
    return demo.kubectl.run(*where, "git", "-C", f"{REPOSITORY}.git", *arguments).strip()


def test_the_agent_s_work_is_on_the_git_server_and_main_is_as_it_was(first: str, demo: Demo) -> None:
    work_is_shown(first, lambda *arguments: on_the_server(demo, *arguments))
    pushed = on_the_server(demo, "rev-parse", SCRIPTED_BRANCH)
    assert demo.kubectl.run(*IN_IT, "git", "-C", "project", "rev-parse", "HEAD").strip() == pushed


def test_the_sandbox_holds_no_token_of_git_s(first: str, demo: Demo) -> None:
    assert "nor is the token for git" in first
    where = ("exec", f"--namespace={beside.NAMESPACE}", f"deployment/{git_pod.NAME}", "--")
    token = demo.kubectl.run(*where, "cat", "token").strip()
    assert len(token) > 20
    read = "cat /proc/[0-9]*/environ; grep -rsh '' /run /tmp /home /workspace /etc"
    held = demo.kubectl.run(*IN_IT, "sh", "-c", f"({read}) 2>/dev/null | tr '\\0' '\\n' | grep -a . || true")
    assert "CLAUDE_SANDBOX" in held or "PATH=" in held
    assert token not in held
    assert token not in first


def test_the_sandbox_holds_no_key_but_a_token_that_is_for_its_gateway(first: str, demo: Demo) -> None:
    assert "The Secret's key is not in the sandbox" in first
    _, claims, _ = demo.kubectl.run(*IN_IT, "cat", IDENTITY).split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert told["aud"] == ["claude-sandbox-gateway"]


@pytest.mark.parametrize(("name", "port"), [(stand_in_pod.NAME, 80), (git_pod.NAME, 443)])
def test_nobody_but_the_gateway_reaches_the_demo_s_servers(first: str, demo: Demo, name: str, port: int) -> None:
    service = demo.kubectl.get("service", name, beside.NAMESPACE)
    assert service is not None
    # The operator's pod reaches other addresses; the sandbox none, without its proxy.
    to_it = f"import socket; socket.create_connection(('{service['spec']['clusterIP']}', {port}), 3)"
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
    assert f"The branch {SCRIPTED_BRANCH} of an earlier run is there" in again
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
    assert demo.kubectl.get("deployment", stand_in_pod.NAME, beside.NAMESPACE) is None
    # Nothing of the script's is claimed of a model that did not answer.
    assert "Nobody answers Claude Code, so it is asked for nothing." in printed
    assert "There is no branch claude/mended: the work was not done." in printed
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
