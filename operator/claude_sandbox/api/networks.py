"""Which destinations may be declared at all."""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from claude_sandbox.api.rules import Rule

# Anthropic's published ranges of api.anthropic.com.
ANTHROPIC_CIDRS = ("160.79.104.0/23", "2607:6bc0::/48")

# The widest prefixes (IPv4, IPv6) that a single entry may have: a tenth of the Internet is no destination.
WIDEST = (8, 16)
WIDEST_IN_PRODUCTION = (16, 32)

# RFC 1918, RFC 6598 (used for pods by some providers), RFC 4193. A sandbox may be let in by the administrator.
PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")

# Addresses that no agent has business with, because of what answers there: ranges of the IANA special-purpose
# registries, and the metadata services of clouds, which hand out credentials of the machine. Ranges that are for
# documentation only answer nowhere and are left out.
_SPECIAL_IPV4 = (
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, with the clouds' metadata service 169.254.169.254"),
    ("100.100.100.200/32", "Alibaba Cloud's metadata service"),
    ("168.63.129.16/32", "Azure's host service"),
    ("192.0.0.0/24", "protocol assignments, with Oracle Cloud's metadata service 192.0.0.192"),
    ("192.88.99.0/24", "relays of 6to4"),
    ("198.18.0.0/15", "benchmarks of networks, used as private addresses by some"),
    ("224.0.0.0/3", "multicast, and reserved with the broadcast address"),
)
_SPECIAL_IPV6 = (
    ("::/64", "unspecified, loopback, and IPv4 in IPv6: compatible, mapped and translated (RFC 4291, RFC 2765)"),
    ("64:ff9b:1::/48", "a network's own NAT64 (RFC 8215)"),
    ("100::/64", "discarded (RFC 6666)"),
    ("2001::/23", "protocol assignments, with Teredo (RFC 4380), which leads to any IPv4 address"),
    ("2002::/16", "6to4 (RFC 3056), which leads to any IPv4 address"),
    ("5f00::/16", "segment routing (RFC 9602)"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local (RFC 3879)"),
    ("ff00::/8", "multicast"),
    ("fd00:42::42/128", "Scaleway's metadata service"),
    ("fd00:c1::a9fe:a9fe/128", "Oracle Cloud's metadata service"),
    ("fd00:ec2::/32", "Amazon EC2's metadata service and resolver"),
    ("fd20:ce::254/128", "Google Cloud's metadata service"),
)


def _by_nat64(cidr: str) -> str:
    """The IPv4 network as NAT64's well-known prefix writes it (RFC 6052, which forbids that for private ones)."""
    network = IPv4Network(cidr)
    first = int(IPv6Address("64:ff9b::")) | int(network.network_address)
    return str(IPv6Network((first, 96 + network.prefixlen)))


FORBIDDEN = (
    *_SPECIAL_IPV4,
    *_SPECIAL_IPV6,
    *((_by_nat64(cidr), f"through NAT64: {what}") for cidr, what in _SPECIAL_IPV4 if cidr != "100.100.100.200/32"),
    *((_by_nat64(cidr), f"through NAT64: the private network {cidr}") for cidr in PRIVATE if ":" not in cidr),
)
NEVER_REACHED = tuple(cidr for cidr, _ in FORBIDDEN)

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
    "overlaps addresses that a sandbox may never reach (loopback, link-local, multicast, reserved, a cloud's metadata"
    " service such as 169.254.169.254, or private ones in the form of IPv4 in IPv6): leave it out, or name a network"
    " without them",
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
