"""Whether what NetworkPolicies allow is within what is declared, and whether it is narrow. Pure, and near-linear."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby, pairwise

from claude_sandbox.api.networks import NEVER_REACHED, PRIVATE
from claude_sandbox.compliance.pods.address_ranges import IPV4, Range, covers, merged, overlap, span, without, written
from claude_sandbox.compliance.pods.policies import LAST_PORT, Allow, AnyPeer, Granted, IPBlock, Peer, PodPeer, Ports

_IPV4_IN_IPV6 = tuple(map(span, ("::/96", "::ffff:0:0/96", "64:ff9b::/96")))
"""Compatible, mapped, and by NAT64's well-known prefix."""
IN_ALL = 4
"""How many times the widest single network all destinations together may be."""


def beyond(granted: Iterable[Granted], declared: Sequence[Allow]) -> tuple[Granted, ...]:
    """Those of `granted` that allow something that `declared`, all of it together, does not."""
    found: list[Granted] = []
    wanted = _Declared(declared)
    # The peers of a rule share its ports: what is declared for these is worked out once for all of them.
    for _, group in groupby(granted, key=lambda one: id(one.allow.ports)):
        rule = list(group)
        known = wanted.peers_for(rule[0].allow.ports)
        found += (one for one in rule if not all(peers.hold(one.allow.peer) for peers in known))
    return tuple(found)


def too_wide(granted: Iterable[Granted], widest: tuple[int, int]) -> str:
    """What is allowed of the Internet that is no destination any more; empty where all is narrow.

    `widest` are the shortest prefixes (IPv4, IPv6) that a network may have. Neither parts nor exceptions make a wide
    network narrow: two of them side by side are seen as one, and so is the sum of many.
    """
    networks = merged(
        part for one in granted if isinstance(one.allow.peer, IPBlock) for part in with_ipv4_in_it(one.allow.peer.span)
    )
    for bits, prefix, mine in ((32, widest[0], _is_ipv4), (128, widest[1], _is_ipv6)):
        largest = 1 << (bits - prefix)
        found = [one for one in networks if mine(one)]
        if wide := next((one for one in found if one[1] - one[0] + 1 >= 2 * largest), None):
            return f"the network {written(wide)} is not narrow"
        if sum(last - first + 1 for first, last in found) > IN_ALL * largest:
            version = "IPv4" if bits == 32 else "IPv6"
            return f"the {version} networks together are more than {IN_ALL} of /{prefix}: that is not narrow"
    return ""


def never_reached(granted: Iterable[Granted], opened: Iterable[str] = ()) -> Iterator[Granted]:
    """Those that allow private networks that are not in `opened`, or what nobody has business with.

    The latter are loopback and link-local addresses, the clouds' metadata services, and other ways to write them.
    """
    private = without(merged(map(span, PRIVATE)), merged(map(span, opened)))
    closed = merged(chain(map(span, NEVER_REACHED), private))
    for one in granted:
        if isinstance(one.allow.peer, IPBlock) and overlap(one.allow.peer.addresses, closed):
            yield one


def is_anyone(peer: Peer) -> bool:
    """Whether it is everyone, or pods by what holds for nearly all of them.

    Namespaces are bounded by a list of values, or by a label that they must have, other than their own name. That
    they lack a label or a value bounds nothing: whoever makes a namespace chooses its labels. Pods of unbounded
    namespaces are bounded by a list of values only.
    """
    match peer:
        case AnyPeer():
            return True
        case IPBlock():
            return False
        case PodPeer():
            return not peer.namespaces.bounds_namespaces() and not peer.pods.lists_values()


@dataclass(frozen=True)
class _Peers:
    """Peers that are declared together."""

    all: tuple[Peer, ...]

    @cached_property
    def everyone(self) -> bool:
        return any(isinstance(one, AnyPeer) for one in self.all)

    @cached_property
    def addresses(self) -> list[Range]:
        return merged(part for one in self.all if isinstance(one, IPBlock) for part in one.addresses)

    @cached_property
    def pods(self) -> tuple[PodPeer, ...]:
        return tuple(one for one in self.all if isinstance(one, PodPeer))

    def hold(self, peer: Peer) -> bool:
        """Whether `peer` is among them, in parts where need be."""
        if self.everyone:
            return True
        match peer:
            case AnyPeer():
                return False
            case IPBlock():
                return covers(self.addresses, peer.addresses)
            case PodPeer():
                return any(peer.namespaces.within(one.namespaces) and peer.pods.within(one.pods) for one in self.pods)


class _Declared:
    """What is declared, cut into pieces of ports for all of which the same peers are declared.

    Worked out once for all rules: these come in thousands, what is declared does not.
    """

    def __init__(self, declared: Sequence[Allow]) -> None:
        self._declared = declared
        self._peers: dict[tuple[int, ...], _Peers] = {}
        self._pieces: dict[str, tuple[list[int], list[tuple[int, ...]]]] = {}
        self._ports = {id(one.ports): one.ports for one in declared}

    def peers_for(self, ports: tuple[Ports, ...] | None) -> list[_Peers]:
        """For each part of `ports` the peers that are declared for all of that part; equal ones once."""
        if ports is None:
            return [self._of(tuple(i for i, one in enumerate(self._declared) if one.ports is None))]
        return [self._of(one) for one in {one for part in set(ports) for one in self._parts(part)}]

    def _of(self, positions: tuple[int, ...]) -> _Peers:
        if positions not in self._peers:
            self._peers[positions] = _Peers(tuple(self._declared[i].peer for i in positions))
        return self._peers[positions]

    def _parts(self, ports: Ports) -> Iterable[tuple[int, ...]]:
        if ports.name:
            return (self._including(ports),)
        edges, pieces = self._cut(ports.protocol)
        return pieces[bisect_right(edges, ports.first) - 1 : bisect_left(edges, ports.last + 1)]

    def _cut(self, protocol: str) -> tuple[list[int], list[tuple[int, ...]]]:
        """Where pieces begin, and which peers are declared for each."""
        if protocol not in self._pieces:
            cuts = {0, LAST_PORT + 1}
            for some in self._ports.values():
                for one in some or ():
                    if one.protocol == protocol and not one.name:
                        cuts |= {one.first, one.last + 1}
            edges = sorted(cuts)
            pieces = [self._including(Ports(protocol, first, end - 1)) for first, end in pairwise(edges)]
            self._pieces[protocol] = edges[:-1], pieces
        return self._pieces[protocol]

    def _including(self, part: Ports) -> tuple[int, ...]:
        including = {key for key, ports in self._ports.items() if _includes(ports, part)}
        return tuple(i for i, one in enumerate(self._declared) if id(one.ports) in including)


def _includes(ports: tuple[Ports, ...] | None, part: Ports) -> bool:
    if ports is None:
        return True
    for one in ports:
        if one.protocol != part.protocol:
            continue
        if one.name == part.name and one.first <= part.first and part.last <= one.last:
            return True
        # Which number a name stands for is the peer's to say.
        if not one.name and (one.first, one.last) == (0, LAST_PORT):
            return True
    return False


def with_ipv4_in_it(found: Range) -> Iterator[Range]:
    """A range, and the IPv4 addresses that it is another way to write, or leads to."""
    yield found
    for begin, end in _IPV4_IN_IPV6:
        first, last = max(found[0], begin), min(found[1], end)
        if first <= last:
            yield IPV4 + first - begin, IPV4 + last - begin


def _is_ipv4(found: Range) -> bool:
    return found[0] >= IPV4


def _is_ipv6(found: Range) -> bool:
    return found[0] < IPV4
