"""A sandbox is no way into the cluster's own network."""

from ipaddress import IPv4Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.blueprint.egress import PRIVATE, blocks, out_of_reach

networks = st.builds(
    lambda address, prefix: IPv4Network((address, prefix), strict=False),
    st.integers(0, 2**32 - 1) | st.sampled_from([int(net[5]) for net in PRIVATE if net.version == 4]),
    st.integers(8, 32),
)


@given(networks, st.lists(networks, max_size=2), st.data())
def test_a_private_address_is_reached_only_where_the_administrator_opened_it(
    asked: IPv4Network, opened: list[IPv4Network], data: st.DataObject
) -> None:
    address = data.draw(st.integers(int(asked[0]), int(asked[-1])).map(lambda number: IPv4Network((number, 32))))
    (block,) = blocks([str(asked)], opened)
    refused = list(out_of_reach([str(asked)], opened))
    reached = not refused and not any(address.subnet_of(IPv4Network(each)) for each in block.excepted)
    if any(asked.subnet_of(each) for each in opened):
        assert reached
    else:
        private = any(address.subnet_of(each) for each in PRIVATE if isinstance(each, IPv4Network))
        assert reached == (not private)


def test_a_network_around_a_private_one_leaves_it_out() -> None:
    (block,) = blocks(["172.0.0.0/8"], [])
    assert block.excepted == ("172.16.0.0/12",)


def test_a_refusal_names_the_network_and_its_position() -> None:
    assert list(out_of_reach(["192.0.2.0/24", "10.96.0.1/32"], [])) == [(1, ip_network("10.0.0.0/8"))]
    assert list(out_of_reach(["10.96.0.1/32"], [ip_network("10.96.0.0/16")])) == []
