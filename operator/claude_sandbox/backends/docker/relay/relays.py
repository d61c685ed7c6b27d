"""What publishes a sandbox's declared ports: a relay beside it. Pure.

An engine publishes nothing from an internal network. So the relay is on two: the sandbox's own, where it only connects,
and an outer one of its own, where it only listens, and from which the engine publishes.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from claude_sandbox.api.docker_hosts.endpoints import bracketed
from claude_sandbox.api.docker_hosts.spec import PortRange
from claude_sandbox.backends.docker.documents.hardening import ICC, NO_RESOLVER, companion_host
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Manifest, Object, running
from claude_sandbox.backends.docker.names import LABEL_SPEC_HASH, OUTER, RELAY, Names, labels_of
from claude_sandbox.blueprint.model import Identity, Image, Port

PROGRAM = ("python3", "-m", "claude_sandbox.relay")
USER = "65532:65532"
"""As which the operator's image runs; nobody else is in it."""

LOOPBACK = ("127.0.0.1", "::1")
"""Addresses that need nobody's permission: only the host itself can connect to them."""

_MIB = 1 << 20
MEMORY = 96 * _MIB
"""The interpreter takes some 20 MiB, and 128 connections with full buffers some 25 more."""
PIDS = 32
"""One for the relay, and those threads in which names are looked up."""
_CPU = 500_000_000
"""Half a CPU, in the engine's NanoCpus."""
_OOM_SCORE_ADJUSTMENT = 600

_PORT_DIGITS = len("65535")
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"


@dataclass(frozen=True)
class Publishing:
    """What administrators give for declared ports: the relay's image, and a host's addresses besides loopback.

    `ports`: which of the host's may be asked for, as the first and the last.
    """

    image: Image | None = None
    addresses: tuple[str, ...] = ()
    ports: tuple[int, int] = (PortRange().first, PortRange().last)

    def permits(self, port: Port) -> bool:
        """Whether it may be published as it is declared."""
        return self.permits_address(port) and self.permits_number(port)

    def permits_address(self, port: Port) -> bool:
        """Whether anything may be published on its address of the host."""
        return port.host_ip in LOOPBACK or port.host_ip in self.addresses

    def permits_number(self, port: Port) -> bool:
        """Whether its port of the host may be asked for; one that the engine chooses is asked for by nobody."""
        return port.host_port is None or self.ports[0] <= port.host_port <= self.ports[1]


NO_PUBLISHING = Publishing()


@dataclass(frozen=True)
class Relay:
    """The documents of a relay and its outer network, and the ports that it publishes."""

    image: Image
    container: Manifest
    network: Manifest
    ports: tuple[Port, ...]


def relay_of(
    identity: Identity,
    cluster: str,
    called: Names,
    ports: Iterable[Port],
    given: Publishing,
    capabilities: EngineCapabilities,
) -> Relay | None:
    """The relay that a sandbox with these ports should have; None where there is nothing that it could publish."""
    permitted = tuple(port for port in ports if given.permits(port))
    if given.image is None or not permitted:
        return None
    network: Manifest = {
        "Name": called.relay,
        "Driver": "bridge",
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "EnableIPv6": False,
        # What begins in it leaves with an address that no one can answer to.
        "Options": {ICC: "false", _MASQUERADE: "false"},
        "Labels": labels_of(cluster, identity, OUTER),
    }
    container = _container(identity, cluster, called, permitted, given.image, capabilities)
    # What an administrator changes, as another image, is no drift of what is there.
    made_of = orjson.dumps([container, network], option=orjson.OPT_SORT_KEYS)
    container["Labels"][LABEL_SPEC_HASH] = hashlib.sha256(made_of).hexdigest()[:32]
    return Relay(given.image, container, network, permitted)


