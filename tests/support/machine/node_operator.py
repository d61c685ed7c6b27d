"""The operator as a process, looking after sandboxes on a real node."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import repository
from nodekit import Kubectl, eventually, report

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.node import load_image

_KINDS = ("claudesandboxes", "claudesandboxusages", "claudesandboxbackups", "claudeimagepolicies")


@dataclass
class NodeOperator:
    """The operator as a process, which can be killed and started anew. `settings`: what its gateways are told."""

    command: list[str]
    log: Path
    kubectl: Kubectl
    settings: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it leads; where that does not come it is killed, since whoever waited does not get to stop it."""
        before = _holder(self.kubectl)
        with self.log.open("ab") as log:
            command = [*self.command, f"--gateway-settings={self.settings}"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            eventually("the operator leads", lambda: _holder(self.kubectl) not in ("", before))
        except BaseException:
            self.kill()
            raise

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


@contextlib.contextmanager
def operating(
    node: Cluster, kubectl: Kubectl, sandbox_image: ImageArchive, log: Path, settings: Path, *options: str
) -> Iterator[NodeOperator]:
    """The CRDs are there, and an operator with gateways runs, which `options` say more to."""
    files = (repository.CRDS / f"claudesandbox.dev_{kind}.yaml" for kind in _KINDS)
    kubectl("apply", *(part for path in files for part in ("-f", str(path))))
    image = build_image("operator", report)
    load_image(node.layout, image)
    command = [
        sys.executable, "-m", "claude_sandbox.cli.main", "run",
        f"--kubeconfig={node.kubeconfig}", f"--sandbox-image={sandbox_image.pinned}",
        f"--gateway-image={image.pinned}", "--bind=127.0.0.1:0", "--log-format=json", *options,
    ]  # fmt: skip
    found = NodeOperator(command, log, kubectl, settings)
    found.start()
    yield found
    found.stop()


def _holder(kubectl: Kubectl) -> str:
    lease = "lease/claude-sandbox-operator"
    return kubectl("get", lease, "-n", "default", "-o", "jsonpath={.spec.holderIdentity}", check=False).stdout
