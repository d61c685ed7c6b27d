"""Which addresses a sandbox's network gets. Pure.

An engine's own pools hold some thirty networks in all (moby's daemon/libnetwork/ipamutils defaults), far fewer than
there may be sandboxes. A sandbox needs one address only, so its network is as small as an engine takes one.
"""

import hashlib
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, ip_network
from typing import Any

from claude_sandbox.backends.docker.engine.documents import Object

POOL = IPv4Network("198.18.0.0/15")
"""Set aside for test benches by RFC 2544: in no one's routing table, so that nothing real is shadowed."""
PREFIX = 29
"""8 addresses: a bridge, the sandbox, and what joins a network later."""


def candidates(pool: IPv4Network, seed: str, taken: Iterable[IPv4Network]) -> Iterator[IPv4Network]:
    """Free networks of the pool, from a place that depends on the seed, so that two at once seldom meet."""
    occupied = tuple(network for network in taken if network.overlaps(pool))
    count = 1 << (PREFIX - pool.prefixlen)
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])
    base, size = int(pool.network_address), 1 << (32 - PREFIX)
    for offset in range(count):
        found = IPv4Network((base + (start + offset) % count * size, PREFIX))
        if not any(found.overlaps(other) for other in occupied):
            yield found


def taken_by(networks: Iterable[Object]) -> tuple[IPv4Network, ...]:
    """The IPv4 networks that an engine's networks have."""
    return tuple(network for live in networks for network in _subnets(live))


def _subnets(live: Object) -> Iterator[IPv4Network]:
    ipam: Any = live.get("IPAM") or {}
    for config in ipam.get("Config") or ():
        network = ip_network(config["Subnet"], strict=False) if config.get("Subnet") else None
        if isinstance(network, IPv4Network):
            yield network
