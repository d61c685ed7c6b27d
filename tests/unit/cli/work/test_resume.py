"""`claude-sandbox resume`, and that who works in a sandbox keeps it from being idle."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from exec_server import PATCHED, ExecServer

from claude_sandbox.api.meta import ANNOTATION_ACTIVE_AT
from claude_sandbox.cli.main import cli

WAIT = f"until [ -e {PATCHED} ]; do sleep 0.05; done"
IDLES = {"lifecycle": {"idleTimeout": "30m"}}


def run(server: ExecServer, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [arguments[0], "--kubeconfig", server.kubeconfig, *arguments[1:]])


def is_now(patch: dict[str, Any]) -> bool:
    said = datetime.fromisoformat(patch["metadata"]["annotations"][ANNOTATION_ACTIVE_AT])
    assert patch["metadata"]["uid"] == "u-1"
    return abs(datetime.now(UTC) - said) < timedelta(minutes=1)


def test_one_that_was_idle_is_said_to_be_wanted(server: ExecServer) -> None:
    server.spec, server.status = IDLES, {"lifecycle": {"ended": {"by": "IdleTimeout", "at": "2026-11-01T12:00:00Z"}}}
    found = run(server, "resume", "agents/alice")
    assert found.exit_code == 0, found.output
    assert "kubectl get claudesandbox alice -n agents" in found.output
    (patch,) = server.patches
    assert is_now(patch)
    assert "spec" not in patch


def test_one_that_was_suspended_by_hand_is_set_to_run(server: ExecServer) -> None:
    server.spec = {"operatingMode": "Suspended"}
    assert run(server, "resume", "alice").exit_code == 0
    (patch,) = server.patches
    assert is_now(patch)
    assert patch["spec"] == {"operatingMode": "Running"}


@pytest.mark.parametrize(("by", "field"), [("TTL", "ttl"), ("ShutdownTime", "shutdownTime")])
def test_of_one_whose_time_is_over_it_says_what_to_change(server: ExecServer, by: str, field: str) -> None:
    server.status = {"lifecycle": {"ended": {"by": by, "at": "2026-11-01T12:00:00Z"}}}
    found = run(server, "resume", "agents/alice")
    assert found.exit_code == 1
    assert f"spec.lifecycle.{field}" in found.output
    assert "kubectl patch claudesandbox alice -n agents --type=merge" in found.output
    assert f'"lifecycle":{{"{field}":' in found.output
    assert server.patches == []


def test_nothing_of_one_in_quarantine_is_said_to_run(server: ExecServer) -> None:
    server.spec = {"incident": {"state": "Quarantined"}}
    found = run(server, "resume", "agents/alice")
    assert found.exit_code == 1
    assert "is in quarantine" in found.output
    assert "claude-sandbox incident lift agents/alice" in found.output
    assert server.patches == []


def test_who_may_not_is_told_which_right_it_takes(server: ExecServer) -> None:
    server.may_patch = False
    found = run(server, "resume", "agents/alice")
    assert found.exit_code == 1
    assert "patch claudesandboxes" in found.output
    assert "claudesandbox-editor" in found.output


@pytest.mark.parametrize("may_patch", [True, False])
def test_a_shell_in_one_that_may_be_idle_says_that_it_is_used(server: ExecServer, *, may_patch: bool) -> None:
    server.spec, server.may_patch = IDLES, may_patch
    found = run(server, "shell", "agents/alice", "--", "sh", "-c", WAIT)
    assert found.exit_code == 0, found.output
    assert len(server.patches) == may_patch
    assert all(map(is_now, server.patches))


def test_a_shell_in_one_that_is_never_idle_says_nothing(server: ExecServer) -> None:
    assert run(server, "shell", "agents/alice", "--", "true").exit_code == 0
    assert server.patches == []
