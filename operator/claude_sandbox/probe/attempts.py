"""One attempt: a route that is looked up, a connection, a query. Bounded, and without a trace afterwards."""

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.probe.outcomes import (
    Outcome,
    addresses,
    neighbour,
    of_answer,
    of_connect,
    of_lookup,
    of_versions,
    question,
    version_question,
)

LARGEST_ANSWER = 4096
"""Bytes of a resolver's answer."""
DNS_PORT = 53
ARP = Path("/proc/net/arp")
_RESOLVES, _LOOK = 1.0, 0.05
"""Seconds in which whoever is on the link has answered who has an address, and between looks."""


@dataclass(frozen=True)
class Target:
    """What to try. `protocol` is a key of `ATTEMPTS`; `query` the name that a resolver is asked for."""

    name: str
    host: str
    port: int
    protocol: str
    query: str = ""


@dataclass(frozen=True)
class Attempt:
    """What came of it. `error` is the name of the kernel's, empty for none; `milliseconds` how long it took."""

    name: str
    outcome: Outcome
    error: str = ""
    milliseconds: int = 0


def attempt(target: Target, timeout: float) -> Attempt:
    """Try one target, for so many seconds at most. Raises nothing that the network could cause."""
    begun = time.monotonic()
    try:
        outcome, error = _tried(target, timeout)
    except OSError as unforeseen:
        outcome, error = Outcome.FAILED, _name(unforeseen)
    return Attempt(target.name, outcome, error, round((time.monotonic() - begun) * 1000))


def _tried(target: Target, timeout: float) -> tuple[Outcome, str]:
    """A route first: what the kernel itself refuses needs no answer of anybody's, and no other target sends a packet
    that way."""
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as looking:
            looking.connect((target.host, target.port))
    except OSError as error:
        return of_lookup(error.errno or 0), _name(error)
    try:
        return ATTEMPTS[target.protocol](family, target, timeout), ""
    except TimeoutError:
        return Outcome.TIMEOUT, ""
    except OSError as error:
        return of_connect(error.errno or 0), _name(error)


def _route(_family: int, _target: Target, _timeout: float) -> Outcome:
    return Outcome.ROUTED


def _tcp(family: int, target: Target, timeout: float) -> Outcome:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect((target.host, target.port))
    return Outcome.CONNECTED


def _dns(family: int, target: Target, timeout: float) -> Outcome:
    asked = question(target.query)
    with socket.socket(family, socket.SOCK_DGRAM) as resolver:
        resolver.settimeout(timeout)
        resolver.connect((target.host, target.port))
        resolver.send(asked)
        return of_answer(asked, resolver.recv(LARGEST_ANSWER))


def _named(family: int, target: Target, timeout: float) -> Outcome:
    """A connection to what a resolver says that a name is, as a program would make it that knows the name alone.
    `host` is the resolver. A name that it doesn't have is nowhere."""
    asked, ends = question(target.query), time.monotonic() + timeout
    with socket.socket(family, socket.SOCK_DGRAM) as resolver:
        resolver.settimeout(timeout)
        resolver.connect((target.host, DNS_PORT))
        resolver.send(asked)
        try:
            found = addresses(asked, resolver.recv(LARGEST_ANSWER))
        except ValueError:
            return Outcome.FAILED
    if not found:
        return Outcome.UNREACHABLE
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(max(0.01, ends - time.monotonic()))
        connection.connect((found[0], target.port))
    return Outcome.CONNECTED


def _dns_tcp(family: int, target: Target, timeout: float) -> Outcome:
    asked, ends = question(target.query), time.monotonic() + timeout
    with socket.socket(family, socket.SOCK_STREAM) as resolver:
        resolver.settimeout(timeout)
        resolver.connect((target.host, target.port))
        resolver.sendall(struct.pack(">H", len(asked)) + asked)
        answer = b""
        while len(answer) < LARGEST_ANSWER and len(answer) < 2 + _length(answer):
            # Of what is left: a time-out of each part would be one for each byte.
            resolver.settimeout(max(0.01, ends - time.monotonic()))
            part = resolver.recv(LARGEST_ANSWER)
            if not part:
                break
            answer += part
    return of_answer(asked, answer[2:])


def _length(answer: bytes) -> int:
    # Until the length is there one byte more than has come is expected, and so waited for.
    return int(struct.unpack_from(">H", answer)[0]) if len(answer) >= 2 else 1


def _quic(family: int, target: Target, timeout: float) -> Outcome:
    """A packet of a version that nobody speaks: a server answers with those that it does (RFC 9000, 6)."""
    asked = version_question()
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.settimeout(timeout)
        server.connect((target.host, target.port))
        server.send(asked)
        return of_versions(asked, server.recv(LARGEST_ANSWER))


def _icmp(family: int, target: Target, timeout: float) -> Outcome:
    """An echo request, by the kind of socket that takes no right (net.ipv4.ping_group_range)."""
    six = family == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as echo:
        echo.settimeout(timeout)
        echo.connect((target.host, 0))
        # The kernel puts in the identifier and the checksum.
        echo.send(struct.pack(">BBHHH", 128 if six else 8, 0, 0, 0, 1) + b"probe")
        return Outcome.ANSWERED if echo.recv(LARGEST_ANSWER)[:1] == bytes([129 if six else 0]) else Outcome.FAILED


def _link_local(_family: int, target: Target, timeout: float) -> Outcome:
    """A connection to the same host at its link-local address of IPv6, which policies that go by a cluster's addresses
    say nothing of. Who is not on the same link has none here."""
    ends = time.monotonic() + timeout
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        # Whatever becomes of the packet, the kernel asks first who has the address.
        asking.sendto(b"", (target.host, target.port))
    while (found := neighbour(ARP.read_text(), target.host)) is None:
        if time.monotonic() > min(ends, ends - timeout + _RESOLVES):
            return Outcome.NO_ROUTE
        time.sleep(_LOOK)
    there = (found[0], target.port, 0, socket.if_nametoindex(found[1]))
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as looking:
            looking.connect(there)
    except OSError as error:
        return of_lookup(error.errno or 0)
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
        connection.settimeout(max(0.01, ends - time.monotonic()))
        connection.connect(there)
    return Outcome.CONNECTED


ATTEMPTS: dict[str, Callable[[int, Target, float], Outcome]] = {
    "route": _route,
    "tcp": _tcp,
    "dns-udp": _dns,
    "dns-tcp": _dns_tcp,
    "quic": _quic,
    "icmp": _icmp,
    "link-local": _link_local,
    "named": _named,
}


def self_test(timeout: float) -> Attempt:
    """Whether connections can be made at all: to a port of its own. An agent can take all free ports."""
    begun = time.monotonic()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            target = Target("self", "127.0.0.1", listening.getsockname()[1], "tcp")
            return attempt(target, timeout)
    except OSError as error:
        return Attempt("self", Outcome.FAILED, _name(error), round((time.monotonic() - begun) * 1000))


def _name(error: OSError) -> str:
    with contextlib.suppress(KeyError):
        return errno.errorcode[error.errno or 0]
    return type(error).__name__
