"""Repositories on a real node: cloned before the agent starts, pushed as declared, and no credential in the sandbox."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kernel
import pytest
from git_process import TOKEN, GitProcess
from key_search import Search
from nodekit import Kubectl, eventually
from sandboxkit import Sandbox, apply_sandbox, sandbox

pytestmark = pytest.mark.node

URL = "https://git.example.org:{port}/team/{name}"
PUSH = {"branches": ["claude/*"], "protectedPaths": [".github/**"]}
BROKERED = {"apiKeySecretRef": {"name": "key"}}


@pytest.fixture(scope="module")
def secrets(kubectl: Kubectl, sandboxes: str, git_server: GitProcess) -> None:
    for name, host in (("git", f"git.example.org:{git_server.port}"), ("elsewhere", "git.elsewhere.example")):
        data = {"host": host, "token": TOKEN}
        metadata = {"name": name, "namespace": sandboxes}
        kind = {"apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/git"}
        kubectl.apply(kind | {"metadata": metadata, "stringData": data})


def repository(server: GitProcess, name: str = "project", credential: str = "git", **more: Any) -> dict[str, Any]:
    url = URL.format(port=server.port, name=name)
    return {"path": f"code/{name}", "url": url, "credentialsSecretRef": {"name": credential}, **more}


@pytest.fixture(scope="module")
def made(kubectl: Kubectl, sandboxes: str, git_server: GitProcess, secrets: None) -> Iterator[Sandbox]:
    declared = [repository(git_server, push=PUSH), repository(git_server, "other")]
    with sandbox(kubectl, sandboxes, "repositories", credentials=BROKERED, repositories=declared) as found:
        yield found


def git(made: Sandbox, *arguments: str, at: str = "project") -> str:
    """What git says in the sandbox, whether it goes well or not."""
    command = " ".join(f"'{one}'" for one in arguments)
    return made.run("sh", "-c", f"git -C /workspace/code/{at} {command} 2>&1 || true")


def commit(made: Sandbox, path: str) -> str:
    made.run("sh", "-c", f"cd /workspace/code/project && mkdir -p $(dirname {path}) && date +%N >> {path}")
    git(made, "add", "-A")
    git(made, "commit", "-qm", f"change {path}")
    return git(made, "rev-parse", "HEAD").strip()


def test_they_are_there_before_the_agent_is(made: Sandbox, git_server: GitProcess) -> None:
    made.wait("RepositoriesReady", reason="Cloned")
    head = git_server.refs()["refs/heads/main"]
    assert git(made, "rev-parse", "HEAD").strip() == head
    reported = made.get()["status"]["repositories"]
    assert [(one["path"], one["commit"]) for one in reported] == [("code/project", head), ("code/other", head)]
    # As it was written, and not as it is reached.
    url = URL.format(port=git_server.port, name="project")
    assert git(made, "config", "remote.origin.url").strip() == url
    made.wait("Compliant")


def test_it_is_pushed_to_as_declared(made: Sandbox, git_server: GitProcess) -> None:
    git(made, "checkout", "-qb", "claude/work")
    pushed = commit(made, "src/a.py")
    said = git(made, "push", "origin", "HEAD")
    assert git_server.refs()["refs/heads/claude/work"] == pushed, said
    assert "main" in git(made, "push", "origin", "HEAD:main")
    commit(made, ".github/workflows/ci.yml")
    refused = git(made, "push", "origin", "HEAD")
    assert ".github" in refused, refused
    assert "read-only" in git(made, "push", "origin", "HEAD:claude/x", at="other")
    assert git_server.refs()["refs/heads/claude/work"] == pushed
    assert len(git_server.refs()) == 2
    assert "403" in git(made, "ls-remote", URL.format(port=git_server.port, name="third"))


def test_no_credential_is_in_the_sandbox(made: Sandbox, operator_log: Path) -> None:
    search, found = Search(TOKEN), []
    inside = [made.agent() / "root" / one for one in ("run", "tmp", "home", "workspace", "etc", "var")]
    found += search.in_files(*(one for one in inside if one.is_dir()))
    for process in made.processes():
        found += search.in_bytes(f"{process}/environ", (process / "environ").read_bytes())
        found += search.in_bytes(f"memory of {process}", kernel.memory(process))
    found += search.in_bytes("the operator's log", operator_log.read_bytes())
    assert found == []


def test_a_credential_for_another_server_is_sent_to_none(
    kubectl: Kubectl, sandboxes: str, git_server: GitProcess, secrets: None
) -> None:
    declared = [repository(git_server, credential="elsewhere")]
    waiting = apply_sandbox(kubectl, sandboxes, "elsewhere", credentials=BROKERED, repositories=declared)
    try:
        waiting.wait("RepositoriesReady", "False", "CloneFailed")
        told = waiting.condition("RepositoriesReady")["message"]
        assert "is for git.elsewhere.example" in told, told
        waiting.wait("Ready", "False", "RepositoriesNotReady")
    finally:
        kubectl("delete", "claudesandbox", "-n", sandboxes, "elsewhere", "--ignore-not-found")
        eventually("its pod is gone", lambda: not waiting.pod_uid())
