"""Which news of a starting pod can wait: only what changes nothing of how far the sandbox is."""

from typing import Any

import pytest

from claude_sandbox.backends.kubernetes.state import keeps_starting


def pod(version: int = 1, *, node: str | None = None, labels: dict[str, str] | None = None, **status: Any) -> Any:
    metadata = {"name": "sandbox-a", "namespace": "agents", "uid": "u", "resourceVersion": str(version)}
    spec: dict[str, Any] = {"containers": [{"name": "agent", "image": "claude"}]}
    if node:
        spec["nodeName"] = node
    return {"metadata": metadata | {"labels": labels or {}}, "spec": spec, "status": {"phase": "Pending"} | status}


def condition(kind: str, status: str = "True") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "message": "why"}]}


CREATING = {"containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": "ContainerCreating"}}}]}
PULL_FAILS = {"containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": "ErrImagePull"}}}]}


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(pod(2, node="a", **condition("PodScheduled")), id="a node takes it"),
        pytest.param(pod(2, **condition("Initialized")), id="the kubelet begins"),
        pytest.param(pod(2, **CREATING), id="the container is being made"),
    ],
)
def test_a_pod_that_gets_on_is_no_news(now: Any) -> None:
    assert keeps_starting(pod(), now)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(pod(2, phase="Running", **condition("Ready")), id="ready"),
        pytest.param(pod(2, phase="Running"), id="runs, not ready yet"),
        pytest.param(pod(2, phase="Failed"), id="failed"),
        pytest.param(pod(2, **condition("PodScheduled", "False")), id="no node takes it"),
        pytest.param(pod(2, **PULL_FAILS), id="no image"),
        pytest.param(pod(2, labels={"added": "by somebody"}), id="labels changed"),
        pytest.param(
            pod(2) | {"metadata": pod(2)["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, id="to go"
        ),
        pytest.param(pod(2) | {"metadata": pod(2)["metadata"] | {"uid": "v"}}, id="another pod"),
        pytest.param(pod(2) | {"spec": {"containers": [{"name": "agent", "image": "evil"}]}}, id="another image"),
        pytest.param(pod(2) | {"spec": pod(2)["spec"] | {"hostNetwork": True}}, id="another spec"),
    ],
)
def test_everything_else_is(now: Any) -> None:
    assert not keeps_starting(pod(), now)


def test_a_pod_that_was_ready_and_starts_again_is_news() -> None:
    assert not keeps_starting(pod(phase="Running", **condition("Ready")), pod(2))
