"""Connections to git's servers: to addresses that were judged as those of any destination are.

None is kept: each request's server is judged by what holds then.
"""

import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from claude_sandbox.gateway.config.config import Config
from claude_sandbox.gateway.proxy.dial import DialError, Resolve, judged, refuse_own


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


def proxy_of(config: Config) -> str | None:
    """The URL of the company's proxy by which servers are asked; None for none."""
    proxy = config.egress.upstream_proxy
    return None if proxy is None else f"http://{proxy[0]}:{proxy[1]}"


class GitSession:
    """What asks git's servers, made with the first request: most gateways have none. For one event loop."""

    def __init__(self, config: Callable[[], Config], resolve: Resolve) -> None:
        self._config = config
        self._resolve = resolve
        self._made: aiohttp.ClientSession | None = None

    def __call__(self) -> aiohttp.ClientSession:
        """Trusts the system's certificates, and a company's bundle beside them. Raises OSError where that can't be
        read."""
        if self._made is None:
            provider = self._config().provider
            context = ssl.create_default_context()
            if provider.ca is not None or provider.bundle is not None:
                context.load_verify_locations(cafile=provider.ca, cadata=provider.bundle)
            options: dict[str, Any] = {"limit": 0, "use_dns_cache": False, "force_close": True, "ssl": context}
            self._made = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_Judged(self._config, self._resolve), **options),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                # The end of a connection overtakes what came before it, where that is held up for a slow client (TLS of
                # the event loops): so the server isn't asked to close, and the gateway does when all is read.
                headers={"connection": "keep-alive"},
            )
        return self._made

    async def close(self) -> None:
        """End what is open."""
        if self._made is not None:
            await self._made.close()
