"""What the scenarios need of a backend beyond the public surface, which is the same for all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from sandboxkit import Sandbox

from claude_sandbox.localcluster.cluster import Cluster

PORT = 8000
"""Where every sandbox of the suite, and every plain workload, serves."""

SERVE_AND_WAIT = f"/bin/busybox httpd -p {PORT} -h /bin; trap 'exit 0' TERM; /bin/sleep infinity & wait"
"""A workload that answers, and that ends as soon as it is told to."""

OUTSIDE = "10.99.99.99"
"""An address beyond every sandbox's network, of a server that answers to both names, and as the model's provider."""
OUTSIDE_PORT = 8100
DECLARED_NAME, OTHER_NAME = "declared.example.org", "other.example.org"
GIT_NAME, GIT_PORT = "git.example.org", 8101
"""Of the git server at OUTSIDE."""
GATEWAYS: Mapping[str, Any] = {
    "provider": {"baseURL": f"http://{OUTSIDE}:{OUTSIDE_PORT}"},
    "egress": {
        "privateNetworks": [f"{OUTSIDE}/32"],
        "hosts": {DECLARED_NAME: [OUTSIDE], OTHER_NAME: [OUTSIDE], GIT_NAME: [OUTSIDE]},
    },
}
"""What the operator's gateways are told, but for whom to believe that it is the git server."""

BODY = '{"model":"claude-test-1","max_tokens":10,"messages":[{"role":"user","content":"ping"}]}'
"""A request to the model."""

CONNECT = "/bin/busybox nc -w 2 {host} {port} </dev/null >/dev/null"
"""Succeeds where a TCP connection can be opened."""


@dataclass(frozen=True)
class Target:
    """Something that listens; `answers` is the control: a connection to it from where it is allowed."""

    host: str
    port: int
    answers: Callable[[], bool]


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    code: int
    output: str


def api_server(cluster: Cluster) -> tuple[str, int]:
    """The address and the port of a cluster's API server."""
    server = urlsplit(cluster.server)
    assert server.hostname
    assert server.port
    return server.hostname, server.port


class Backend(Protocol):
    """One backend. `spec` is what a ClaudeSandbox has to say to be on it."""

    id: str
    title: str
    spec: Mapping[str, Any]

    @property
    def network(self) -> Path:
        """The network namespace that has the address OUTSIDE."""

    def workload(self, made: Sandbox) -> str:
        """The identifier of the sandbox's running container; empty where none runs."""

    def started(self, made: Sandbox) -> str:
        """Changes with each start of the sandbox's workload; empty where none runs."""

    def run(self, made: Sandbox, script: str) -> Done:
        """What a shell in the sandbox makes of a script."""

    def ask(self, made: Sandbox, identity: str) -> Done:
        """The head of what the sandbox's gateway answers to BODY, asked from where the sandbox is by who presents this
        identity."""

    def kill(self, made: Sandbox) -> None:
        """End the workload behind the operator's back."""

    def loosen(self, made: Sandbox) -> None:
        """Loosen what can be put back while the workload runs."""

    def loosened(self, made: Sandbox) -> bool:
        """Whether that is loosened now."""

    def alter(self, made: Sandbox) -> None:
        """Change the running workload in what only another one could mend."""

    def left(self, name: str) -> set[str]:
        """Everything that is there for sandboxes of the name, as `kind/name`."""

    def fingerprint(self, name: str) -> str:
        """Changes with every write to anything that is there for the sandbox."""

    def told(self, made: Sandbox) -> str:
        """All that the backend tells of everything on it, the workload's output too, but for Secrets."""

    def connects(self, made: Sandbox, port: int) -> bool:
        """Whether a port of the sandbox's can be connected to from where declared ones may be.

        By way of what is published under the name `p` and the port, where the backend publishes ports.
        """

    @property
    def declared(self) -> Target:
        """A plain workload that sandboxes may be allowed to connect to."""

    def another_sandbox(self, other: Sandbox) -> Target:
        """A sandbox, which serves."""

    def host(self) -> Target:
        """The machine that the workloads run on."""

    def control_plane(self) -> Target:
        """The API server."""

    def outside(self) -> Target:
        """The server at OUTSIDE."""
