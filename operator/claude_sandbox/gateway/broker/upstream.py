"""Connections to the provider, kept for further requests: one pool for each way to it."""

import ssl

import aiohttp

from claude_sandbox.gateway.config.config import Provider

_KEEP = 15.0
"""Seconds that an unused connection is kept: shorter than servers do, so that none is used that they just closed."""


class Upstreams:
    """Makes and keeps the sessions. A changed configuration makes a new one; requests under way keep theirs."""

    def __init__(self) -> None:
        self._sessions: dict[Provider, aiohttp.ClientSession] = {}

    def session(self, provider: Provider) -> aiohttp.ClientSession:
        """The session for this way to the provider. Raises OSError where its CA bundle can't be read."""
        if provider not in self._sessions:
            self._sessions[provider] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=_context(provider), keepalive_timeout=_KEEP),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                trust_env=False,
                read_bufsize=64 * 1024,
            )
        return self._sessions[provider]

    async def close(self) -> None:
        """Close all of them."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def _context(provider: Provider) -> ssl.SSLContext | bool:
    if not provider.base_url.startswith("https:"):
        return True
    return ssl.create_default_context(cafile=provider.ca, cadata=provider.bundle)
