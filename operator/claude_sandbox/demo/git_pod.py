"""The demo's git server in a cluster."""

from claude_sandbox.demo import beside
from claude_sandbox.demo.beside import NAMESPACE, Beside
from claude_sandbox.demo.place import in_pod
from claude_sandbox.demo.work import repository
from claude_sandbox.demo.work.repository import GitServer
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.waiting import Say

NAME = "git"
_PORT, _SERVICE_PORT = 8443, 443


def begin(kubectl: Kubectl, image: str) -> Beside:
    """Have it begin, in the sandbox's image. Raises SetupError."""
    command = repository.program("", _PORT)
    server = Beside(NAME, "the demo's git server", image, command, _PORT, _SERVICE_PORT, repository.FILES)
    beside.apply(kubectl, server)
    return server


def found(kubectl: Kubectl, server: Beside, say: Say) -> GitServer:
    """The server, once it runs. Raises SetupError."""
    address = beside.ready(kubectl, server, say)
    return repository.found(in_pod(kubectl, NAMESPACE, f"deployment/{NAME}", NAME), address, _SERVICE_PORT, say)
