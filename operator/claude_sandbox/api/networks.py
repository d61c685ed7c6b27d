"""Which destinations may be declared at all."""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from claude_sandbox.api.rules import Rule

# Anthropic's published ranges of api.anthropic.com.
ANTHROPIC_CIDRS = ("160.79.104.0/23", "2607:6bc0::/48")

# The widest prefixes (IPv4, IPv6) that a single entry may have: a tenth of the Internet is no destination.
WIDEST = (8, 16)
WIDEST_IN_PRODUCTION = (16, 32)

# Addresses that no agent has business with, because of what answers there. Ranges of the IANA special-purpose
# registries, and the metadata services of clouds, which hand out credentials of the machine.
FORBIDDEN = (
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, with the clouds' metadata service 169.254.169.254"),
    ("100.100.100.200/32", "Alibaba Cloud's metadata service"),
    ("168.63.129.16/32", "Azure's host service"),
    ("192.0.0.192/32", "Oracle Cloud's metadata service"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved, with the broadcast address"),
    ("::/127", "unspecified and loopback"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
    ("fd00:ec2::254/128", "Amazon EC2's metadata service"),
    ("fd20:ce::254/128", "Google Cloud's metadata service"),
    ("64:ff9b::a9fe:0/112", "IPv4 link-local through NAT64"),
)

Network = IPv4Network | IPv6Network


@lru_cache(maxsize=1024)
def parse(text: str) -> Network | None:
    """The network, or None where the text is not exactly how the network is written canonically.

    The canonical form is RFC 5952's: host bits zero, lower case, shortest. IPv4-mapped IPv6 is none.
    """
    try:
        network = ip_network(text)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        return None
    return network if str(network) == text else None


def narrow(text: str, widest: tuple[int, int]) -> bool:
    """Whether the network is no wider than that (IPv4, IPv6). What is no network passes: another rule reports it."""
    network = parse(text)
    return network is None or network.prefixlen >= widest[network.version == 6]


def _permitted(text: str) -> bool:
    network = parse(text)
    return network is None or not any(_overlaps(network, forbidden) for forbidden in _FORBIDDEN)


def _overlaps(one: Network, other: Network) -> bool:
    return one.network_address in other or other.network_address in one


_FORBIDDEN = tuple(ip_network(cidr) for cidr, _ in FORBIDDEN)


def narrow_cel(name: str, widest: tuple[int, int]) -> str:
    """`narrow` in CEL, of the string called `name`."""
    limit = f"(cidr({name}).ip().family() == 4 ? {widest[0]} : {widest[1]})"
    return f"!isCIDR({name}) || cidr({name}).prefixLength() >= {limit}"


def is_address(text: str) -> bool:
    """Whether the text is an address exactly as it is written canonically (RFC 5952), not IPv4 in IPv6 and no zone."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address.scope_id is not None):
        return False
    return str(address) == text


ADDRESS = Rule(
    "isIP(self) && ip.isCanonical(self)",
    is_address,
    "must be an IP address in its canonical form, for example 127.0.0.1 or ::1 (names are not supported here)",
)

CANONICAL = Rule(
    "isCIDR(self) && string(cidr(self).masked()) == self",
    lambda text: parse(text) is not None,
    "must be a CIDR in its canonical form, host bits zero and lower case, for example 203.0.113.0/24 or 203.0.113.7/32"
    " or 2001:db8::/48 (domain names are not supported here)",
)

NARROW = Rule(
    narrow_cel("self", WIDEST),
    lambda text: narrow(text, WIDEST),
    f"is too wide: IPv4 destinations need at least /{WIDEST[0]} and IPv6 at least /{WIDEST[1]}; name the networks that"
    " the agent really needs",
)

PERMITTED = Rule(
    "!isCIDR(self) || [" + ", ".join(f"'{cidr}'" for cidr, _ in FORBIDDEN) + "].all(n,"
    " !cidr(n).containsIP(cidr(self).ip()) && !cidr(self).containsIP(cidr(n).ip()))",
    _permitted,
    "overlaps addresses that a sandbox may never reach (loopback, link-local, multicast, reserved, or a cloud's"
    " metadata service such as 169.254.169.254): leave it out, or name a network without them",
)


def _distinct(item: str) -> Rule:
    return Rule(
        "self.all(a, self.exists_one(b, a == b))",
        lambda items: len(set(items)) == len(items),
        f"lists {item} twice: write each once",
    )


DISTINCT = _distinct("a network")
DISTINCT_PORTS = _distinct("a port")
DISTINCT_ADDRESSES = _distinct("an address")
