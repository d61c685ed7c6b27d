"""Where everything of the installation is. All of it is below these four directories and in files of systemd's."""

from dataclasses import dataclass
from pathlib import Path

PREFIX = "claude-sandbox"
# In the order in which they are started.
ETCD, APISERVER, CONTROLLERS, OPERATOR = "etcd", "apiserver", "controllers", "operator"
SERVICES = (ETCD, APISERVER, CONTROLLERS, OPERATOR)
DAILY = f"{PREFIX}-daily"


def unit(service: str) -> str:
    """The name of the service's unit."""
    return f"{PREFIX}-{service}.service"


@dataclass(frozen=True)
class Places:
    """The directories, below `root`: a package is made in one, the machine's own is `/`."""

    root: Path = Path("/")

    @property
    def programs(self) -> Path:
        """Programs, each in a directory of its version, and links to what people run in `bin`."""
        return self.root / "usr/local/lib" / PREFIX

    @property
    def bin(self) -> Path:
        return self.programs / "bin"

    @property
    def config(self) -> Path:
        """Settings, keys and kubeconfigs; root's alone."""
        return self.root / "etc" / PREFIX

    @property
    def settings(self) -> Path:
        return self.config / "machine.json"

    @property
    def pki(self) -> Path:
        return self.config / "pki"

    @property
    def encryption(self) -> Path:
        """The key that Secrets are encrypted with in etcd."""
        return self.config / "encryption.yaml"

    @property
    def gateways(self) -> Path:
        """What the administrator says for the gateways of all sandboxes."""
        return self.config / "gateways.json"

    @property
    def trail_key(self) -> Path:
        """What signs the audit trail."""
        return self.config / "trail-key.pem"

    @property
    def trail_public_key(self) -> Path:
        """What verifies it, where the operator can't write."""
        return self.config / "trail-public-key.pem"

    @property
    def data(self) -> Path:
        return self.root / "var/lib" / PREFIX

    @property
    def etcd(self) -> Path:
        """The directory that systemd gives to etcd; its data is in `data` below it."""
        return self.data / "etcd"

    @property
    def trail(self) -> Path:
        """The directory that systemd gives to the operator: its audit trail."""
        return self.data / "trail"

    @property
    def backups(self) -> Path:
        return self.data / "backups"

    @property
    def units(self) -> Path:
        return self.root / "etc/systemd/system"

    def kubeconfig(self, user: str) -> Path:
        """`admin` is the administrator's."""
        return self.config / f"{user}.kubeconfig"

    def seen(self, path: Path) -> str:
        """The path as the machine will see it that `root` becomes the root of."""
        return str(Path("/") / path.relative_to(self.root))
