"""The operator as a process of this machine, with no more rights in the control plane than its pod would have."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import yaml

import claude_sandbox
from claude_sandbox.demo.docker.record import Made
from claude_sandbox.install import crds
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import NAMESPACE, OPERATOR, Installation, Manifest, render
from claude_sandbox.install.waiting import Say
from claude_sandbox.localcluster import claims, components, ports
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.health import answers_ok, await_healthy
from claude_sandbox.localcluster.layout import Layout, write_private
from claude_sandbox.localcluster.locks import locked

NAME = "operator"
_STAND_IN, _GIT = "stand-in", "git"
STAND_IN_PORT, GIT_PORT = 38080, 38443
"""Of servers for which none was chosen, by an earlier demo's record."""
_ADDRESS = "127.0.0.1"
_PATIENCE = 60.0
_TOKEN_LIFE = timedelta(days=365)
# What of the installation there is without pods.
_FIRST = ("CustomResourceDefinition", "Namespace")
_RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def install(kubectl: Kubectl, say: Say) -> None:
    """The CRDs, and the operator's account with its rights. Raises SetupError."""
    manifests = render(Installation(docker=True))
    crds.bring(kubectl, _of(manifests, _FIRST), say, force=True)
    kubectl.apply(_of(manifests, _RIGHTS), force=True)


@dataclass(frozen=True)
class Images:
    """What sandboxes run, and what brings their keys and publishes their ports."""

    sandbox: str
    relay: str


def start(cluster: Cluster, program: Path, made: Made, images: Images, gateways: str, say: Say) -> None:
    """Have the operator run, as it is now, and return when it is ready. `program`: kubectl; `gateways`: what it is told
    for them. Raises SetupError.
    """
    layout = cluster.layout
    with locked(layout.root):
        settings = layout.config / "gateways.json"
        write_private(settings, gateways)
        credentials = _credentials(cluster, program)
        if components.running(layout, NAME) is None:
            say("Starting the operator.")
        package = Path(claude_sandbox.__file__).parent
        components.start(
            layout,
            NAME,
            _command(credentials, images, settings, made.port),
            {"PYTHONPATH": str(package.parent)},
            (credentials, settings, *sorted(package.rglob("*.py"))),
        )
    try:
        await_healthy(layout, NAME, lambda: answers_ok(_ADDRESS, made.port, "/readyz"), _PATIENCE)
    except LocalClusterError as error:
        raise SetupError(
            error.message,
            "Mend what the log names and run this again, or begin afresh after make demo-down.",
        ) from None


def stop(layout: Layout) -> None:
    """End the operator. What it looks after goes on."""
    components.stop(layout, NAME)


def runs(layout: Layout) -> bool:
    """Whether the operator runs."""
    return components.running(layout, NAME) is not None


def log(layout: Layout) -> Path:
    """Where the operator's log is."""
    return components.log_file(layout, NAME)


def free_ports(layout: Layout) -> tuple[int, int, int]:
    """Ports for the operator, the stand-in and the git server that no local cluster and no engine has. Raises
    LocalClusterError where none is left.
    """
    found = ports.allocate(f"{layout.root} {NAME}", (NAME, _STAND_IN, _GIT), claims.held().ports)
    return found[NAME], found[_STAND_IN], found[_GIT]


def _command(credentials: Path, images: Images, settings: Path, port: int) -> tuple[str, ...]:
    return (
        # Without the directory that this happens to be started in.
        *(sys.executable, "-P", "-m", "claude_sandbox.cli.main", "run", "--docker"),
        f"--kubeconfig={credentials}",
        f"--lease-namespace={NAMESPACE}",
        # There is one of it, so nothing is to be elected, and a restart takes over at once.
        *("--no-leader-election", "--renew-lease"),
        f"--sandbox-image={images.sandbox}",
        f"--relay-image={images.relay}",
        f"--gateway-settings={settings}",
        f"--bind={_ADDRESS}:{port}",
        "--log-format=json",
    )


def _credentials(cluster: Cluster, program: Path) -> Path:
    """A kubeconfig with a token of the operator's own account, as its pod would have; kept while it will do."""
    path = cluster.layout.config / f"{NAME}.kubeconfig"
    if path.exists() and _will_do(path, program):
        return path
    duration = f"--duration={int(_TOKEN_LIFE.total_seconds())}s"
    administrator = Kubectl(program, str(cluster.kubeconfig))
    token = administrator.run("create", "token", OPERATOR, "--namespace", NAMESPACE, duration).strip()
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token}
    write_private(path, yaml.safe_dump(document))
    return path


def _will_do(path: Path, program: Path) -> bool:
    if time.time() - path.stat().st_mtime > (_TOKEN_LIFE / 2).total_seconds():
        return False
    try:
        # A token ends with the account that it was made for, and the account may have been made anew.
        Kubectl(program, str(path)).run("auth", "whoami")
    except SetupError:
        return False
    return True


def _of(manifests: list[Manifest], kinds: tuple[str, ...]) -> Iterator[Manifest]:
    return (manifest for manifest in manifests if manifest["kind"] in kinds)
