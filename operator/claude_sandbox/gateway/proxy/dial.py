"""Resolves a name, judges every answer, and connects to the very address that was judged."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from claude_sandbox.gateway.config.config import Egress
from claude_sandbox.gateway.destinations.addresses import Address, parse_address, refusal_of_any
from claude_sandbox.gateway.http.head import LIMIT, BadRequestError, head_end, split_head
from claude_sandbox.gateway.networks import has_no_network

BUFFER = 64 * 1024
"""Bytes that wait for a slow receiver before its sender is made to wait, for each direction."""
_RESOLVERS = 32
"""Names that are asked for at a time."""

Resolve = Callable[[str], Awaitable[list[Address]]]


class DialError(Exception):
    """The destination can't be had. `refused`: because of its addresses; otherwise it does not answer."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


@dataclass(frozen=True)
class Dialled:
    """A connection, and the address that it leads to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: str


class SystemResolver:
    """Asks the system's resolver, in threads of its own: a server that never answers holds up other names only."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, "resolver")

    async def __call__(self, name: str) -> list[Address]:
        """All addresses of the name. Raises OSError."""
        # With the dot it is a whole name: no search list makes it one of the cluster's.
        ask = partial(socket.getaddrinfo, f"{name}.", None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return list(dict.fromkeys(parse_address(str(one[4][0])) for one in found))


async def dial(name: str, port: int, egress: Egress, resolve: Resolve, seconds: float) -> Dialled:
    """Connect to a normalised name, within so many seconds. Raises DialError."""
    try:
        async with asyncio.timeout(seconds):
            if egress.upstream_proxy is not None:
                return await _through(egress.upstream_proxy, name, port)
            addresses = await judged(name, egress, resolve)
            return await _first(addresses, port, egress)
    except TimeoutError:
        raise DialError("it does not answer in time") from None


async def judged(name: str, egress: Egress, resolve: Resolve) -> list[Address]:
    """The addresses of the name, none of which must not be dialled. Raises DialError."""
    try:
        addresses = list(egress.hosts[name]) if name in egress.hosts else await resolve(name)
    except (OSError, ValueError, UnicodeError):
        raise DialError("the name has no address") from None
    if not addresses:
        raise DialError("the name has no address")
    # One that is refused refuses all: which of them is taken, its owner decides.
    reason = refusal_of_any(addresses, egress.rules)
    if reason:
        raise DialError(f"the name leads to an address that is refused ({reason})", refused=True)
    return addresses


async def _first(addresses: list[Address], port: int, egress: Egress) -> Dialled:
    """A connection to the first of the addresses that accepts one."""
    refuse_own(addresses, egress)
    tried = []
    for address in addresses:
        try:
            # The very address that was judged: asked for once more, the name could have another (DNS rebinding).
            reader, writer = await asyncio.open_connection(str(address), port, limit=BUFFER)
        except OSError as error:
            tried.append(error)
            continue
        return Dialled(reader, writer, str(address))
    if all(map(has_no_network, tried)):
        families = " and ".join(sorted({f"IPv{address.version}" for address in addresses}))
        raise DialError(f"the gateway has no way to its addresses, which are of {families}")
    raise DialError("it accepts no connection")


def refuse_own(addresses: list[Address], egress: Egress) -> None:
    """Raises DialError where one of the addresses is the gateway's own."""
    for address in addresses:
        if not _opened(address, egress) and _is_own(address):
            raise DialError("the name leads to an address that is refused (the gateway's own)", refused=True)


def _opened(address: Address, egress: Egress) -> bool:
    return any(one.version == address.version and address in one for one in egress.rules.opened)


def _is_own(address: Address) -> bool:
    """Whether the address is one of this machine's: then the kernel would take it for both ends. Sends nothing."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        # A kernel that was told to have no IPv6 has no such sockets either.
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            # A datagram socket is connected by looking the route up alone: for an address of one's own, the kernel
            # chooses that address as the source.
            asked.connect((str(address), 9))
            return str(parse_address(str(asked.getsockname()[0]))) == str(address)
    except OSError:
        return False


async def _through(proxy: tuple[str, int], name: str, port: int) -> Dialled:
    """A tunnel through the company's proxy, which resolves the name itself."""
    try:
        reader, writer = await asyncio.open_connection(*proxy, limit=BUFFER)
    except OSError:
        raise DialError("the upstream proxy accepts no connection") from None
    try:
        writer.write(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        line, _ = split_head(head)
        if head_end(head) != len(head) or not line.startswith(("HTTP/1.1 200", "HTTP/1.0 200")):
            raise DialError("the upstream proxy refuses it")
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, BadRequestError):
        writer.transport.abort()
        raise DialError("the upstream proxy does not answer as one") from None
    except BaseException:
        writer.transport.abort()
        raise
    return Dialled(reader, writer, f"{proxy[0]}:{proxy[1]}")


assert LIMIT <= BUFFER  # noqa: S101  # a head has to fit into what a reader holds
