"""The operator as a process, looking after sandboxes on a real node."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from nodekit import Kubectl, eventually


@dataclass
class NodeOperator:
    """The operator as a process, which can be killed and started anew. `settings`: what its gateways are told."""

    command: list[str]
    log: Path
    kubectl: Kubectl
    settings: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it leads."""
        before = _holder(self.kubectl)
        with self.log.open("ab") as log:
            command = [*self.command, f"--gateway-settings={self.settings}"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually("the operator leads", lambda: _holder(self.kubectl) not in ("", before))

    def goes_on(self) -> None:
        """Started anew where it ended by itself, as it does when it could not renew its lease."""
        assert self.process is not None
        if self.process.poll() is not None:
            self.start()

    def stop(self) -> None:
        """As Kubernetes does it."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        self.process.terminate()
        self.process.wait(30)

    def kill(self) -> None:
        """As the kernel does it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def _holder(kubectl: Kubectl) -> str:
    lease = "lease/claude-sandbox-operator"
    return kubectl("get", lease, "-n", "default", "-o", "jsonpath={.spec.holderIdentity}", check=False).stdout
