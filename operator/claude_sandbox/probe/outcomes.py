"""What an attempt can come to, read from errors of the kernel, tables of routes and messages of DNS. Pure."""

import errno
import secrets
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address


class Outcome(StrEnum):
    """What came of one attempt. What it means is not decided here."""

    CONNECTED = "connected"
    """The other side took the connection."""
    ANSWERED = "answered"
    """A resolver said what a name stands for, or that there is no such name: either it has from somewhere."""
    DECLINED = "declined"
    """A resolver answered that it can't or won't say (SERVFAIL, REFUSED, …)."""
    REFUSED = "refused"
    """Somebody answered that nothing takes connections there, or that they are not allowed."""
    NO_ROUTE = "no-route"
    """The kernel knows no way there, and sent nothing."""
    ROUTED = "routed"
    """The kernel knows a way there. Nothing was sent."""
    UNREACHABLE = "unreachable"
    """Nobody has the address, or somebody on the way said that it can't be reached."""
    TIMEOUT = "timeout"
    """No answer in time."""
    FAILED = "failed"
    """It could not be tried: the error says nothing of the target."""


REACHED = frozenset({Outcome.CONNECTED, Outcome.ANSWERED})


class Code(IntEnum):
    """How a probe in a pod ends. What it means for a sandbox is not decided by it."""

    AS_MEANT = 0
    """All that is allowed was reached, and nothing else."""
    NOT_TRIED = 1
    """Nor is anything said. Python ends so as well, whatever went wrong."""
    REACHED = 10
    """Something was reached that is not allowed."""
    UNCERTAIN = 11
    """Something was not reached that is allowed, or could not be tried; nothing was reached that is not."""


def code_of(came: Iterable[tuple[str, bool]]) -> Code:
    """Of the outcome of each attempt, and whether it was allowed."""
    found = list(came)
    if any(outcome in REACHED and not allowed for outcome, allowed in found):
        return Code.REACHED
    meant = (outcome in REACHED if allowed else outcome != Outcome.FAILED for outcome, allowed in found)
    return Code.AS_MEANT if all(meant) else Code.UNCERTAIN


def ending(network: Code, kernel: Iterable[str], strict: Iterable[str] = ()) -> int:
    """How a probe in a pod ends: as the network's attempts say, and higher where a dangerous call, or one that the
    Strict filter alone refuses, could be made or could not be tried. What came of each is one of `trying.May`."""
    return network + _added(kernel, possible=40, untried=20) + _added(strict, possible=195, untried=60)


def _added(came: Iterable[str], *, possible: int, untried: int) -> int:
    """To the code of what was reached, so that one exit code tells all three; none of these is of a process that a
    signal ended but for a real-time one, which no kubelet sends."""
    found = set(came)
    return possible if "possible" in found else 0 if found <= {"denied"} else untried


_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Of a datagram socket that was only given its peer's address: it sends nothing, so the kernel itself says so. One that
found no free port says EAGAIN."""
_OF_CONNECT = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ETIMEDOUT: Outcome.TIMEOUT,
}
_NOERROR, _NXDOMAIN = 0, 3
"""Codes of answers (RFC 1035, 4.1.1) of a resolver that has looked."""
_HEADER = struct.Struct(">HHHHHH")


def of_lookup(code: int) -> Outcome:
    """What the error means by which a route was not found."""
    return Outcome.NO_ROUTE if code in _NO_ROUTE else Outcome.FAILED


def of_connect(code: int) -> Outcome:
    """What the error means by which a connection did not come about, to where there is a route."""
    return _OF_CONNECT.get(code, Outcome.FAILED)


def question(name: str, identifier: int | None = None) -> bytes:
    """A query for the addresses of a name (RFC 1035, 4.1)."""
    number = secrets.randbelow(1 << 16) if identifier is None else identifier
    labels = b"".join(bytes([len(part)]) + part.encode("ascii") for part in name.rstrip(".").split("."))
    # One question, that the resolver may pass on (RD), for an address of IPv4 (A) of the Internet's class.
    return _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def of_answer(asked: bytes, answer: bytes) -> Outcome:
    """What a resolver's answer means; FAILED for what is no answer to what was asked."""
    if len(answer) < _HEADER.size:
        return Outcome.FAILED
    number, flags, *_ = _HEADER.unpack_from(answer)
    # QR: it is an answer. Anybody on the way may send back what was asked.
    if number != _HEADER.unpack_from(asked)[0] or not flags & 0x8000:
        return Outcome.FAILED
    return Outcome.ANSWERED if flags & 0xF in (_NOERROR, _NXDOMAIN) else Outcome.DECLINED


