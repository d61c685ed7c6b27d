"""What is said of a destination that can't be connected to: whether it is its own fault, or the machine has no way."""

import asyncio
import errno
import ipaddress
import socket
from typing import Any

import pytest

from claude_sandbox.gateway.broker import upstream
from claude_sandbox.gateway.config.config import Egress, Provider
from claude_sandbox.gateway.proxy.dial import DialError, dial

FOUR, SIX = ipaddress.ip_address("140.82.121.3"), ipaddress.ip_address("2606:4700::1111")


def failing(monkeypatch: pytest.MonkeyPatch, errors: dict[str, int]) -> None:
    """From now on connections to these addresses fail so."""

    async def connect(host: str, *_: Any, **__: Any) -> Any:
        raise OSError(errors[host], "as the kernel says")

    monkeypatch.setattr(asyncio, "open_connection", connect)


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ({SIX: errno.ENETUNREACH}, "the gateway has no way to its addresses, which are of IPv6"),
        ({SIX: errno.EADDRNOTAVAIL}, "the gateway has no way to its addresses, which are of IPv6"),
        ({FOUR: errno.ENETUNREACH}, "the gateway has no way to its addresses, which are of IPv4"),
        ({FOUR: errno.ENETUNREACH, SIX: errno.ENETUNREACH},
         "the gateway has no way to its addresses, which are of IPv4 and IPv6"),
        ({FOUR: errno.ECONNREFUSED, SIX: errno.ENETUNREACH}, "it accepts no connection"),
        ({FOUR: errno.EHOSTUNREACH}, "it accepts no connection"),
    ],
)  # fmt: skip
async def test_that_there_is_no_network_of_a_family_is_told_from_a_server_that_is_down(
    errors: dict[Any, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, {str(address): number for address, number in errors.items()})

    async def resolve(_: str) -> list[Any]:
        return list(errors)

    with pytest.raises(DialError) as found:
        await dial("six.example.org", 443, Egress(), resolve, 5)
    assert (str(found.value), found.value.refused) == (said, False)


async def test_a_kernel_without_ipv6_is_no_reason_to_refuse_a_name_that_has_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, dialled = socket.socket, []

    def without_ipv6(family: int = -1, *more: Any, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *more, **named)

    async def connect(host: str, *_: Any, **__: Any) -> Any:
        dialled.append(host)
        if host == str(SIX):
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return None, None

    async def resolve(_: str) -> list[Any]:
        return [SIX, FOUR]

    monkeypatch.setattr(socket, "socket", without_ipv6)
    monkeypatch.setattr(asyncio, "open_connection", connect)
    found = await dial("both.example.org", 443, Egress(), resolve, 5)
    assert (found.address, dialled) == (str(FOUR), [str(SIX), str(FOUR)])


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENETUNREACH, "no way to an address like its own"), (errno.ECONNREFUSED, "no connection")],
)
async def test_so_it_is_of_the_provider(number: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: Any, **__: Any) -> Any:
        raise OSError(number, "as the kernel says")

    monkeypatch.setattr(upstream, "start_connection", connect)
    ways = upstream.Upstreams()
    with pytest.raises(upstream.UnreachableError) as found:
        async with ways.exchange(Provider(base_url="http://127.0.0.1:1"), upstream.Message("GET", "/", ()), 5):
            pass
    assert said in str(found.value)
    assert ("no way" in str(found.value)) == (number == errno.ENETUNREACH)
