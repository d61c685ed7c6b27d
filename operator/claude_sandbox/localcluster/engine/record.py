"""What an engine was asked to be, and where it is; kept in its directory for the next command."""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from claude_sandbox.localcluster import claims, network, ports
from claude_sandbox.localcluster.engine.places import EngineNames, Places
from claude_sandbox.localcluster.layout import write_private
from claude_sandbox.localcluster.network import Addresses
from claude_sandbox.localcluster.pki.pki import Files


class Tcp(StrEnum):
    """How an engine listens on 127.0.0.1, besides its Unix socket."""

    NONE = "None"
    """Not at all."""
    TLS = "TLS"
    """Only for clients with a certificate of the engine's own authority."""
    PLAIN = "Plain"
    """For whoever connects: what no engine should do, for tests of what is said about it."""


@dataclass(frozen=True)
class EngineDescription:
    """A Docker Engine on this machine. It exists in mount and network namespaces of its own."""

    name: str
    release: str
    """`29` or `20.10`."""
    live_restore: bool = False
    """Whether containers run on while dockerd doesn't."""
    tcp: Tcp = Tcp.NONE
    port: int | None = None
    """Of the machine's loopback, unless there is no such listener."""
    settings: str = "{}"
    """Further settings of dockerd's daemon.json, as JSON."""
    slot: int | None = None
    """Decides the addresses of the link to the machine's network; None: there is none, no packet gets out."""

    @property
    def places(self) -> Places:
        return Places.of(self.name)

    @property
    def names(self) -> EngineNames:
        return EngineNames.of(self.places)

    @property
    def socket_path(self) -> Path:
        """The API's Unix socket, which can be reached from outside of the engine's namespaces."""
        return self.names.sockets / "docker.sock"

    @property
    def socket(self) -> str:
        """The same as clients take it (DOCKER_HOST): `unix:///…/docker.sock`."""
        return f"unix://{self.socket_path}"

    @property
    def endpoint(self) -> str | None:
        """The TCP listener as clients take it (`tcp://127.0.0.1:PORT`), or None."""
        return None if self.port is None else f"tcp://127.0.0.1:{self.port}"

    @property
    def gateway_ip(self) -> str | None:
        """The machine's address as containers that may get out see it, or None where there is no way out."""
        return None if self.slot is None else Addresses(self.slot).gateway_ip

    @property
    def netns(self) -> Path:
        """The engine's network namespace, for nsenter(1): published ports are in there."""
        return self.names.network

    @property
    def mntns(self) -> Path:
        """The engine's mount namespace: volumes and containers' roots are mounted in there."""
        return self.names.mounts

    @property
    def cgroup(self) -> str:
        """The control group, in every hierarchy, that holds the engine's containers."""
        return self.names.cgroup

    @property
    def data_root(self) -> Path:
        """dockerd's directory: volumes, container logs and, on older engines, images."""
        return self.places.data

    @property
    def ca(self) -> Path:
        """The certificate of the authority that the TLS listener and its clients are vouched for by."""
        return Files(self.places.pki, "ca").certificate

    @property
    def client(self) -> Files:
        """A client's certificate and key for the TLS listener."""
        return Files(self.places.pki, "client")


def load(places: Places) -> EngineDescription | None:
    """The recorded description, or None where there is none that can be read."""
    try:
        document = json.loads(places.record.read_text())
        return EngineDescription(**{**document, "tcp": Tcp(document["tcp"])})
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def save(places: Places, engine: EngineDescription) -> None:
    """Record the description."""
    write_private(places.record, json.dumps(asdict(engine), indent=2))


def settle(wanted: EngineDescription, outside: bool | None) -> EngineDescription:
    """What is wanted, with the port and the slot that it needs for it, recorded. `outside`: see `lifecycle.up`.

    Raises LocalClusterError where none is left.
    """
    places = wanted.places
    places.make()
    with claims.choosing():
        others = claims.held(places)
        engine = replace(wanted, port=_port(wanted, others), slot=_slot(wanted, outside, others))
        save(places, engine)
        return engine


def _port(wanted: EngineDescription, others: claims.Claims) -> int | None:
    if wanted.tcp is Tcp.NONE:
        return None
    if wanted.port is not None:
        return wanted.port
    return ports.allocate(str(wanted.places.root), ("docker",), others.ports)["docker"]


def _slot(wanted: EngineDescription, outside: bool | None, others: claims.Claims) -> int | None:
    if outside is None or (outside and wanted.slot is not None):
        return wanted.slot
    return network.choose_slot(str(wanted.places.root), others.slots, network.machine_routes()) if outside else None