def addresses(asked: bytes, answer: bytes) -> list[str]:
    """The IPv4 addresses that a resolver says the name has, in their order; none where it is no answer to that.

    Raises ValueError for what is cut off or not understood.
    """
    if of_answer(asked, answer) is not Outcome.ANSWERED:
        return []
    try:
        _, _, questions, answers, *_ = _HEADER.unpack_from(answer)
        place, found = _HEADER.size, []
        for _ in range(questions):
            place = _after_name(answer, place) + 4
        for _ in range(answers):
            place = _after_name(answer, place)
            kind, kin, _, length = struct.unpack_from(">HHIH", answer, place)
            place += 10
            if (kind, kin, length) == (1, 1, 4):
                found.append(str(IPv4Address(answer[place : place + 4])))
            place += length
    except (struct.error, IndexError) as error:
        raise ValueError("the answer is cut off") from error
    return found


def _after_name(message: bytes, place: int) -> int:
    """Where a name ends that begins at `place` (RFC 1035, 4.1.4). None is followed, so there is no end of ends."""
    while (length := message[place]) != 0:
        if length & 0xC0 == 0xC0:
            return place + 2
        place += 1 + length
    return place + 1


def version_question() -> bytes:
    """A first packet of QUIC, of a version that is kept for being unknown, as long as one has to be (RFC 9000, 14.1;
    RFC 8999, 5.1): the two connection identifiers are new."""
    header = bytes([0xC0]) + b"\x1a\x2a\x3a\x4a" + b"\x08" + secrets.token_bytes(8) + b"\x08" + secrets.token_bytes(8)
    return header.ljust(1200, b"\0")


def of_versions(asked: bytes, answer: bytes) -> Outcome:
    """Whether it is what a server of QUIC answers: version 0, and the identifiers the other way round."""
    here, there = asked[5:14], asked[14:23]
    if len(answer) < 27 or not answer[0] & 0x80 or answer[1:5] != bytes(4) or answer[5:23] != there + here:
        return Outcome.FAILED
    return Outcome.ANSWERED


def neighbour(table: str, host: str) -> tuple[str, str] | None:
    """The link-local address of IPv6 that a neighbour makes of its hardware address (RFC 4291, appendix A), and by
    which interface; None of who is none, or hasn't answered.

    `table`: as /proc/net/arp tells it (the kernel's net/ipv4/arp.c). Raises ValueError for what is not understood.
    """
    for line in table.splitlines()[1:]:
        address, kind, flags, hardware, _, interface = line.split()
        if address == host and int(kind, 16) == _ETHERNET and int(flags, 16) & _COMPLETE:
            own = bytes.fromhex(hardware.replace(":", ""))
            identifier = bytes([own[0] ^ 2]) + own[1:3] + b"\xff\xfe" + own[3:]
            return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier)), interface
    return None


def routes(table: str, table6: str) -> Iterator[str]:
    """The networks to which there are routes but by the loopback interface, each as `NETWORK INTERFACE`, or
    `NETWORK INTERFACE ADDRESS` where the way there is by somebody with that address.

    `table`, `table6`: as /proc/net/route and /proc/net/ipv6_route tell them (the kernel's net/ipv4/fib_trie.c,
    net/ipv6/route.c). Raises ValueError for what is not understood.
    """
    yield from sorted({*_routes4(table.splitlines()[1:]), *_routes6(table6.splitlines())})


def _routes4(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        interface, destination, hop, flags, *rest = line.split()
        if int(flags, 16) & _REJECT:
            continue
        # The kernel prints bytes of the network as a number of its own order, which is little-endian on both
        # architectures.
        address, by, mask = (int.from_bytes(bytes.fromhex(one), "little") for one in (destination, hop, rest[3]))
        yield f"{IPv4Network((address, mask.bit_count()))} {interface}{f' {IPv4Address(by)}' if by else ''}"


def _routes6(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        destination, length, _, _, hop, *_, flags, interface = line.split()
        if int(flags, 16) & (_REJECT | _LOCAL) or interface == "lo":
            continue
        by = ip_address(bytes.fromhex(hop))
        network = IPv6Network((ip_address(bytes.fromhex(destination)), int(length, 16)))
        yield f"{network} {interface}{'' if by.is_unspecified else f' {by}'}"


_ETHERNET, _COMPLETE = 0x1, 0x2
"""ARPHRD_ETHER and ATF_COM (the kernel's include/uapi/linux/if_arp.h)."""
_REJECT = 0x0200
"""RTF_REJECT (include/uapi/linux/route.h): nothing goes that way."""
_LOCAL = 0x80000000
"""RTF_LOCAL (include/uapi/linux/ipv6_route.h): an address of its own."""
