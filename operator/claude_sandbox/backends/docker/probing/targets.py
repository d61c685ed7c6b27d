"""What is tried from a sandbox's place in the network, and what that place is. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

from claude_sandbox.backends.docker.drift import networks_of
from claude_sandbox.backends.docker.engine.documents import Object, running, started_at
from claude_sandbox.backends.docker.names import Names
from claude_sandbox.backends.probing.wanted import ASKED_OF_RESOLVERS, METADATA, Named, Wanted
from claude_sandbox.blueprint.agent import BROKER_PORT, PROXY_PORT
from claude_sandbox.compliance.evidence.probes import Expected, Subject

Network = IPv4Network | IPv6Network

PUBLIC = ("192.0.2.1", "2001:db8::1")
"""For documentation (RFC 5737, RFC 3849): no machine has them, and the way to them is that to the Internet. Only the
route is looked up, so nothing is sent."""
RESOLVER = "127.0.0.11"
"""At which an engine answers containers of a network, and passes on what it does not know, where it may
(moby, libnetwork/resolver.go)."""
_SSH = 22


@dataclass(frozen=True)
class Place:
    """A sandbox's place in the network: whatever changes in it, an earlier probe says nothing of it any more."""

    container: str
    started: str
    networks: tuple[tuple[str, str], ...]
    gateway: tuple[str, str] = ("", "")


def place_of(container: Object | None, gateway: Object | None) -> Place | None:
    """None of a container that does not run."""
    if container is None or not running(container):
        return None
    beside = (str(gateway["Id"]), started_at(gateway)) if gateway is not None and running(gateway) else ("", "")
    return Place(str(container["Id"]), started_at(container), tuple(sorted(_networks(container))), beside)


def own_networks(network: Object | None) -> tuple[Network, ...]:
    """The addresses of a sandbox's own network."""
    configured = ((network or {}).get("IPAM") or {}).get("Config") or ()
    return tuple(ip_network(one["Subnet"]) for one in configured if one.get("Subnet"))


def targets(
    called: Names,
    network: Object | None,
    gateway: Object | None,
    outer: Object | None,
    others: Iterable[str] = (),
    named: Iterable[Named] = (),
) -> tuple[Wanted, ...]:
    """`network`, `gateway` and `outer`: the sandbox's own network, and its gateway with its outer network. `others`:
    addresses of other sandboxes of the host. `named`: what administrators name, which no sandbox may reach.
    """
    wanted = [
        Wanted(f"the metadata service at {one}", one, 80, Expected.DENIED, subject=Subject.METADATA) for one in METADATA
    ]
    wanted += [Wanted(f"the Internet ({_version(one)})", one, 443, Expected.DENIED, "route") for one in PUBLIC]
    wanted.append(
        Wanted("the engine's resolver", RESOLVER, 53, Expected.DENIED_IF_THERE, "dns-udp", query=ASKED_OF_RESOLVERS)
    )
    wanted += _gateways(called, gateway)
    if (host := _host_address(outer)) and outer is not None:
        wanted.append(Wanted("the host on its gateway's outer network", host, _SSH, Expected.DENIED))
    if host := _free_host_address(network):
        wanted.append(Wanted("the host on the sandbox's own network", host, _SSH, Expected.SILENT))
    own = own_networks(network)
    strangers = [one for one in others if not any(ip_address(one) in part for part in own)]
    # One stands for all: each has a network of its own.
    wanted += [Wanted("another sandbox of the host", one, BROKER_PORT, Expected.DENIED) for one in strangers[:1]]
    wanted += [one.wanted() for one in named]
    return tuple(wanted)


def address_on(container: Object | None, network: str) -> str:
    """A container's address on a network; empty where it has none."""
    found = ((container or {}).get("NetworkSettings") or {}).get("Networks") or {}
    return str((found.get(network) or {}).get("IPAddress") or "")


def ways_out(routes: Iterable[str], own: Iterable[Network]) -> Iterator[tuple[str, str]]:
    """The routes, as `claude_sandbox.probe` tells them, that lead elsewhere than to the sandbox's own network; and of
    each by whose address, empty where it leads there by itself.

    Raises ValueError for what is no route.
    """
    for route in routes:
        text, interface, *hop = route.split(" ")
        network = ip_network(text)
        if network.is_multicast or (network.version == 6 and network.is_link_local):
            continue
        if not any(network.version == one.version and network.subnet_of(one) for one in own):  # type: ignore[arg-type]
            yield f"{network} by {interface}", hop[0] if hop else ""


def _networks(container: Object) -> Iterator[tuple[str, str]]:
    for name, identifier in networks_of(container).items():
        yield name, f"{identifier} {address_on(container, name)}"


def _gateways(called: Names, gateway: Object | None) -> Iterator[Wanted]:
    if gateway is None or not running(gateway):
        return
    if inside := address_on(gateway, called.network):
        yield Wanted("its gateway", inside, BROKER_PORT, Expected.ALLOWED)
    if outside := address_on(gateway, called.gateway):
        yield Wanted("its gateway's outer side", outside, PROXY_PORT, Expected.DENIED)


def _host_address(network: Object | None) -> str:
    configured = ((network or {}).get("IPAM") or {}).get("Config") or ()
    return next((str(one["Gateway"]).partition("/")[0] for one in configured if one.get("Gateway")), "")


def _free_host_address(network: Object | None) -> str:
    """The address that the host would have on a network; empty where a container has it."""
    first = next((str(one[1]) for one in own_networks(network) if isinstance(one[1], IPv4Address)), "")
    host = _host_address(network) or first
    members = ((network or {}).get("Containers") or {}).values()
    taken = {str(one.get("IPv4Address") or "").partition("/")[0] for one in members}
    return "" if host in taken else host


def _version(address: str) -> str:
    return f"IPv{ip_address(address).version}"
