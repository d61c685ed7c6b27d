"""Addresses and ports: clusters side by side never share one, and none is taken from the machine."""

import socket
from ipaddress import IPv4Network, ip_address, ip_network
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.localcluster import network, ports
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.network import SLOTS, Addresses, choose_slot, parse_routes

slots = st.integers(min_value=0, max_value=SLOTS - 1)


@given(slots, slots, st.booleans())
def test_networks_of_two_slots_never_overlap(one: int, other: int, ipv6: bool) -> None:
    both = [Addresses(slot, ipv6) for slot in {one, other}]
    nets = [ip_network(cidr) for addresses in both for cidr in (addresses.link_cidr, addresses.pod_cidr)]
    nets.append(ip_network(both[0].service_cidr))
    assert not any(a.overlaps(b) for index, a in enumerate(nets) for b in nets[index + 1 :])


@given(slots, st.booleans())
def test_both_ends_of_the_link_are_usable_addresses_of_it(slot: int, ipv6: bool) -> None:
    addresses = Addresses(slot, ipv6)
    hosts = list(ip_network(addresses.link_cidr).hosts())
    assert hosts[:2] == [ip_address(addresses.gateway_ip), ip_address(addresses.node_ip)]


@given(slots, st.booleans())
def test_all_addresses_of_a_cluster_are_of_one_family(slot: int, ipv6: bool) -> None:
    addresses = Addresses(slot, ipv6)
    networks = [ip_network(cidr) for cidr in (addresses.link_cidr, addresses.pod_cidr, addresses.service_cidr)]
    assert {one.version for one in networks} == {6 if ipv6 else 4}
    for service in (addresses.kubernetes_ip, addresses.cluster_dns_ip):
        assert ip_address(service) in networks[-1]
    assert urlsplit(f"https://{network.at(addresses.node_ip, 443)}").hostname == addresses.node_ip


@given(st.text(min_size=1), st.frozensets(slots, max_size=SLOTS - 1))
def test_a_slot_that_is_taken_is_never_chosen(name: str, taken: frozenset[int]) -> None:
    assert choose_slot(name, taken, ()) not in taken


def test_the_same_name_gets_the_same_slot_where_it_can() -> None:
    assert choose_slot("alice", frozenset(), ()) == choose_slot("alice", frozenset(), ())


@given(slots)
def test_a_network_the_machine_routes_elsewhere_is_left_alone(slot: int) -> None:
    route = IPv4Network(Addresses(slot).pod_cidr)
    assert choose_slot("alice", frozenset(), (route,)) != slot


def test_a_vpn_over_everything_is_an_error_with_a_remedy() -> None:
    with pytest.raises(LocalClusterError) as caught:
        choose_slot("alice", frozenset(), (IPv4Network("10.0.0.0/8"),))
    assert "ip route" in caught.value.remedy


def test_the_default_route_covers_everything_and_is_not_counted() -> None:
    table = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert parse_routes(table) == (IPv4Network("172.17.0.0/16"), IPv4Network("192.0.2.0/24"))


def test_this_machines_routes_can_be_read() -> None:
    # The kernel's own words for them, whatever they are here.
    assert all(isinstance(route, IPv4Network) for route in network.machine_routes())


def test_allocated_ports_are_free_distinct_and_not_taken_by_others() -> None:
    first = ports.allocate("alice", ("a", "b", "c"), taken=())
    second = ports.allocate("alice", ("a", "b", "c"), taken=frozenset(first.values()))
    everything = [*first.values(), *second.values()]
    assert len(set(everything)) == len(everything)
    assert all(ports.FIRST <= port < ports.LAST for port in everything)


def test_a_port_in_use_is_not_allocated() -> None:
    wanted = ports.allocate("alice", ("a",), taken=())["a"]
    with socket.socket() as server:
        server.bind(("127.0.0.1", wanted))
        server.listen()
        assert ports.allocate("alice", ("a",), taken=())["a"] != wanted


def test_asking_for_a_port_in_use_names_it_and_the_way_to_its_owner() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(LocalClusterError) as caught:
            ports.require_free(port)
    assert str(port) in caught.value.message
    assert "--port" in caught.value.remedy
    ports.require_free(port)
