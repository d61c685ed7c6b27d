"""Addresses of a cluster: services, pods, and the link between the machine and the cluster's node.

All of one cluster are of one family. Those of IPv6 are from the range of everybody's own (RFC 4193).
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from zlib import crc32

from claude_sandbox.localcluster.errors import LocalClusterError

SERVICE_CIDR = "10.96.0.0/16"
KUBERNETES_SERVICE_IP = "10.96.0.1"
CLUSTER_DNS_IP = "10.96.0.10"
SERVICE_CIDR_6 = "fd00:10:96::/112"

SLOTS = 256


@dataclass(frozen=True)
class Addresses:
    """The addresses that belong to one cluster on this machine, all derived from its slot (0 to 255)."""

    slot: int
    ipv6: bool = False

    @property
    def link_cidr(self) -> str:
        """The network between the machine and the node; nothing else is in it."""
        return f"fd00:10:243:{self.slot:x}::/126" if self.ipv6 else f"10.243.{self.slot}.0/30"

    @property
    def gateway_ip(self) -> str:
        """The machine's end of the link; the API server of a cluster with a node listens there."""
        return f"fd00:10:243:{self.slot:x}::1" if self.ipv6 else f"10.243.{self.slot}.1"

    @property
    def node_ip(self) -> str:
        """The node's end of the link."""
        return f"fd00:10:243:{self.slot:x}::2" if self.ipv6 else f"10.243.{self.slot}.2"

    @property
    def pod_cidr(self) -> str:
        return f"fd00:10:244:{self.slot:x}::/64" if self.ipv6 else f"10.244.{self.slot}.0/24"

    @property
    def service_cidr(self) -> str:
        return SERVICE_CIDR_6 if self.ipv6 else SERVICE_CIDR

    @property
    def kubernetes_ip(self) -> str:
        """Of the Service that is the API server."""
        return "fd00:10:96::1" if self.ipv6 else KUBERNETES_SERVICE_IP

    @property
    def cluster_dns_ip(self) -> str:
        """Of the Service that is the resolver."""
        return "fd00:10:96::a" if self.ipv6 else CLUSTER_DNS_IP


def at(address: str, port: int) -> str:
    """The two together, as in a URL."""
    return f"[{address}]:{port}" if is_ipv6(address) else f"{address}:{port}"


def is_ipv6(address: str) -> bool:
    """Whether the address, or the network, is of IPv6."""
    return ":" in address


def choose_slot(seed: str, taken: frozenset[int], routes: tuple[IPv4Network, ...]) -> int:
    """A slot no other cluster has, and whose networks this machine doesn't route elsewhere.

    The search begins at a place that depends on `seed`, so that a cluster that is made again with the same
    seed tends to have the addresses it had. Raises LocalClusterError where none is left.
    """
    start = crc32(seed.encode()) % SLOTS
    for step in range(SLOTS):
        slot = (start + step) % SLOTS
        addresses = Addresses(slot)
        own = ip_network(addresses.link_cidr), ip_network(addresses.pod_cidr)
        if slot not in taken and not any(route.overlaps(net) for route in routes for net in own):
            return slot
    raise LocalClusterError(
        "No free network is left for the cluster below 10.243.0.0/16 and 10.244.0.0/16.",
        "Take down other clusters, or remove the route that covers these networks (see `ip route`).",
    )


def parse_routes(table: str) -> tuple[IPv4Network, ...]:
    """The destinations in the text of `/proc/net/route`, default routes left out.

    Numbers there are hexadecimal, in the machine's byte order (little-endian on x86-64 and arm64).
    """
    networks = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8 or columns[7] == "00000000":
            continue
        destination, mask = (bytes.fromhex(columns[i])[::-1] for i in (1, 7))
        networks.append(IPv4Network((destination, int.from_bytes(mask).bit_count())))
    return tuple(networks)


def machine_routes() -> tuple[IPv4Network, ...]:
    """Where this machine sends packets to by other than its default route."""
    return parse_routes(Path("/proc/net/route").read_text())
