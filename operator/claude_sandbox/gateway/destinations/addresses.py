"""Addresses that nothing is ever dialled at, or only where the administrator opened their network. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Services of clouds that hand out credentials, at addresses that are partly global ones. Never opened by a network
# that contains them. AWS, Azure, Google, OpenStack (169.254.169.254 and the link-local address of its IPv6 form),
# AWS ECS and EKS, Alibaba, Azure's host, Oracle, AWS IPv6, Google IPv6, Oracle IPv6, Scaleway IPv6.
_METADATA: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "fe80::a9fe:a9fe/128", "100.100.100.200/32",
        "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128",
        "fd00:42::42/128",
    )
)  # fmt: skip
# What `is_global` calls global in one release of Python and not in another, or at all, and nobody has to reach.
_MORE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in ("192.88.99.0/24", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20",
                 "5f00::/16", "fec0::/10", "ff00::/8", "224.0.0.0/4", "240.0.0.0/4")
)  # fmt: skip
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")
# IPv4-translated (SIIT, RFC 2765), and ISATAP's interface identifiers (RFC 5214) with either value of the u bit.
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")
_ISATAP = (0x00005EFE, 0x02005EFE)


@dataclass(frozen=True)
class AddressRules:
    """What the administrator says of addresses: `opened` networks that may be dialled though they are not public,
    `refused` ones that may not though they are (the cluster's pods, services and nodes, the host)."""

    opened: Sequence[Network] = field(default=())
    refused: Sequence[Network] = field(default=())


def parse_address(text: str) -> Address:
    """An address as a resolver gives it, without its zone. Raises ValueError."""
    return ipaddress.ip_address(text.partition("%")[0])


def refusal(address: Address, rules: AddressRules) -> str | None:
    """Why the address must not be dialled, or None where it may.

    IPv4 in IPv6 is judged by the IPv4 address where it is mapped or behind a network's NAT64; in the other forms, which
    nobody needs, it is refused. What serves metadata is refused always; an opened network opens the rest; a refused
    one closes what is public.
    """
    inner = embedded(address)
    # Before what is opened: who opens 169.254.0.0/16 for a printer has not meant this.
    if any(_within(one, _METADATA) for one in (address, *inner)):
        return "metadata service"
    # Those two forms are used in earnest: by a kernel for its own sockets, and by networks of IPv6 alone.
    judged = inner[0] if inner and _means_ipv4(address) else address
    if any(_within(one, rules.refused) for one in (address, judged)):
        return "refused network"
    if inner and judged is address:
        return "IPv4 in IPv6"
    return None if _within(judged, rules.opened) else _not_public(judged)


def refusal_of_any(addresses: Iterable[Address], rules: AddressRules) -> str | None:
    """The first reason against any of the addresses: one bad answer refuses all."""
    for address in addresses:
        reason = refusal(address, rules)
        if reason:
            return reason
    return None


def embedded(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address carries: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    found: list[ipaddress.IPv4Address] = []
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo:
        found.extend(address.teredo)
    if address.sixtofour:
        found.append(address.sixtofour)
    if _is_mapped(address) or address in _TRANSLATED or any(address in network for network in _NAT64):
        found.append(last)
    # :: and ::1 are in that network, and are no IPv4.
    if address in _COMPATIBLE and int(address) > 0xFFFF:
        found.append(last)
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        found.append(last)
    return tuple(found)


def _is_mapped(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _means_ipv4(address: Address) -> bool:
    return _is_mapped(address) or address in _NAT64[0]


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(network.version == address.version and address in network for network in networks)


def _not_public(address: Address) -> str | None:
    kinds = (
        (address.is_loopback, "loopback"),
        (address.is_link_local, "link-local"),
        (address.is_multicast, "multicast"),
        (address.is_unspecified, "unspecified"),
        (address.is_private, "private"),
        (not address.is_global or address.is_reserved or _within(address, _MORE), "not a public address"),
    )
    return next((reason for true, reason in kinds if true), None)
