"""Connections to git's servers: to addresses that were judged as those of any destination are.

None is kept: each request's server is judged by what holds then.
"""

import socket
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import StreamReader
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage

from claude_sandbox.gateway.config.config import Config
from claude_sandbox.gateway.http.answer import MAX_INTERIM
from claude_sandbox.gateway.proxy.dial import DialError, Resolve, judged, refuse_own
from claude_sandbox.gateway.trust import Trust, trust_of


class RefusedAddressError(OSError):
    """A server's name leads to an address that is refused."""


class _Judged(AbstractResolver):
    """Gives the addresses of a name, if none of them is refused."""

    def __init__(self, config: Callable[[], Config], resolve: Resolve) -> None:
        self._config = config
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError."""
        egress = self._config().egress
        try:
            addresses = await judged(host, egress, self._resolve)
            refuse_own(addresses, egress)
        except DialError as error:
            raise (RefusedAddressError if error.refused else OSError)(str(error)) from None
        return [
            ResolveResult(
                hostname=host, host=str(one), port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET if one.version == 4 else socket.AF_INET6,
            )
            for one in addresses
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is held."""


class BoundedResponse(aiohttp.ClientResponse):
    """An answer that has to come: not after an endless number of others, which say that it is still to."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Raises ClientResponseError."""
        protocol = connection.protocol
        assert protocol is not None  # noqa: S101
        read, left = protocol.read, MAX_INTERIM + 1

        async def counted() -> tuple[RawResponseMessage, StreamReader]:
            nonlocal left
            left -= 1
            if left < 0:
                raise HttpProcessingError(message="the server goes on saying that the answer is still to come")
            return await read()

        # aiohttp reads over them without end, and waits for the next as long as some come.
        protocol.read = counted  # type: ignore[method-assign]
        return await super().start(connection)


def proxy_of(config: Config) -> str | None:
    """The URL of the company's proxy by which servers are asked; None for none."""
    proxy = config.egress.upstream_proxy
    return None if proxy is None else f"http://{proxy[0]}:{proxy[1]}"


class GitSession:
    """What asks git's servers, made with the first request: most gateways have none. For one event loop.

    There is another one for each trust that the administrator has put in the place of one; what is under way goes on.
    """

    def __init__(self, config: Callable[[], Config], resolve: Resolve) -> None:
        self._config = config
        self._resolve = resolve
        self._made: dict[Trust, aiohttp.ClientSession] = {}

    def __call__(self) -> aiohttp.ClientSession:
        """Trusts the system's certificates, and a company's bundles beside them. Raises OSError where one can't be
        read."""
        trust = trust_of(self._config())
        if trust not in self._made:
            context = trust.context()
            # Nothing is remembered between requests: neither a name's addresses, which are judged each time, nor a
            # connection to what was allowed before.
            options: dict[str, Any] = {"limit": 0, "use_dns_cache": False, "force_close": True, "ssl": context}
            self._made[trust] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_Judged(self._config, self._resolve), **options),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                response_class=BoundedResponse,
                # The end of a connection overtakes what came before it, where that is held up for a slow client (TLS of
                # the event loops): so the server isn't asked to close, and the gateway does when all is read.
                headers={"connection": "keep-alive"},
            )
        return self._made[trust]

    async def close(self) -> None:
        """End what is open."""
        for one in self._made.values():
            await one.close()
