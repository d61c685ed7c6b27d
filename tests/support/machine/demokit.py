"""`claude-sandbox demo` as a command, with a state directory of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.programs import toolchain

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


def path_without_kind() -> str:
    return ":".join(one for one in os.environ["PATH"].split(":") if not (Path(one) / "kind").exists())


def versions(kubectl: Kubectl) -> dict[str, str]:
    """Every object's resource version: each write makes it another.

    Of what has a status with what is counted, the version of what was asked for, and the conditions.
    """
    return {
        f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}": _version(one)
        for one in kubectl.list(KINDS)
    }


def _version(one: dict[str, Any]) -> str:
    if one["kind"] in ("ClaudeSandbox", "DockerHost"):
        return json.dumps([one["metadata"]["generation"], one["status"]["conditions"]])
    version: str = one["metadata"]["resourceVersion"]
    return version
