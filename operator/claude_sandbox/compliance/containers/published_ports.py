"""Where on its host a container's ports are published."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.evidence.readings import Object

_FIRST_ORDINARY_PORT = 1024
"""Those below need a right to be listened on, unless net.ipv4.ip_unprivileged_port_start says otherwise."""


def bindings_of(document: Object) -> tuple[tuple[str, str | None], ...]:
    """Each port that a container asks to publish, or publishes, with the host's address; None where that is not told.

    Ports as the engine writes them, for example 8080/tcp.
    """
    read = Document(document)
    asked, actual = read.mapping("HostConfig.PortBindings"), read.mapping("NetworkSettings.Ports")
    return tuple(dict.fromkeys((*addresses(asked or {}), *addresses(actual or {}))))


def addresses(bindings: Mapping[str, object]) -> Iterator[tuple[str, str | None]]:
    """Each port with each of the host's addresses that it is published on; None where that is not told."""
    for port, places in bindings.items():
        # Null for a port that the image exposes and nobody publishes.
        for place in places if isinstance(places, list) else [places] if places is not None else ():
            address = place.get("HostIp") if isinstance(place, Mapping) else None
            yield port, address if isinstance(address, str) else None


def privileged(bindings: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Each port that is published on a port of the host below 1024 (CIS Docker Benchmark, 5.8)."""
    for port, places in ((port, places) for one in bindings for port, places in one.items()):
        for place in places if isinstance(places, list) else ():
            # A range of ports is asked for by its ends.
            first = str(place.get("HostPort", "")).partition("-")[0] if isinstance(place, Mapping) else ""
            if first.isascii() and first.isdecimal() and 0 < int(first) < _FIRST_ORDINARY_PORT:
                yield f"{port} is published on the host's privileged port {int(first)}"


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_confined_to_host(container: Container) -> bool:
    """Whether the document is of an engine that keeps neighbours from the loopback address: 28.0 or newer.

    GwPriority came with its version of the API, 1.48.
    """
    networks = container.mapping("NetworkSettings.Networks") or {}
    return any(isinstance(one, Mapping) and "GwPriority" in one for one in networks.values())
