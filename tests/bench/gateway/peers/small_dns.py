"""A name server for the names of a test, over UDP, on loopback."""

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

_A, _AAAA = 1, 28


class _Server(asyncio.DatagramProtocol):
    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._addresses = addresses

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1").lower())
            at += 1 + data[at]
        kind = int.from_bytes(data[at + 1 : at + 3], "big")
        known = self._addresses.get(".".join(labels))
        found = [ipaddress.ip_address(one) for one in known or ()]
        wanted = [one.packed for one in found if kind == (_A if one.version == 4 else _AAAA)]
        # Recursion is available; "no such name" where there is none.
        flags = 0x8580 | (0 if known else 3)
        answers = [struct.pack(">HHHIH", 0xC00C, kind, 1, 1, len(one)) + one for one in wanted]
        head = data[:2] + struct.pack(">HHHHH", flags, 1, len(answers), 0, 0)
        self._transport.sendto(head + data[12 : at + 5] + b"".join(answers), addr)


@contextlib.asynccontextmanager
async def small_dns(addresses: Mapping[str, Sequence[str]]) -> AsyncIterator[int]:
    """Answers for these names and no others; its port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Server(addresses), local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
