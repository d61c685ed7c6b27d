"""Files of which all that can be told before anything runs is as it should be; the tests change one thing at a time."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import yaml

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.pods.undeclared import Declarations
from claude_sandbox.manifests.documents import Text
from claude_sandbox.manifests.judge import Outcome, judge
from claude_sandbox.manifests.judged import Standard

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example/sandboxes/claude@{DIGEST}"
Object = dict[str, Any]
Mutation = Callable[[Object], Any]

STANDARD = Standard(
    declared=Declared(Profile.PRODUCTION, workspaces=frozenset({"/workspace"})),
    declarations=Declarations(workspaces=frozenset({"/workspace"}), secrets=frozenset({"key"})),
    now=NOW,
    profile=Profile.PRODUCTION,
    plain_images=frozenset({IMAGE}),
)


def project() -> Object:
    """A Compose file with one service."""
    return copy.deepcopy(_PROJECT)


def service(of: Object) -> Object:
    found: Object = of["services"]["agent"]
    return found


def deployment() -> Object:
    return copy.deepcopy(_DEPLOYMENT)


def pod_spec(of: Object) -> Object:
    found: Object = of["spec"]["template"]["spec"]
    return found


def agent(of: Object) -> Object:
    found: Object = pod_spec(of)["containers"][0]
    return found


def judged(*documents: Any, standard: Standard = STANDARD, file: str = "x.yaml", directory: str = "/srv/p") -> Outcome:
    """What is found in a file with these documents; texts are taken as they are."""
    text = "---\n".join(one if isinstance(one, str) else yaml.safe_dump(one) for one in documents)
    return judge([Text(file, text, directory)], standard)


def results(*documents: Any, standard: Standard = STANDARD) -> dict[str, Result]:
    """The result of each control of the only target."""
    outcome = judged(*documents, standard=standard)
    assert outcome.problems == ()
    [one] = outcome.judged
    return {finding.control.id: finding.result for finding in one.findings}


_PROJECT: Object = {
    "name": "sandbox",
    "services": {
        "agent": {
            "image": IMAGE,
            "user": "1000:1000",
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "read_only": True,
            "cgroup": "private",
            "mem_limit": "2g",
            "cpus": "2.0",
            "pids_limit": 512,
            "ulimits": {"nofile": {"soft": 4096, "hard": 8192}},
            "logging": {"driver": "local"},
            "environment": {"HOME": "/home/claude"},
            "healthcheck": {"test": ["CMD", "claude", "--version"]},
            "networks": {"inner": None},
            "tmpfs": ["/tmp:size=256m,noexec"],
            "volumes": [{"type": "volume", "source": "workspace", "target": "/workspace"}],
        }
    },
    "networks": {
        "inner": {"internal": True, "driver_opts": {"com.docker.network.bridge.inhibit_ipv4": "true"}},
    },
    "volumes": {"workspace": {"name": "sandbox_workspace", "driver_opts": {"size": "10G"}}},
}

_DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "agent", "namespace": "agents"},
    "spec": {
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {
            "metadata": {"labels": {"app": "agent"}},
            "spec": {
                "serviceAccountName": "agent",
                "automountServiceAccountToken": False,
                "hostUsers": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "runAsGroup": 1000,
                    "supplementalGroupsPolicy": "Strict",
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "agent",
                        "image": IMAGE,
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "resources": {"limits": {"cpu": "2", "memory": "2Gi"}},
                        "livenessProbe": {"exec": {"command": ["claude", "--version"]}},
                        "readinessProbe": {"exec": {"command": ["claude", "--version"]}},
                        "volumeMounts": [
                            {"name": "workspace", "mountPath": "/workspace"},
                            {"name": "tmp", "mountPath": "/tmp"},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "workspace", "persistentVolumeClaim": {"claimName": "workspace"}},
                    {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
                ],
            },
        },
    },
}
