"""Repositories on a real node: cloned before the agent starts, pushed as declared, and no credential in the sandbox."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from credential_search import is_with_the_gateway_alone
from git_process import TOKEN, GitProcess
from node_operator import NodeOperator
from nodekit import Kubectl, eventually
from sandboxkit import Sandbox, apply_sandbox, sandbox

pytestmark = pytest.mark.node

URL = "https://git.example.org:{port}/team/{name}"
PUSH = {"branches": ["claude/*"], "protectedPaths": [".github/**"]}
BROKERED = {"apiKeySecretRef": {"name": "key"}}


@pytest.fixture(scope="module")
def secrets(kubectl: Kubectl, sandboxes: str, git_server: GitProcess) -> None:
    here, token = f"git.example.org:{git_server.port}", {"token": TOKEN}
    for name, host, held in (
        ("git", here, token), ("elsewhere", "git.elsewhere.example", token), ("app", here, git_server.app_secret())
    ):  # fmt: skip
        data = {"host": host, **held}
        metadata = {"name": name, "namespace": sandboxes}
        kind = {"apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/git"}
        kubectl.apply(kind | {"metadata": metadata, "stringData": data})


def repository(server: GitProcess, name: str = "project", credential: str = "git", **more: Any) -> dict[str, Any]:
    url = URL.format(port=server.port, name=name)
    return {"path": f"code/{name}", "url": url, "credentialsSecretRef": {"name": credential}, **more}


@pytest.fixture(scope="module")
def made(kubectl: Kubectl, sandboxes: str, git_server: GitProcess, secrets: None) -> Iterator[Sandbox]:
    declared = [repository(git_server, push=PUSH), repository(git_server, "other", credential="app")]
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


def test_no_credential_is_in_the_sandbox(made: Sandbox, git_server: GitProcess, operator_log: Path) -> None:
    """Neither a token, nor an App's key, nor what the App was given for an hour, while each of them is in use."""
    made.wait("RepositoriesReady", reason="Cloned")
    for at in ("project", "other"):
        assert "refs/heads/main" in git(made, "ls-remote", "origin", at=at)
    given = git_server.given()
    assert given, "the App was given no token"
    # A key is many lines; whatever has any of it has the second.
    for held in (TOKEN, git_server.app_key.splitlines()[1], *given):
        is_with_the_gateway_alone(held, made, operator_log)


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


# What is cut in the middle of a transfer


@pytest.fixture(scope="module")
def large(git_server: GitProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A repository of which the server, when it holds, has sent a part only; its head."""
    bare, work = git_server.files / "team/large.git", tmp_path_factory.mktemp("large")
    git_server.git("init", "-q", "--bare", "-b", "main", str(bare), at=git_server.files)
    git_server.git("init", "-q", "-b", "main", at=work)
    (work / "large").write_bytes(os.urandom(6 << 20))
    git_server.git("add", "-A", at=work)
    git_server.git("commit", "-qm", "large", at=work)
    git_server.git("push", "-q", str(bare), "main", at=work)
    return git_server.git("rev-parse", "HEAD", at=work)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("operator", marks=pytest.mark.slow),
        pytest.param("process", marks=pytest.mark.slow),
        "pod",
        pytest.param("sandbox", marks=pytest.mark.slow),
    ],
)
def test_one_that_is_cut_is_begun_anew_and_never_half_there(
    kubectl: Kubectl,
    sandboxes: str,
    git_server: GitProcess,
    secrets: None,
    large: str,
    operator: NodeOperator,
    what: str,
) -> None:
    """What is killed, or deleted, while an init container clones."""
    volume = {"type": "PersistentVolumeClaim", "size": "64Mi", "retention": "Delete"}
    declared = [repository(git_server, "large")]
    name = f"cut-{what}"
    made = apply_sandbox(kubectl, sandboxes, name, credentials=BROKERED, repositories=declared, workspace=volume)
    try:
        with git_server.holding():
            eventually("it is in the middle of a transfer", git_server.held)
            assert _half(made), "nothing has arrived yet"
            before = made.pod_uid()
            if what == "operator":
                operator.kill()
            elif what == "process":
                for process in _cloning(made):
                    os.kill(int(process.name), signal.SIGKILL)
            else:
                which = ("pod", made.pod) if what == "pod" else ("claudesandbox", name)
                kubectl("delete", "-n", sandboxes, *which)
        if what == "operator":
            operator.start()
        if what == "sandbox":
            eventually("nothing is left", lambda: not _left(kubectl, sandboxes, name))
            return
        made.wait("RepositoriesReady", reason="Cloned")
        made.wait("Ready")
        assert (made.pod_uid() == before) == (what != "pod")
        assert git(made, "rev-parse", "HEAD", at="large").strip() == large
        assert git(made, "fsck", "--full", "--strict", at="large") == ""
        assert git(made, "status", "--porcelain", at="large") == ""
        assert made.run("sh", "-c", "cd /workspace && find . -mindepth 1 -maxdepth 1 ! -name lost+found") == "./code\n"
    finally:
        kubectl("delete", "claudesandbox", "-n", sandboxes, name, "--ignore-not-found")
        eventually("it is gone", lambda: not made.pod_uid())


def _cloning(made: Sandbox) -> list[Path]:
    """The processes of the init container that clones."""
    return [one for one in made.processes() if b"clone-repositories" in (one / "cmdline").read_bytes()]


def _half(made: Sandbox) -> bool:
    """Whether a part of a pack is in its workspace, beside where the clone will be."""
    beside = "root/workspace/.claude-sandbox-clones"
    return any(pack for one in _cloning(made) for pack in (one / beside).rglob("tmp_pack_*"))


def _left(kubectl: Kubectl, space: str, name: str) -> str:
    kinds, label = "pods,services,networkpolicies,serviceaccounts,persistentvolumeclaims", "claudesandbox.dev/sandbox"
    return kubectl("get", kinds, "-n", space, "-l", f"{label}={name}", "-o", "name").stdout
