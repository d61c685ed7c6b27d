"""The cluster's own public key infrastructure: who trusts whom, and the files.

Three authorities, because trust is separate: `ca` for the API server, its clients and the kubelet;
`etcd-ca` for etcd and the one client it has; `front-proxy-ca` for the aggregation layer, whose
clients may speak for any user. Every file is readable by its owner only.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from claude_sandbox.localcluster.layout import write_private
from claude_sandbox.localcluster.network import KUBERNETES_SERVICE_IP
from claude_sandbox.localcluster.pki.certificates import (
    KeyPair,
    Subject,
    is_pair,
    issue,
    new_ca,
    new_key,
    public_key,
    will_do,
)

_LOOPBACK = ("127.0.0.1", "localhost")
_KUBERNETES_SERVICE = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
AUTHORITIES = ("ca", "etcd-ca", "front-proxy-ca")


@dataclass(frozen=True)
class Files:
    """Paths of the certificate and the key called `name`."""

    directory: Path
    name: str

    @property
    def certificate(self) -> Path:
        return self.directory / f"{self.name}.crt"

    @property
    def key(self) -> Path:
        return self.directory / f"{self.name}.key"


def subjects(
    gateway_ip: str | None, node: tuple[str, str] | None, service_ip: str = KUBERNETES_SERVICE_IP
) -> dict[str, tuple[str, Subject]]:
    """Every leaf certificate by its file's name: the authority that signs it, and what it says.

    `gateway_ip` is the further address of the API server, `node` the name and IP of the cluster's node, `service_ip`
    the address of the API server's Service.
    """
    apiserver_names = (*_LOOPBACK, *_KUBERNETES_SERVICE, service_ip, *([gateway_ip] if gateway_ip else []))
    leaves = {
        "apiserver": ("ca", Subject("kube-apiserver", server=True, client=False, names=apiserver_names)),
        "admin": ("ca", Subject("kubernetes-admin", ("system:masters",))),
        "apiserver-kubelet-client": ("ca", Subject("kube-apiserver-kubelet-client", ("system:masters",))),
        "controller-manager": (
            "ca", Subject("system:kube-controller-manager", server=True, names=_LOOPBACK),
        ),
        "scheduler": ("ca", Subject("system:kube-scheduler", server=True, names=_LOOPBACK)),
        "front-proxy-client": ("front-proxy-ca", Subject("front-proxy-client")),
        # etcd speaks to itself as a client (its gateway), so its certificate is both.
        "etcd": ("etcd-ca", Subject("etcd", server=True, names=_LOOPBACK)),
        "apiserver-etcd-client": ("etcd-ca", Subject("kube-apiserver-etcd-client")),
    }  # fmt: skip
    if node is not None:
        name, address = node
        leaves |= {
            "kubelet": ("ca", Subject(f"system:node:{name}", ("system:nodes",))),
            "kubelet-server": (
                "ca",
                Subject(f"system:node:{name}", ("system:nodes",), server=True, client=False, names=(name, address)),
            ),
            "kube-proxy": ("ca", Subject("system:kube-proxy")),
            "kube-router": ("ca", Subject("system:kube-router")),
        }  # fmt: skip
    return leaves


def ensure(
    directory: Path, leaves: dict[str, tuple[str, Subject]], authorities: tuple[str, ...] = AUTHORITIES
) -> frozenset[str]:
    """Make what is missing, damaged, about to expire or no longer right, and leave the rest alone.

    Returns the names of what was made. A new authority makes all its leaves new.
    """
    now = datetime.now(UTC)
    made: set[str] = set()
    for name in authorities:
        authority_pair = read(Files(directory, name))
        if authority_pair is None or not is_pair(authority_pair):
            _write(Files(directory, name), new_ca(f"claude-sandbox {name}", now))
            made.add(name)
    for name, (authority, subject) in leaves.items():
        ca = _require(Files(directory, authority))
        pair = read(Files(directory, name))
        if pair is None or not will_do(pair, ca, subject, now):
            _write(Files(directory, name), issue(ca, subject, now))
            made.add(name)
    service_account = Files(directory, "service-account").key
    if not (directory / "service-account.pub").exists():
        write_private(service_account, new_key())
        made.add("service-account")
        # Last: where it is there, both are.
        write_private(directory / "service-account.pub", public_key(service_account.read_bytes()))
    return frozenset(made)


def read(files: Files) -> KeyPair | None:
    """The pair in the files, or None where one of them is missing."""
    try:
        return KeyPair(files.key.read_bytes(), files.certificate.read_bytes())
    except FileNotFoundError:
        return None


def _require(files: Files) -> KeyPair:
    return KeyPair(files.key.read_bytes(), files.certificate.read_bytes())


def _write(files: Files, pair: KeyPair) -> None:
    # One who is interrupted in between leaves two that don't fit, which are made anew.
    write_private(files.key, pair.key)
    write_private(files.certificate, pair.certificate)
