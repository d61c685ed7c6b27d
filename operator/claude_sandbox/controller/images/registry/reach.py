"""Requests to registries, and to where a registry's answers lead: no further than an administrator lets it.

Theory of operation. Holds two pools of connections. The registry that a policy names, and the hosts that the policy
says it leads to, are reached wherever they are. Every other host is named by an answer alone (a redirect, or where
tokens are had), so it is reached only at public addresses: those are looked at where the connection is made, so that no
name can be one address when it is judged and another when it is used. Each request reads so many bytes and takes so
long at most; nothing is unpacked. A crash leaves nothing.
"""

import functools
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from claude_sandbox.backends.docker.engine.connection.client_credentials import RegistryLogin
from claude_sandbox.gateway.destinations.addresses import AddressRules, parse_address, refusal

LARGEST = 4 << 20
"""Bytes of a manifest, as the specification bounds it; a statement or a bundle is far smaller."""
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HOPS = 3
_NOTHING_OPENED = AddressRules()


class RegistryError(Exception):
    """The registry can't be asked, or its answer is none; the message says how, in a clause."""


class UnusableError(RegistryError):
    """It answers, and what it gives is not what was asked for."""


@dataclass(frozen=True)
class Way:
    """How a registry may be asked. `authorities`: certificates in PEM that are believed besides the public ones.

    `leads_to`: hosts that its answers may lead to, wherever they are.
    """

    plain_http: bool = False
    login: RegistryLogin | None = None
    authorities: str = ""
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """An answer. `challenges`: what it says of how to log in."""

    status: int
    challenges: tuple[str, ...]
    body: bytes


class Reach:
    """Made on the event loop that it is used on."""

    def __init__(self) -> None:
        # Nothing is unpacked: a few kilobytes could become gigabytes.
        self._named = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        connector = aiohttp.TCPConnector(resolver=_PublicResolver())
        self._public = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False, connector=connector)

    async def close(self) -> None:
        """End all connections."""
        await self._named.close()
        await self._public.close()

    async def get(self, url: str, headers: Mapping[str, str], way: Way, registry: str) -> Said:
        """What a URL gives, on behalf of a registry (its host and port). Raises RegistryError."""
        first = urlsplit(url)
        for _ in range(_HOPS + 1):
            here = urlsplit(url)
            same = (here.scheme, here.netloc) == (first.scheme, first.netloc)
            # By scheme, host and port: a login is for this server, and not for where that leads.
            sent = headers if same else {name: value for name, value in headers.items() if name != "Authorization"}
            said, leads = await self._one(url, sent, way, registry)
            if leads is None:
                return said
            url = urljoin(url, leads)
        raise UnusableError(f"{registry} leads from one place to the next")

    async def _one(self, url: str, headers: Mapping[str, str], way: Way, registry: str) -> tuple[Said, str | None]:
        session, believed = self._for(url, way, registry)
        asked = {**headers, "Accept-Encoding": "identity"}
        try:
            async with session.get(url, headers=asked, allow_redirects=False, ssl=believed) as answer:
                leads = answer.headers.get("Location") if answer.status in _REDIRECTS else None
                body = b""
                # Piece by piece: what a header says of the length is the server's word.
                async for chunk in answer.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > LARGEST:
                        raise UnusableError(f"{registry} gives more than {LARGEST >> 20} MiB")
                return Said(answer.status, tuple(answer.headers.getall("WWW-Authenticate", ())), body), leads
        except _NotPublicError:
            raise _not_public(registry) from None
        except aiohttp.ClientConnectorCertificateError:
            raise RegistryError(
                f"nobody who is believed has signed the certificate of {urlsplit(url).netloc}"
            ) from None
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp wraps what its resolver raises.
            if isinstance(error.__cause__, _NotPublicError):
                raise _not_public(registry) from None
            raise RegistryError(f"{registry} does not answer ({type(error).__name__})") from None

    def _for(self, url: str, way: Way, registry: str) -> tuple[aiohttp.ClientSession, ssl.SSLContext | bool]:
        try:
            here = urlsplit(url)
            host, netloc = here.hostname or "", here.netloc
            named = netloc == registry or netloc in way.leads_to
        except ValueError:
            raise UnusableError(f"{registry} leads to what is no address") from None
        if here.scheme != "https" and not (here.scheme == "http" and way.plain_http and named):
            raise UnusableError(f"{registry} leads to where there is no TLS")
        if named:
            return self._named, _context(way.authorities) if way.authorities else True
        # The resolver is not asked for what is an address already.
        if not _is_public(host, unless_name=True):
            raise _not_public(registry)
        return self._public, True


class _NotPublicError(OSError):
    """The host has an address that is not public."""


class _PublicResolver(AbstractResolver):
    """Gives a host's addresses, if all of them are public."""

    def __init__(self) -> None:
        self._all = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As aiohttp asks for it. Raises OSError."""
        found = await self._all.resolve(host, port, family)
        # All of them: which one is connected to is not decided here.
        if not all(_is_public(one["host"]) for one in found):
            raise _NotPublicError(f"{host} is not public")
        return found

    async def close(self) -> None:
        """Nothing is open."""


def _is_public(host: str, *, unless_name: bool = False) -> bool:
    """Whether it is a public address; of a name, what it is told."""
    try:
        address = parse_address(host)
    except ValueError:
        return unless_name
    # As gateways judge it: behind a network's NAT64, too, an address is what the one of IPv4 inside is.
    return refusal(address, _NOTHING_OPENED) is None


def _not_public(registry: str) -> UnusableError:
    return UnusableError(
        f"{registry} leads to an address that is not public, of a host that spec.registries[].leadsTo does not name"
    )


@functools.lru_cache(maxsize=64)
def _context(authorities: str) -> ssl.SSLContext:
    """Raises ValueError for what are no certificates."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cadata=authorities)
    except ssl.SSLError:
        raise ValueError("no certificates") from None
    return context
