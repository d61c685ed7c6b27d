"""What a user does, on whichever backend."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter import DECLARED_NAME, GIT_NAME, GIT_PORT, OUTSIDE_PORT, SERVE_AND_WAIT, Backend
from docker_fleet import Operator
from gatewaykit import Authority
from git_process import GitProcess
from nodekit import Kubectl, eventually
from sandboxkit import Object, Sandbox, mounted

KEY = "sk-ant-not-a-real-key-conformance"
SECRET_TYPE, GIT_SECRET_TYPE = "claudesandbox.dev/api-key", "claudesandbox.dev/git"
VOLUME = {"type": "PersistentVolumeClaim", "size": "16Mi", "retention": "Delete"}

BROKERED: Object = {
    "credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"},
    "network": {"egress": {"allowedDomains": [f"{DECLARED_NAME}:{OUTSIDE_PORT}"]}},
}

REPOSITORY: Object = {
    "path": "project",
    "url": f"https://{GIT_NAME}:{GIT_PORT}/team/project",
    "credentialsSecretRef": {"name": "git"},
    "push": {"branches": ["claude/*"]},
}

EARLY: Mapping[str, Object] = {
    "suspended": {"workspace": VOLUME},
    "killed": {},
    "loosened": {},
    "altered": {"updateStrategy": {"type": "OnDelete"}},
    "leaving": {},
    "keeping": {"workspace": VOLUME | {"retention": "Retain"}},
    "brokered": BROKERED,
    "repositories": {"credentials": BROKERED["credentials"], "repositories": [REPOSITORY], "workspace": VOLUME},
}
"""Sandboxes, by name with their specs, that are made while others are looked at: an old engine asks after 10 s only
whether one is ready."""


@dataclass
class Place:
    """The API server and the operator, and what a user does with them on one backend."""

    kubectl: Kubectl
    operator: Operator
    namespace: str
    certified: Authority
    """Whom gateways believe that it is the git server."""
    git: GitProcess | None = None
    """The git server, of the backend that has its turn."""

    def secret(self, name: str, value: str, kind: str = SECRET_TYPE) -> None:
        self._secret(name, kind, {"api-key": value})

    def git_secret(self, name: str, token: str) -> None:
        """One for the git server."""
        self._secret(name, GIT_SECRET_TYPE, {"host": f"{GIT_NAME}:{GIT_PORT}", "token": token})

    def _secret(self, name: str, kind: str, data: Mapping[str, str]) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata}
        self.kubectl.apply(body | {"stringData": data})

    def apply(self, name: str, backend: Backend, **spec: Any) -> Sandbox:
        """Apply a sandbox that serves, without waiting for it."""
        wanted: Object = {
            "credentials": mounted("key"),
            "resources": {"cpu": "1", "memory": "512Mi", "ephemeralStorage": "1Gi"},
            "workspace": {"type": "EmptyDir", "size": "16Mi"},
            "command": ["/bin/sh", "-c", SERVE_AND_WAIT],
            **backend.spec,
            **spec,
        }
        metadata = {"name": name, "namespace": self.namespace}
        self.kubectl.apply(
            {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeSandbox", "metadata": metadata, "spec": wanted}
        )
        return Sandbox(self.kubectl, self.namespace, name)

    def change(self, made: Sandbox, **spec: Any) -> None:
        """Change fields of a sandbox's spec."""
        patch = json.dumps({"spec": spec})
        self.kubectl("patch", "claudesandbox", "-n", self.namespace, made.name, "--type=merge", "-p", patch)

    def delete(self, *made: Sandbox) -> None:
        """Delete sandboxes, and wait until they are gone."""
        self.kubectl("delete", "claudesandbox", "-n", self.namespace, *(one.name for one in made))

    def events(self, made: Sandbox) -> set[str]:
        """The reasons of the events about a sandbox."""
        about = f"involvedObject.name={made.name},involvedObject.uid={made.get()['metadata']['uid']}"
        found = self.kubectl("get", "events", "-n", self.namespace, "--field-selector", about, "-o", "json").stdout
        return {event["reason"] for event in json.loads(found)["items"]}

    def healed(self, made: Sandbox) -> None:
        """Wait until a repair is counted and told, and the sandbox is as it should be."""
        eventually("the repair is counted", lambda: made.get()["status"].get("heals", {}).get("count", 0) > 0)
        eventually("there is an event", lambda: "Healed" in self.events(made))
        made.wait("Ready")

    def start_operator(self) -> None:
        """Return when it is at work."""
        self.operator.start()
        asyncio.run(self.operator.is_ready())
