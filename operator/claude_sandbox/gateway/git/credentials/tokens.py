"""The `Authorization` that a repository's server wants; of a GitHub App, tokens that are made for it and renewed.

Theory of operation. Of an App's key and a repository there is one token, in memory alone, which every sandbox that has
both declared is served with: no sandbox ever sees it. It is asked for with the first request that needs it, by one
request while others wait, and anew `_EARLY` seconds before it ends, so that a transfer which begins with it can be
long; where that fails it is used to its end. One that the server refuses is forgotten, but not as soon as it was made;
an API that gave none is not asked again for `_PAUSE` seconds: no sandbox can make the gateway ask without end. A key or
repository that nobody has declared any more is forgotten with its token, which ends by itself within the hour. After a
crash there is nothing.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from claude_sandbox.gateway.config.config import Config
from claude_sandbox.gateway.git.credentials.credential import AppKey, Password
from claude_sandbox.gateway.git.repositories import Opened
from claude_sandbox.gateway.git.upstream import RefusedAddressError, proxy_of

if TYPE_CHECKING:
    # The module itself is for gateways that have the key of an App.
    from claude_sandbox.gateway.git.credentials.github import Token, Wanted

_EARLY = 300.0
_LAST = 30.0
"""Seconds before its end at which a token is not used any more."""
_PAUSE = 10.0
_TIMEOUT = aiohttp.ClientTimeout(total=15.0)


class NoTokenError(Exception):
    """There is no token; the text is shown by git, and has nothing secret in it."""


@dataclass
class _Held:
    """What there is for one key and repository. Times are seconds since the epoch."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: "Token | None" = None
    made: float = 0.0
    problem: str = ""
    not_before: float = 0.0


_Key = tuple[AppKey, str, bool]
"""Whose, for which repository, and whether it may write."""


class AppTokens:
    """For all sandboxes. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        session: Callable[[], aiohttp.ClientSession],
        config: Callable[[], Config],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._config = config
        self._clock = clock
        self._held: dict[_Key, _Held] = {}

    async def authorization(self, opened: Opened) -> str | None:
        """The header's value for this repository, None for one that is public. Raises NoTokenError."""
        if opened.credential is None:
            return None
        if isinstance(opened.credential, Password):
            return opened.credential.header()
        key = _key(opened, opened.credential)
        held = self._held.setdefault(key, _Held())
        async with held.lock:
            now = self._clock()
            # Under the lock: who waited for another's token finds it here.
            if (held.token is None or held.token.ends - _EARLY < now) and held.not_before <= now:
                await self._renew(key, held)
            if held.token is None or held.token.ends - _LAST < now:
                raise NoTokenError(held.problem)
            return Password("x-access-token", held.token.text).header()

    def refused(self, opened: Opened) -> None:
        """The server does not take what it was given: it may have been withdrawn."""
        if isinstance(opened.credential, AppKey):
            held = self._held.get(_key(opened, opened.credential))
            # One that was just made and is refused is not mended by another: the App lacks a right there.
            if held is not None and held.made + _PAUSE < self._clock():
                held.token = None

    def keep(self, declared: Iterable[Opened]) -> None:
        """Forget what is for none of these."""
        keys = {_key(one, one.credential) for one in declared if isinstance(one.credential, AppKey)}
        for key in self._held.keys() - keys:
            del self._held[key]

    async def _renew(self, key: _Key, held: _Held) -> None:
        try:
            held.token = await self._asked(*key)
            held.made, held.problem, held.not_before = self._clock(), "", 0.0
        except NoTokenError as error:
            held.problem, held.not_before = str(error), self._clock() + _PAUSE

    async def _asked(self, app: AppKey, repository: str, write: bool) -> "Token":
        from claude_sandbox.gateway.git.credentials import github

        wanted = github.wanted(repository, app.installation_id, write=write)
        if wanted is None:
            raise NoTokenError("a GitHub App's key is for repositories at https://HOST/OWNER/NAME")
        host = urlsplit(wanted.url).hostname or ""
        if any(pattern.covers(host) for pattern in self._config().egress.denied):
            raise NoTokenError(f"{host} is denied by the administrator of this gateway")
        statement = await asyncio.to_thread(github.statement, app.app_id, app.private_key, self._clock())
        status, body = await self._answer(wanted, statement, github.MOST_ANSWER)
        try:
            return github.read_answer(wanted, status, body)
        except github.AnswerError as error:
            raise NoTokenError(str(error)) from None

    async def _answer(self, wanted: "Wanted", statement: str, most: int) -> tuple[int, bytes]:
        headers = {
            "authorization": f"Bearer {statement}",
            "accept": "application/vnd.github+json",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": "claude-sandbox-gateway",
            "x-github-api-version": "2022-11-28",
        }
        try:
            async with self._session().post(
                wanted.url, data=wanted.body(), headers=headers, allow_redirects=False, timeout=_TIMEOUT,
                proxy=proxy_of(self._config()),
            ) as answer:  # fmt: skip
                body = bytearray()
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > most:
                        raise NoTokenError("GitHub's API answers more than a token")
                return answer.status, bytes(body)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error.__cause__, RefusedAddressError):
                raise NoTokenError(str(error.__cause__)) from None
            raise NoTokenError("GitHub's API can't be reached") from None


def _key(opened: Opened, app: AppKey) -> _Key:
    return app, opened.repository.url, opened.repository.push is not None
