"""The demo's git server, as the demo knows it: where it is, what is declared of it, and what it says itself."""

from dataclasses import dataclass
from importlib import resources
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.demo.place import Place
from claude_sandbox.demo.work import server, task
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.manifests import Manifest
from claude_sandbox.install.waiting import Say, wait

HOST = "git.example.com"
"""The server's name, which nobody but the gateways knows."""
SECRET = "git"
FILES = "/srv/git"
"""Where the server's files are in its container, which is empty when it begins."""
_PATIENCE = 60.0
_BARE = f"{server.REPOSITORY}.git"


@dataclass(frozen=True)
class GitServer:
    """The server, which runs in `place`.

    `address` is its IPv4 address; `authority`: its name, with the port where that is not 443; `certificate` is its own
    authority, in PEM.
    """

    place: Place
    address: str
    authority: str
    token: str
    certificate: str

    @property
    def declared(self) -> list[dict[str, Any]]:
        """As `spec.repositories` has it."""
        url = f"https://{self.authority}/{server.REPOSITORY}"
        path = task.DIRECTORY.rpartition("/")[2]
        return [
            {"path": path, "url": url, "credentialsSecretRef": {"name": SECRET}, "push": {"branches": ["claude/*"]}}
        ]

    def secret(self, namespace: str, labels: dict[str, str]) -> Manifest:
        """The Secret with the token, which is for this server alone."""
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": namespace, "labels": labels},
            "type": meta.GIT_SECRET_TYPE,
            "stringData": {"host": self.authority, "token": self.token},
        }

    def branches(self) -> dict[str, str]:
        """Commits by the names of branches, as the server has them. Raises SetupError."""
        code, said = self.place.run(
            "git", "-C", _BARE, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads"
        )
        if code != 0:
            raise SetupError(f"The demo's git server does not tell what it has: {said}", _AGAIN)
        return dict(line.split(" ", 1) for line in said.splitlines() if line)

    def listing(self) -> tuple[str, str]:
        """How a person asks the server for its branches, and what it says."""
        asked = ("git", "-C", _BARE, "branch", "--verbose")
        return f"{self.place.command} {' '.join(asked)}", self.place.run(*asked)[1]


_AGAIN = "Run this again. If that does not help, remove the demo (make demo-down) and begin anew."


def program(address: str, port: int) -> list[str]:
    """The server's command in a container of the sandbox's image. Address "": all that the container has."""
    source = resources.files("claude_sandbox.demo.work").joinpath("server.py").read_text(encoding="utf-8")
    return ["python3", "-I", "-c", source, address, str(port), FILES, HOST]


def found(place: Place, address: str, port: int, say: Say) -> GitServer:
    """The server, once it takes connections. Raises SetupError where it does not."""

    def look() -> str | None:
        try:
            code, said = place.run("cat", f"{FILES}/certificate.pem")
        except SetupError as error:
            return error.message
        return None if code == 0 else said.strip() or "The git server begins."

    if not wait(look, say, _PATIENCE):
        raise SetupError(f"The demo's git server does not begin within {_PATIENCE:.0f} s: {look()}", _AGAIN)
    (_, certificate), (_, token) = (place.run("cat", f"{FILES}/{name}") for name in ("certificate.pem", "token"))
    authority = HOST if port == 443 else f"{HOST}:{port}"
    return GitServer(place, address, authority, token.strip(), f"{certificate.strip()}\n")
