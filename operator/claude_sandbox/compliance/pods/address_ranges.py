"""Sets of IP addresses as sorted ranges of whole numbers. Pure, and near-linear in what is put in.

Both families lie on one line, far apart: an IPv6 address is its own number, an IPv4 address is its number above
`IPV4`. Objects of `ipaddress` would cost a thousand times as much, and rules of NetworkPolicies come in thousands.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

Range = tuple[int, int]
"""The first address and the last one."""

IPV4 = 1 << 129
"""Where IPv4 begins; no range of one family touches one of the other."""

EVERY_ADDRESS: tuple[Range, ...] = ((0, (1 << 128) - 1), (IPV4, IPV4 + (1 << 32) - 1))


@lru_cache(maxsize=4096)
def span(cidr: str) -> Range:
    """The addresses of a network. As for the API server, 010 is ten, and bits beyond the prefix don't matter.

    Raises ValueError for what is no network.
    """
    address, slash, prefix = cidr.partition("/")
    start, bits, number = _number(address)
    length = int(prefix) if slash else bits
    if not 0 <= length <= bits:
        raise ValueError(f"{cidr[:64]!r} is no network")
    size = 1 << (bits - length)
    first = start + (number & -size)
    return first, first + size - 1


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses in the fewest ranges, sorted."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def without(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """The addresses of `ranges` that are not in `taken`. Both as `merged` gives them, and so is the answer."""
    left: list[Range] = []
    at = 0
    for start, last in ranges:
        first = start
        while at < len(taken) and taken[at][1] < first:
            at += 1
        position = at
        while position < len(taken) and taken[position][0] <= last:
            if taken[position][0] > first:
                left.append((first, taken[position][0] - 1))
            first = taken[position][1] + 1
            position += 1
        if first <= last:
            left.append((first, last))
    return left


def covers(ranges: Sequence[Range], wanted: Iterable[Range]) -> bool:
    """Whether every address of `wanted` is in `ranges`, which is as `merged` gives it."""
    starts = [first for first, _ in ranges]
    for first, last in wanted:
        index = bisect_right(starts, first) - 1
        if index < 0 or last > ranges[index][1]:
            return False
    return True


def overlap(ranges: Sequence[Range], others: Sequence[Range]) -> Range | None:
    """The first range of `ranges` that has an address of `others`; both as `merged` gives them."""
    at = 0
    for one in ranges:
        while at < len(others) and others[at][1] < one[0]:
            at += 1
        if at < len(others) and others[at][0] <= one[1]:
            return one
    return None


def written(found: Range) -> str:
    """A range as a network where it is one, else by its first and last address."""
    first, last = found
    family, bits, start = (IPv4Address, 32, IPV4) if first >= IPV4 else (IPv6Address, 128, 0)
    size = last - first + 1
    address = family(first - start)
    if size & (size - 1) == 0 and (first - start) % size == 0:
        return f"{address}/{bits - size.bit_length() + 1}"
    return f"{address}-{family(last - start)}"


def _number(address: str) -> tuple[int, int, int]:
    """Where the family begins, how many bits its addresses have, and which of them it is. Raises ValueError."""
    if ":" in address:
        if "%" in address:
            raise ValueError(f"{address[:64]!r} is no address that is the same everywhere")
        return 0, 128, int(IPv6Address(address))
    octets = [int(octet) for octet in address.split(".")]
    if len(octets) != 4 or not all(0 <= octet < 256 for octet in octets):
        raise ValueError(f"{address[:64]!r} is no address")
    return IPV4, 32, int.from_bytes(bytes(octets))