def refusals(ports: Iterable[Port], given: Publishing) -> str:
    """Why some of the ports can't be published, and what to do; empty where all can, as far as is known before."""
    ports = tuple(ports)
    if ports and given.image is None:
        return (
            "No port of spec.network.ports is published: the operator has no image for the relay. Have its"
            " administrator start it with --relay-image."
        )
    messages = []
    if named := ", ".join(f"{port.name} ({port.host_ip})" for port in ports if not given.permits_address(port)):
        messages.append(
            f"Not published, since the DockerHost does not allow the address in spec.network.ports[].hostIP: {named}."
            " Use 127.0.0.1, or have its administrator list the address in the DockerHost's spec.publishAddresses."
        )
    if named := ", ".join(f"{port.name} ({port.host_port})" for port in ports if not given.permits_number(port)):
        first, last = given.ports
        messages.append(
            f"Not published, since the DockerHost allows {first} to {last} in spec.network.ports[].hostPort: {named}."
            " Choose one of these or leave it out, or have its administrator change the DockerHost's"
            " spec.publishPorts."
        )
    return " ".join(messages)


def with_ports(container: Manifest, published: Mapping[str, int], ports: Iterable[Port]) -> Manifest:
    """The relay's document with those ports of the host for which any will do that they had before, by their names."""
    return {**container, "HostConfig": {**container["HostConfig"], "PortBindings": bindings(ports, published)}}


def endpoints(ports: Iterable[Port], live: Object | None) -> tuple[tuple[str, str], ...]:
    """Names of declared ports and where on the host they are published now, as ADDRESS:PORT."""
    if live is None or not running(live):
        return ()
    bound: Mapping[str, list[Object] | None] = (live.get("NetworkSettings") or {}).get("Ports") or {}
    return tuple(
        (port.name, f"{bracketed(str(place.get('HostIp')))}:{place.get('HostPort')}")
        for port in ports
        for place in (bound.get(f"{port.number}/tcp") or ())[:1]
    )


def believed(
    ports: Iterable[Port], told: Mapping[str, str], seen: Mapping[str, str], given: Publishing
) -> dict[str, str]:
    """Of the endpoints that a status tells, by the ports' names, those that the engine was `seen` to have, or that the
    sandbox may ask for by itself: an address that it declares, and a port of those that are kept for it.
    """
    return {
        port.name: endpoint
        for port in ports
        if (endpoint := told.get(port.name)) is not None
        and (
            seen.get(port.name) == endpoint
            or (
                endpoint == f"{bracketed(port.host_ip)}:{host_port(endpoint)}"
                and given.ports[0] <= host_port(endpoint) <= given.ports[1]
            )
        )
    }


def host_port(endpoint: str) -> int:
    """Of an address as `endpoints` writes it; 0 where it is none."""
    port = endpoint.rpartition(":")[2]
    # Of a status that somebody wrote: there are digits that are no number, and numbers too long to be read.
    return int(port) if port.isascii() and port.isdigit() and len(port) <= _PORT_DIGITS else 0


def _container(
    identity: Identity,
    cluster: str,
    called: Names,
    ports: tuple[Port, ...],
    image: Image,
    capabilities: EngineCapabilities,
) -> Manifest:
    return {
        "Hostname": "relay",
        "Image": image.reference,
        "User": USER,
        "WorkingDir": "/",
        "Env": [],
        "Labels": labels_of(cluster, identity, RELAY),
        "Healthcheck": {"Test": ["NONE"]},
        "StopTimeout": 2,
        "Entrypoint": list(PROGRAM),
        # By name: the container's address is another after each start.
        "Cmd": [f"{port.number}={called.container}:{port.number}" for port in ports],
        "ExposedPorts": {f"{port.number}/tcp": {} for port in ports},
        "HostConfig": {
            **companion_host(
                called.relay,
                memory=MEMORY,
                cpu=_CPU,
                pids=PIDS,
                open_files=1024,
                logs={"max-size": "1m", "max-file": "2"},
                limits_swap=capabilities.limits_swap,
            ),
            "OomScoreAdj": _OOM_SCORE_ADJUSTMENT,
            "Dns": [NO_RESOLVER],
            "PortBindings": bindings(ports, {}),
        },
        "NetworkingConfig": {"EndpointsConfig": {called.relay: {}}},
    }


def bindings(ports: Iterable[Port], published: Mapping[str, int]) -> Manifest:
    """The engine's PortBindings; an empty port of the host for any that is free."""

    def number(port: Port) -> str:
        wanted = port.host_port or published.get(port.name)
        return str(wanted) if wanted else ""

    return {f"{port.number}/tcp": [{"HostIp": port.host_ip, "HostPort": number(port)}] for port in ports}
