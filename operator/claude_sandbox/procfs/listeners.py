"""What listens in the networks of some processes, as the kernel tells it in /proc/PID/net (proc_net_tcp.txt).

Any user may read that of any process. Who is looked at chooses what is there, and how much: an address may be one that
nobody has, and ports can be had by the thousand. So what listens is told by protocol and port, each once, and of more
than are told some stay; where the kernel's list is too long to be read whole, that is told, and not the beginning.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from claude_sandbox.procfs.sockets import network_of

MOST_LISTENERS = 64
"""That are told; a declaration names fewer."""
MOST_NETWORKS = 16
_LARGEST = 4 << 20
"""Bytes of a list, until its first line that is no listener."""
_PART = 1 << 14
_LISTENS, _UNCONNECTED, _NOBODY = "0A", "07", "0000"
_EPHEMERAL = 32768
"""A port from which on the kernel gives them out by itself (net.ipv4.ip_local_port_range)."""


@dataclass(frozen=True, order=True)
class Listener:
    """`address`: the first of those at which this port of the protocol's takes what comes."""

    protocol: str
    port: int
    address: str


def listeners(processes: Iterable[Path], first: Path | None) -> tuple[Listener, ...]:
    """What listens in all networks of these processes, but for that of `first` and for what only they reach themselves.

    Processes are directories below /proc; who has ended is passed over. Raises ValueError where there is more than can
    be looked at, and OSError where something may not be read, or there is none of which it can be told.
    """
    seen: set[tuple[int, int]] = set()
    host = None if first is None else network_of(first)
    found: dict[tuple[str, int], str] = {}
    for place in (thread for process in processes for thread in _alive(process)):
        own = network_of(place)
        if own is None or own == host or own in seen:
            continue
        if len(seen) == MOST_NETWORKS:
            raise ValueError("more networks than are looked at")
        try:
            told = list(_of_network(place))
        except (FileNotFoundError, ProcessLookupError):
            # Another of the same network, if there is one, tells it.
            continue
        # Only now: of one that ended while it was read, another process of the network tells.
        seen.add(own)
        for one in told:
            key = one.protocol, one.port
            found[key] = min(found.get(key, one.address), one.address)
    if not seen:
        raise FileNotFoundError("no process whose network could be looked at")
    ordered = sorted(Listener(protocol, port, address) for (protocol, port), address in found.items())
    # One more than may be declared: so one of them is not.
    return tuple(ordered[: MOST_LISTENERS + 1])


def _alive(process: Path) -> Iterator[Path]:
    """The process; where its first thread has ended, of which nothing is told then, those of the others."""
    if network_of(process) is not None:
        yield process
        return
    with suppress(FileNotFoundError, ProcessLookupError):
        yield from sorted((process / "task").iterdir())[:MOST_NETWORKS]


def _of_network(place: Path) -> Iterator[Listener]:
    for name in ("tcp", "tcp6", "udp", "udp6"):
        file = place / "net" / name
        # Without IPv6 there is no list of it.
        if name.endswith("6") and not file.exists():
            continue
        protocol = name.removesuffix("6")
        for local, remote, state in _lines(file, only_first=protocol == "tcp"):
            address, _, port = local.rpartition(":")
            number = int(port, 16)
            is_open = state == _LISTENS if protocol == "tcp" else _is_server(remote, state, number)
            if is_open and not _is_own(where := _address(address)):
                yield Listener(protocol, number, str(where))


def _is_server(remote: str, state: str, port: int) -> bool:
    """Whether a socket of UDP takes what comes from anybody, and not only what answers it: who asks has a port that the
    kernel gave."""
    return state == _UNCONNECTED and remote.endswith(f":{_NOBODY}") and 0 < port < _EPHEMERAL


def _lines(file: Path, *, only_first: bool) -> Iterator[tuple[str, str, str]]:
    """Local address, remote address and state of each. `only_first`: until the first that does not listen, since the
    kernel tells of those first that do (tcp_get_idx in net/ipv4/tcp_ipv4.c)."""
    read, rest, is_head = 0, b"", True
    with file.open("rb", buffering=0) as opened:
        while part := opened.read(_PART):
            read += len(part)
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                if is_head:
                    is_head = False
                    continue
                _, local, remote, state, *_ = line.decode("ascii").split()
                if only_first and state != _LISTENS:
                    return
                yield local, remote, state
            # Told as too many: a list that is cut could have its listeners behind the end.
            if read > _LARGEST:
                raise ValueError("more sockets than are looked at")


def _address(digits: str) -> IPv4Address | IPv6Address:
    """Words of 32 bits, each as the machine has it."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    found = ip_address(packed)
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether nobody outside can connect to it."""
    return address.is_loopback
