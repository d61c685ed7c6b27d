"""What the tests on a real node do with pods."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.programs import toolchain

Manifest = dict[str, Any]

# Seconds; generous, because the machine may be busy with a build. Nothing waits as long as this when all is well.
PATIENCE = 120.0


@dataclass(frozen=True)
class Kubectl:
    """kubectl as the administrator of one cluster."""

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, "--kubeconfig", self.kubeconfig, *arguments],
            input=stdin, capture_output=True, text=True, check=check, timeout=PATIENCE + 30,
        )  # fmt: skip

    def apply(self, *manifests: Manifest) -> None:
        result = self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}),
                      check=False)  # fmt: skip
        assert result.returncode == 0, result.stderr

    def ready(self, namespace: str, *pods: str) -> None:
        for pod in pods:
            waited = self("wait", "-n", namespace, f"pod/{pod}", "--for=condition=Ready",
                          f"--timeout={PATIENCE:.0f}s", check=False)  # fmt: skip
            if waited.returncode != 0:
                pytest.fail(f"{pod}: {waited.stderr}\n{self('describe', 'pod', '-n', namespace, pod).stdout}")

    def run(self, namespace: str, pod: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self("exec", "-n", namespace, pod, "--", *command, check=check)

    def connects(self, namespace: str, pod: str, host: str, port: int) -> bool:
        """Whether the pod can open a TCP connection there."""
        script = f"import socket; socket.create_connection(({host!r}, {port}), 2).close()"
        return self.run(namespace, pod, "python3", "-c", script, check=False).returncode == 0

    def link_local(self, namespace: str, pod: str) -> str:
        """The address of IPv6 that the pod's interface has by itself, as those beside it write it."""
        found = self.run(namespace, pod, "cat", "/proc/net/if_inet6").stdout.splitlines()
        (address,) = (words[0] for line in found if (words := line.split())[5] == "eth0" and words[3] == "20")
        return f"{IPv6Address(int(address, 16))}%eth0"

    def resolves(self, namespace: str, pod: str, name: str) -> bool:
        """Whether the pod finds an address for the name by the resolver it was given."""
        return self.run(namespace, pod, "timeout", "5", "getent", "ahostsv4", name, check=False).returncode == 0


def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; a failure says what did not become true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.1)


def report(line: str) -> None:
    # Past pytest's capture, so that one sees why the first run takes minutes.
    print(line, file=sys.__stderr__, flush=True)


def kubectl_for(running: Cluster) -> Kubectl:
    return Kubectl(toolchain.kubectl(report), running.kubeconfig)


def namespace(name: str) -> Manifest:
    """A namespace that enforces the restricted Pod Security Standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(
    where: str,
    name: str,
    image: str,
    *,
    args: Sequence[str] = (),
    volumes: Sequence[tuple[str, Manifest]] = (),
    labels: dict[str, str] | None = None,
) -> Manifest:
    """A pod as hardened as a sandbox; `volumes` are mount paths with their volumes' sources."""
    scratch = {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}
    mounts = [("/tmp", scratch), ("/home/claude", scratch), *volumes]
    user = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": where, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "agent",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": list(args),
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": f"v{n}", "mountPath": path} for n, (path, _) in enumerate(mounts)],
                }
            ],
            "volumes": [{"name": f"v{n}", **source} for n, (_, source) in enumerate(mounts)],
        },
    }
