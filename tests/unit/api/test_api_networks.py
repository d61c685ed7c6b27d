"""Which networks may be declared: canonical, narrow enough, and nothing that no agent has business with."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api import networks

canonical = st.one_of(
    st.builds(lambda a, n: ip_network((a, n), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(
        lambda a, n: ip_network((IPv6Address(a), n), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)
    ),
)


@given(canonical)
def test_a_canonical_network_is_read_as_itself(network: networks.Network) -> None:
    mapped = network.version == 6 and network.network_address in ip_network("::ffff:0:0/96")
    assert networks.parse(str(network)) == (None if mapped else network)


@given(canonical, st.data())
def test_a_network_with_host_bits_is_refused(network: networks.Network, data: st.DataObject) -> None:
    size = network.num_addresses
    offset = data.draw(st.integers(0, size - 1))
    text = f"{network.network_address + offset}/{network.prefixlen}"
    assert (networks.parse(text) is None) or offset == 0


@given(st.text(alphabet="0123456789abcdef.:/", max_size=20) | st.text(max_size=20))
def test_what_is_read_is_written_as_it_was(text: str) -> None:
    network = networks.parse(text)
    assert network is None or str(network) == text


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "224.0.0.1", "255.255.255.255", "0.0.0.1", "::1", "::", "fe80::1", "ff02::1", "fd00:ec2::254",
        "fd20:ce::254", "64:ff9b::a9fe:a9fe",
    ],
)  # fmt: skip
@pytest.mark.parametrize("wider_by", [0, 1, 8, 16])
def test_no_network_with_a_forbidden_address_is_permitted(address: str, wider_by: int) -> None:
    bits = 32 if isinstance(ip_address(address), IPv4Address) else 128
    network = ip_network(f"{address}/{bits - wider_by}", strict=False)
    assert not networks.PERMITTED.holds(str(network))


@pytest.mark.parametrize("cidr", networks.ANTHROPIC_CIDRS)
def test_the_default_is_permitted_in_production_too(cidr: str) -> None:
    assert networks.CANONICAL.holds(cidr)
    assert networks.PERMITTED.holds(cidr)
    assert networks.narrow(cidr, networks.WIDEST_IN_PRODUCTION)


@pytest.mark.parametrize(
    ("cidr", "development", "production"),
    [
        ("0.0.0.0/0", False, False),
        ("10.0.0.0/7", False, False),
        ("10.0.0.0/8", True, False),
        ("10.0.0.0/16", True, True),
        ("::/0", False, False),
        ("2000::/15", False, False),
        ("2001::/16", True, False),
        ("2001:db8::/32", True, True),
    ],
)
def test_how_wide_a_network_may_be_depends_on_the_profile(cidr: str, development: bool, production: bool) -> None:
    assert networks.narrow(cidr, networks.WIDEST) is development
    assert networks.narrow(cidr, networks.WIDEST_IN_PRODUCTION) is production
