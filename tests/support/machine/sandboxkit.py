"""What end-to-end tests do with sandboxes."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekit import Kubectl, eventually

Object = dict[str, Any]


def mounted(secret: str) -> Object:
    """Credentials that the sandbox holds itself."""
    return {"apiKeySecretRef": {"name": secret}, "delivery": "Mounted"}


SMALL: Object = {
    "credentials": mounted("key"),
    "resources": {"cpu": "1", "memory": "512Mi", "ephemeralStorage": "1Gi"},
    "workspace": {"type": "EmptyDir", "size": "64Mi"},
}


@dataclass(frozen=True)
class Sandbox:
    """One sandbox as a user sees it."""

    kubectl: Kubectl
    namespace: str
    name: str

    @property
    def pod(self) -> str:
        return f"sandbox-{self.name}"

    def get(self) -> Object:
        """The live object."""
        found = self.kubectl("get", "claudesandbox", "-n", self.namespace, self.name, "-o", "json", check=False)
        return json.loads(found.stdout) if found.returncode == 0 else {}

    def condition(self, kind: str) -> Mapping[str, str]:
        """A condition; empty where there is none."""
        conditions = self.get().get("status", {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def is_(self, kind: str, status: str = "True", reason: str | None = None) -> bool:
        """Whether a condition has this status, and this reason where one is given."""
        condition = self.condition(kind)
        return condition.get("status") == status and reason in (None, condition.get("reason"))

    def wait(self, kind: str, status: str = "True", reason: str | None = None) -> None:
        """Wait until a condition has this status."""
        what = f"{self.name}: {kind}={status} {reason or ''}"
        try:
            eventually(what, lambda: self.is_(kind, status, reason))
        except BaseException:
            print(json.dumps(self.get().get("status", {}).get("conditions"), indent=1))
            raise

    def results(self) -> dict[str, str]:
        """The result of each control."""
        compliance = self.get()["status"]["compliance"]
        passed = {id: "Pass" for group in compliance["passed"] for id in group["controls"]}
        return passed | {control["id"]: control["result"] for control in compliance["controls"]}

    def control(self, identifier: str) -> Object:
        """One control that does not pass."""
        controls = self.get()["status"]["compliance"]["controls"]
        return next(control for control in controls if control["id"] == identifier)

    def run(self, *command: str) -> str:
        """What a command in the sandbox prints."""
        return self.kubectl.run(self.namespace, self.pod, *command).stdout

    def without_room(self, directory: str) -> tuple[bool, str, bool]:
        """Whether its readiness probe passes; what it says with nothing left in a directory; and whether it passes
        with that file gone. Asked as the kubelet asks, which would count three answers, of 30 s each."""
        pod = json.loads(self.kubectl("get", "pod", "-n", self.namespace, self.pod, "-o", "json").stdout)
        probe = pod["spec"]["containers"][0]["readinessProbe"]["exec"]["command"]

        def passes() -> tuple[bool, str]:
            done = self.kubectl.run(self.namespace, self.pod, *probe, check=False)
            return done.returncode == 0, done.stdout

        before = passes()[0]
        self.run("sh", "-c", f"cat /dev/zero 2>/dev/null >{directory}/large || true")
        full, said = passes()
        self.run("rm", f"{directory}/large")
        return before, "" if full else said, passes()[0]

    def fails(self, *command: str) -> bool:
        """Whether a command in the sandbox fails."""
        return self.kubectl.run(self.namespace, self.pod, *command, check=False).returncode != 0

    def pod_uid(self) -> str:
        found = self.kubectl(
            "get", "pod", "-n", self.namespace, self.pod, "-o", "jsonpath={.metadata.uid}", check=False
        )
        return found.stdout

    def processes(self) -> list[Path]:
        """The /proc directories, on the node, of the pod's processes."""
        uid = self.pod_uid()
        return [path.parent for path in Path("/proc").glob("[0-9]*/cgroup") if uid in _read(path)]

    def agent(self) -> Path:
        """The /proc directory, on the node, of the sandbox's first process."""
        return next(path for path in self.processes() if b"tini" in _bytes(path / "cmdline"))


def apply_sandbox(kubectl: Kubectl, namespace: str, name: str, **spec: Any) -> Sandbox:
    """Apply a sandbox without waiting for it."""
    manifest = {
        "apiVersion": "claudesandbox.dev/v1alpha1",
        "kind": "ClaudeSandbox",
        "metadata": {"name": name, "namespace": namespace},
        "spec": SMALL | spec,
    }
    kubectl.apply(manifest)
    return Sandbox(kubectl, namespace, name)


@contextmanager
def sandbox(kubectl: Kubectl, namespace: str, name: str, **spec: Any) -> Iterator[Sandbox]:
    """A sandbox that is Ready, and gone afterwards."""
    made = apply_sandbox(kubectl, namespace, name, **spec)
    try:
        made.wait("Ready")
        yield made
    finally:
        kubectl("delete", "claudesandbox", "-n", namespace, name, "--ignore-not-found")
        eventually(f"the pod of {name} is gone", lambda: not made.pod_uid())


def _read(path: Path) -> str:
    return _bytes(path).decode(errors="replace")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
