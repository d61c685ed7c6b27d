"""What the installation was told, kept for the next command."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import write_private
from claude_sandbox.machine.places import Places

DEFAULT_PORT = 6443
DEFAULT_SOCKET = "/var/run/docker.sock"
# What services get of programs, in the order of the installation's own account of them.
PROGRAMS = ("etcd", "etcdctl", "etcdutl", "kube-apiserver", "kube-controller-manager", "kubectl")


@dataclass(frozen=True)
class Ports:
    """All on 127.0.0.1, one after the other."""

    apiserver: int

    @property
    def etcd(self) -> int:
        return self.apiserver + 1

    @property
    def etcd_peer(self) -> int:
        return self.apiserver + 2

    @property
    def operator(self) -> int:
        return self.apiserver + 3

    @property
    def sessions(self) -> int:
        return self.apiserver + 4

    @property
    def all(self) -> tuple[int, ...]:
        return (self.apiserver, self.etcd, self.etcd_peer, self.operator, self.sessions)


@dataclass(frozen=True)
class Settings:
    """One installation."""

    port: int
    """The API server's; the next four are etcd's (clients and peers) and the operator's (health, sessions)."""
    image: str
    """What sandboxes run that name no image."""
    image_named: bool
    """Whether a person named it; else each version of this program brings its own."""
    socket: str
    """The Docker Engine's."""
    group: str
    """The group that may use the socket."""
    programs: dict[str, str]
    """Paths below the installation's directory of programs, by the programs' names."""
    operator: str
    """The directory there with the operator's Python packages."""
    python: str
    """The interpreter that they were made for."""
    relay: str = ""
    """What brings keys and publishes declared ports: an operator's image."""
    gateways: bool = False
    """Whether something was said for the gateways of all sandboxes, which `Places.gateways` has."""
    images: tuple[str, ...] = ()
    """Identifiers of images that the installation brought onto the engine."""
    cluster: str = ""
    """The control plane's identifier, which everything of its sandboxes is labelled with; empty until it is known."""

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    @property
    def ports(self) -> Ports:
        return Ports(self.port)

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"


def load(places: Places) -> Settings | None:
    """The installation's settings, None where there is none. Raises LocalClusterError where they can't be read."""
    try:
        document = json.loads(places.settings.read_text())
        return Settings(**{**document, "images": tuple(document["images"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise LocalClusterError(
            f"{places.settings} can't be understood: {error}.", "Run `claude-sandbox machine install` again."
        ) from None


def require(places: Places) -> Settings:
    """The installation's settings. Raises LocalClusterError where there is none."""
    found = load(places)
    if found is None:
        raise LocalClusterError(
            "Nothing is installed on this machine.", "Install it: `claude-sandbox machine install`, as root."
        )
    return found


def save(places: Places, settings: Settings) -> None:
    """Replace the settings, where they say something else."""
    text = json.dumps(asdict(settings), indent=2, sort_keys=True)
    write_if_changed(places.settings, text)


def write_if_changed(path: Path, text: str) -> bool:
    """Write a file that only its owner may read, whole or not at all; whether its content was another."""
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        pass
    write_private(path, text)
    return True
