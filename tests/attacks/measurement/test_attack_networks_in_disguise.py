"""A private address in another form is declared as a destination, and reached through a translator of the network.

`allowedCIDRs` took NAT64 (64:ff9b::/96 and a network's own 64:ff9b:1::/48), 6to4, Teredo and site-local forms of
private and link-local addresses, and 198.18.0.0/15. Closed in the rule of the field, in the models and in the schema
alike (their agreement is tested against an API server, with the values here among others).
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import pytest

from claude_sandbox.api import networks

INSIDE = ["10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.9", "127.0.0.1", "169.254.169.254", "168.63.129.16"]


def _nat64(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))


def _own_nat64(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("64:ff9b:1::")) | int(address))


def _six_to_four(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0x2002 << 112 | int(address) << 80 | 1)


def _teredo(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0x20010000 << 96 | 0x41D3 << 80 | (~int(address) & 0xFFFFFFFF))


def _compatible(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(address))


def _mapped(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0xFFFF << 32 | int(address))


def _translated(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0xFFFF << 48 | int(address))


FORMS = [_nat64, _own_nat64, _six_to_four, _teredo, _compatible, _mapped, _translated]


def _permitted(text: str) -> bool:
    return networks.CANONICAL.holds(text) and networks.PERMITTED.holds(text)


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("prefix", [128, 112, 104, 96])
def test_no_form_of_a_private_address_is_accepted(form: object, inside: str, prefix: int) -> None:
    address = form(IPv4Address(inside))  # type: ignore[operator]
    assert not _permitted(str(IPv6Network((int(address), prefix), strict=False)))


@pytest.mark.parametrize(
    "cidr",
    [
        "fec0::/10", "fec0::1/128", "feff::/16", "198.18.0.0/15", "198.18.0.1/32", "198.19.255.0/24", "198.0.0.0/8",
        "192.0.0.0/24", "192.0.0.170/32", "192.88.99.1/32", "2001::/32", "2001:10::/28", "2002::/16", "100::1/128",
        "64:ff9b::/96", "64:ff9b:1:ffff::/64", "64:ff9b::c612:0/111", "fd00:ec2::23/128", "fd00:ec2:1::/48",
        "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128", "::/96", "::ff00:0:0/88", "5f00::/16", "240.0.0.0/8",
    ],
)  # fmt: skip
def test_no_other_range_of_special_use_is_accepted(cidr: str) -> None:
    assert ip_network(cidr)
    assert not _permitted(cidr)


@pytest.mark.parametrize(
    "cidr",
    ["64:ff9b::a04f:6800/119", "10.1.0.0/16", "100.64.0.0/16", "fd12:3456::/32", "2001:db8::/32", "198.17.0.0/16",
     "198.20.0.0/16", "192.0.1.0/24", "2001:200::/32", "2003::/16", *networks.ANTHROPIC_CIDRS],
)  # fmt: skip
def test_public_addresses_and_those_that_an_administrator_opens_are_accepted(cidr: str) -> None:
    assert _permitted(cidr)


def test_a_private_address_by_nat64_stays_closed_whatever_is_opened() -> None:
    assert not _permitted("64:ff9b::a01:0/112")
    assert _permitted("10.1.0.0/16")
