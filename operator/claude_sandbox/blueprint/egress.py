"""Which of the places that a sandbox asks for it may really reach. Pure.

Who may create sandboxes must not gain a way into the cluster's own network through one: private addresses are out of
reach unless the administrator of the operator opened them.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from claude_sandbox.api import networks
from claude_sandbox.blueprint.model import EgressBlock
from claude_sandbox.gateway.destinations.domains import PatternError, parse_pattern

Network = IPv4Network | IPv6Network

# Loopback, link-local and multicast addresses are refused by the schema already, and other forms of these.
PRIVATE: tuple[Network, ...] = tuple(map(ip_network, networks.PRIVATE))


def blocks(cidrs: Iterable[str], opened: Iterable[Network]) -> tuple[EgressBlock, ...]:
    """The networks that may be reached, with the private ones that lie in them left out unless they were opened."""
    allowed = tuple(opened)
    return tuple(_block(ip_network(cidr), allowed) for cidr in cidrs)


def out_of_reach(cidrs: Iterable[str], opened: Iterable[Network]) -> Iterator[tuple[int, Network]]:
    """The positions of the networks of which nothing would be left, and the private network that each is in."""
    allowed = tuple(opened)
    for index, cidr in enumerate(cidrs):
        network = ip_network(cidr)
        within = next((private for private in PRIVATE if _contains(private, network)), None)
        if within is not None and not any(_contains(each, network) for each in allowed):
            yield index, within


def refused_domains(domains: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The positions of the names that the gateway lets nobody be allowed, and why, with what to write instead."""
    for index, domain in enumerate(domains):
        try:
            parse_pattern(domain)
        except PatternError as error:
            yield index, str(error)


def _block(network: Network, opened: tuple[Network, ...]) -> EgressBlock:
    if any(_contains(each, network) for each in opened):
        return EgressBlock(str(network), ())
    return EgressBlock(str(network), tuple(str(private) for private in PRIVATE if _contains(network, private)))


def _contains(outer: Network, inner: Network) -> bool:
    if isinstance(outer, IPv4Network) and isinstance(inner, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(outer, IPv6Network) and isinstance(inner, IPv6Network):
        return inner.subnet_of(outer)
    return False
