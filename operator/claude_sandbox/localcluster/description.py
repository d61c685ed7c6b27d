"""What a cluster was asked to be, and what it was given; kept in its directory for the next command."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from claude_sandbox.localcluster import claims, network, ports
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import Layout, write_private
from claude_sandbox.localcluster.programs.tools import DEFAULT_KUBERNETES, kubernetes_release

_PURPOSES = ("etcd", "etcd-peer", "kube-controller-manager", "kube-scheduler")
APISERVER = "kube-apiserver"


@dataclass(frozen=True)
class Description:
    """One cluster, as recorded in its `cluster.json`."""

    name: str
    release: str
    """The Kubernetes release, for example `1.34.4`."""
    ports: dict[str, int]
    """The TCP port of each component, kept over restarts."""
    slot: int
    """Decides the addresses (see network.Addresses)."""
    node: bool = False
    controllers: bool = False
    fsync: bool = True
    copies: list[str] = field(default_factory=list)
    """Further files that hold the admin's kubeconfig; `down` removes them."""
    ipv6: bool = False
    """Whether all its addresses are of IPv6, but for the loopback's."""

    @property
    def addresses(self) -> network.Addresses:
        return network.Addresses(self.slot, self.ipv6)

    @property
    def host(self) -> str:
        """Where the API server listens: the loopback, or, for the sake of a node, the machine's end of the link."""
        return self.addresses.gateway_ip if self.node else "127.0.0.1"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{network.at(self.host, self.ports[APISERVER])}"

    @property
    def node_name(self) -> str:
        return f"{self.name}-node"


@dataclass(frozen=True)
class Wish:
    """What is asked of `up`; None leaves it as it is, or to the default."""

    version: str | None = None
    node: bool = False
    controllers: bool = False
    port: int | None = None
    fsync: bool = True
    copy: Path | None = None
    ipv6: bool = False


def load(layout: Layout) -> Description | None:
    """The recorded description, or None where there is none that can be read."""
    try:
        return Description(**json.loads(layout.record.read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def save(layout: Layout, description: Description) -> None:
    """Record the description."""
    write_private(layout.record, json.dumps(asdict(description), indent=2))


def settle(layout: Layout, wish: Wish) -> Description:
    """The description that fulfils the wish, recorded: of the cluster that is there, extended, or of a new one.

    What a cluster has is never taken away by a later `up` that doesn't ask for it.
    Raises LocalClusterError where the wish contradicts the cluster that is there, or can't be had.
    """
    existing = load(layout)
    release = None if wish.version is None else kubernetes_release(wish.version)
    # Before anything is recorded: a cluster that can't be had leaves no trace.
    if wish.copy is not None and wish.copy.exists() and (existing is None or str(wish.copy) not in existing.copies):
        raise LocalClusterError(
            f"{wish.copy} is there already and is not this cluster's.", "Name another file, or remove it."
        )
    description = _extended(existing, wish, release) if existing else _new(layout, wish, release)
    if wish.copy is not None and str(wish.copy) not in description.copies:
        description = replace(description, copies=[*description.copies, str(wish.copy)])
    if description != existing:
        layout.make()
        save(layout, description)
    return description


def _extended(existing: Description, wish: Wish, release: str | None) -> Description:
    begin_afresh = f"Take it down first (`claude-sandbox cluster down --name {existing.name}`), or use another --name."
    if release not in (None, existing.release):
        raise LocalClusterError(
            f"The cluster {existing.name!r} is there with Kubernetes {existing.release}, not {release}.", begin_afresh
        )
    if wish.port not in (None, existing.ports[APISERVER]):
        raise LocalClusterError(
            f"The cluster {existing.name!r} is there on port {existing.ports[APISERVER]}, not {wish.port}.",
            begin_afresh,
        )
    if wish.ipv6 and not existing.ipv6:
        raise LocalClusterError(f"The cluster {existing.name!r} is there with addresses of IPv4.", begin_afresh)
    return replace(
        existing, node=existing.node or wish.node, controllers=existing.controllers or wish.controllers or wish.node
    )


def _new(layout: Layout, wish: Wish, release: str | None) -> Description:
    with claims.choosing():
        others = claims.held(layout)
        taken = set(others.ports)
        if wish.port is not None:
            _require_untaken(wish.port, others)
            ports.require_free(wish.port)
            taken.add(wish.port)
        purposes = _PURPOSES if wish.port is not None else (APISERVER, *_PURPOSES)
        chosen = ports.allocate(str(layout.root), purposes, taken)
        if wish.port is not None:
            chosen[APISERVER] = wish.port
        slot = network.choose_slot(str(layout.root), others.slots, network.machine_routes())
        description = Description(
            layout.name,
            release or kubernetes_release(DEFAULT_KUBERNETES),
            chosen,
            slot,
            node=wish.node,
            controllers=wish.controllers or wish.node,
            fsync=wish.fsync,
            ipv6=wish.ipv6,
        )
        layout.make()
        save(layout, description)
        return description


def _require_untaken(port: int, others: claims.Claims) -> None:
    for other in others.all:
        if port in other.ports:
            raise LocalClusterError(
                f"Port {port} belongs to the {other.what}.", "Choose another with --port, or leave it out."
            )
