"""Arithmetic on ranges of addresses, against the standard library's networks."""

from ipaddress import collapse_addresses, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.compliance.pods.address_ranges import (
    EVERY_ADDRESS,
    IPV4,
    covers,
    merged,
    overlap,
    span,
    without,
    written,
)

ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda one: (one[0], one[0] + one[1])), max_size=9
)
ipv4 = st.builds(lambda a, n: ip_network((a, n), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32))
networks = st.one_of(
    ipv4,
    st.builds(
        lambda a, n: ip_network((a.to_bytes(16), n), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)
    ),
)


def _members(some: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in some for number in range(first, last + 1)}


@given(ranges)
def test_merged_ranges_are_the_fewest_of_the_same_members(some: list[tuple[int, int]]) -> None:
    found = merged(some)
    assert _members(found) == _members(some)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))


@given(ranges, ranges)
def test_sets_of_ranges_behave_as_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    mine, theirs = merged(one), merged(other)
    left = without(mine, theirs)
    assert _members(left) == _members(one) - _members(other)
    assert merged(left) == left
    assert covers(theirs, mine) is (_members(one) <= _members(other))
    assert (overlap(mine, theirs) is not None) is bool(_members(one) & _members(other))


@given(networks)
def test_a_network_is_read_and_written_as_itself(network: object) -> None:
    assert written(span(str(network))) == str(network)


@given(st.lists(ipv4, min_size=1, max_size=5))
def test_networks_are_merged_as_the_standard_library_does(some: list[object]) -> None:
    expected = merged(span(str(one)) for one in collapse_addresses(some))  # type: ignore[type-var]
    assert merged(span(str(one)) for one in some) == expected


def test_the_families_don_t_touch() -> None:
    assert merged([span("::/0"), span("0.0.0.0/0")]) == list(EVERY_ADDRESS)
    assert span("0.0.0.0/32") == (IPV4, IPV4)


@pytest.mark.parametrize(
    "text", ["", "x", "10.0.0.0/33", "10.0.0/8", "10.0.0.256/32", "::/129", "fe80::1%eth0/64", "1:2/8"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no |invalid|permitted|At least"):
        span(text)
