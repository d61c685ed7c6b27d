"""`claude-sandbox demo` as a command, with a state directory of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodekit import eventually

from claude_sandbox.demo.work.server import REPOSITORY, SUBJECT
from claude_sandbox.demo.work.task import DONE, SCRIPTED_BRANCH
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.programs import toolchain

__all__ = ["KEY", "REPOSITORY", "Demo", "versions", "work_is_shown"]
KEY = "sk-ant-api03-a-key-that-must-not-be-seen"
KINDS = (
    "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,secrets,"
    "services,networkpolicies,poddisruptionbudgets,deployments,replicasets,pods,persistentvolumeclaims,claudesandboxes,"
    "dockerhosts"
)


@dataclass(frozen=True)
class Demo:
    """The command, with `home` for its state, that makes the cluster called `cluster`; `variables` come on top."""

    home: Path
    cluster: str
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, key: str | None = None) -> str:
        """What the command prints, on both streams. Fails the test where the command does."""
        return self.command("demo", *arguments, key=key)

    def command(self, *arguments: str, key: str | None = None) -> str:
        """The same, of any command."""
        unset = ("KUBECONFIG", "ANTHROPIC_API_KEY", "DOCKER_HOST")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        environment |= {"XDG_STATE_HOME": str(self.home), "PATH": path_without_kind(), **self.variables}
        if key:
            environment["ANTHROPIC_API_KEY"] = key
        done = subprocess.run(
            [sys.executable, "-m", "claude_sandbox.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def layout(self) -> Layout:
        return Layout(self.home / "claude-sandbox/clusters" / self.cluster)

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(toolchain.kubectl(print), str(self.layout.kubeconfig))

    @property
    def made_on_docker(self) -> dict[str, Any]:
        """The demo's own record."""
        document: dict[str, Any] = json.loads((self.home / "claude-sandbox/docker-demo.json").read_text())
        return document


def work_is_shown(printed: str, server: Callable[..., str]) -> None:
    """Hold what the demo printed of the work against what the git server says: `server`, given a command of git's."""
    assert DONE in printed
    refused = printed.partition("push origin HEAD:main\n")[2].partition("\n$ ")[0]
    assert "only branches claude/*" in refused
    diff = printed.partition("$ claude-sandbox diff agents/alice")[2].partition("\n== ")[0]
    assert '-    return f"Hello, {nmae}!"\n+    return f"Hello, {name}!"' in diff
    assert diff.count("\n@@ ") == 1
    assert server("for-each-ref", "--format=%(refname:short)", "refs/heads").split() == [SCRIPTED_BRANCH, "main"]
    assert server("log", "--format=%s", "main") == SUBJECT
    assert server("rev-list", "--count", f"main..{SCRIPTED_BRANCH}") == "1"
    assert server("merge-base", "main", SCRIPTED_BRANCH) == server("rev-parse", "main")
    assert "{name}" in server("show", f"{SCRIPTED_BRANCH}:greeting.py")
    assert server("rev-parse", "--short", SCRIPTED_BRANCH) in printed


def path_without_kind() -> str:
    return ":".join(one for one in os.environ["PATH"].split(":") if not (Path(one) / "kind").exists())


def versions(kubectl: Kubectl) -> dict[str, str]:
    """Every object's resource version: each write makes it another.

    Of what has a status with what is counted, the version of what was asked for, and the conditions, once they say what
    a demo does not wait for: what can be reached was tried, and the gateway told that the key was used.
    """
    eventually("what was done is told", lambda: not {"ProbeUnderWay", "KeyMounted"} & _reasons(kubectl))
    return {
        f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}": _version(one)
        for one in kubectl.list(KINDS)
        # One that tries what a sandbox reaches is there for some seconds, now and then.
        if not (one["kind"] == "Pod" and one["metadata"]["name"].startswith("probe-"))
    }


def _reasons(kubectl: Kubectl) -> set[str]:
    found = kubectl.list("claudesandboxes")
    return {condition["reason"] for one in found for condition in one["status"]["conditions"]}


def _version(one: dict[str, Any]) -> str:
    if one["kind"] in ("ClaudeSandbox", "DockerHost"):
        return json.dumps([one["metadata"]["generation"], one["status"]["conditions"]])
    version: str = one["metadata"]["resourceVersion"]
    return version
