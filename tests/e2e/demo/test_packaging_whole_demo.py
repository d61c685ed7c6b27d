"""`claude-sandbox demo` from nothing to a sandbox that is Ready and Compliant, again, and back to nothing."""

import json
from collections.abc import Iterator

import pytest
from demokit import KEY, Demo, versions

from claude_sandbox.demo.clusters import LOCAL

# Images are built where no earlier run has left them.
pytestmark = [pytest.mark.node, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def demo(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"), LOCAL)
    try:
        yield demo
    finally:
        demo.run("--down")


@pytest.fixture(scope="module")
def first(demo: Demo) -> str:
    """What the first run printed."""
    return demo.run(key=KEY)


def test_it_ends_with_a_sandbox_that_is_ready_and_compliant(first: str) -> None:
    lines = [line.split() for line in first.splitlines()]
    assert ["alice", "True", "True"] in [line[:3] for line in lines]
    assert "(Claude Code)" in first
    assert "denied" in first


def test_it_says_how_to_look_further_and_how_to_clean_up(first: str, demo: Demo) -> None:
    assert f"export KUBECONFIG={demo.layout.kubeconfig}" in first
    assert "make demo-down" in first


def test_the_key_reaches_the_sandbox_and_is_not_shown(first: str, demo: Demo) -> None:
    assert KEY not in first
    inside = demo.kubectl.run(
        "exec", "--namespace=agents", "sandbox-alice", "--", "cat", "/run/claude-sandbox/api-key/api-key"
    )
    assert inside == KEY


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
    # The key of the first run stays where there is none now.
    again = demo.run()
    assert "Building the image" not in again
    assert "alice" in again
    assert versions(demo.kubectl) == before


def test_a_deleted_policy_comes_back(first: str, demo: Demo) -> None:
    kubectl = demo.kubectl
    (before,) = (one["metadata"]["uid"] for one in [kubectl.get("networkpolicy", "sandbox-alice", "agents") or {}])
    kubectl.run("delete", "networkpolicy", "sandbox-alice", "--namespace=agents")
    kubectl.run("wait", "--for=create", "networkpolicy/sandbox-alice", "--namespace=agents", "--timeout=30s")
    after = json.loads(kubectl.run("get", "networkpolicy", "sandbox-alice", "--namespace=agents", "--output=json"))
    assert after["metadata"]["uid"] != before


def test_down_leaves_nothing(first: str, demo: Demo) -> None:
    demo.run("--down")
    assert not demo.layout.root.exists()
    assert "There is nothing of the demo's." in demo.run("--down")
