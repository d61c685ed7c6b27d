"""Whether the provider is there at all: found out by asking it, as long as requests have got no answer from it.

Theory of operation. A request that failed, or waits for long, is a *suspicion*; an answer to any request ends all of
them. While there is one, the provider is asked every PROBE_EVERY seconds for its health path, without a credential:
whatever it answers (but for an error of its own, or of a gateway before it), it is there, and the suspicion ends. Where
it does not answer for TOLD_AFTER seconds it is *silent*, and so told of for each sandbox whose requests failed. So it
heals by itself, though no sandbox asks for anything, and a hiccup is nobody's trouble.

Held: since when it is suspected, why, and which sandboxes noticed. One task asks. Used from one event loop; a crash
forgets, and the next request that fails is the next suspicion.
"""

import asyncio
import time
from collections.abc import Callable, Container
from dataclasses import dataclass

from claude_sandbox.gateway.broker.recent import answers
from claude_sandbox.gateway.broker.upstream import Message, MisconfiguredError, UnreachableError, Upstreams
from claude_sandbox.gateway.config.config import Provider
from claude_sandbox.gateway.http.answer import AnswerError

PATH = "/api/hello"
"""What Claude Code itself asks for to find out whether the API is there."""
PROBE_EVERY = 3.0
PATIENCE = 5.0
"""Seconds that the provider has for an answer to a probe."""
TOLD_AFTER = 10.0
"""Seconds of silence after which it is told of."""


@dataclass(frozen=True)
class Silence:
    """The provider does not answer: since when (seconds since 1970), and how."""

    since: float
    why: str


class Reachability:
    """Of the one provider. `provider`: the way to it at this moment."""

    def __init__(
        self, provider: Callable[[], Provider], upstreams: Upstreams, clock: Callable[[], float] = time.time
    ) -> None:
        self._provider = provider
        self._upstreams = upstreams
        self._clock = clock
        self._since: float | None = None
        self._why = ""
        self._noticed: set[str] = set()
        self._suspected = asyncio.Event()

    def failed(self, sandbox: str, seconds: float = 0.0) -> None:
        """A request of this sandbox has had no answer, for so many seconds."""
        began = self._clock() - seconds
        self._since = began if self._since is None else min(began, self._since)
        self._noticed.add(sandbox)
        self._suspected.set()

    def answered(self) -> None:
        """It answers."""
        if self._since is not None:
            self._since, self._why = None, ""
            self._noticed.clear()
            self._suspected.clear()

    def keep(self, sandboxes: Container[str]) -> None:
        """Forget all others."""
        self._noticed = {uid for uid in self._noticed if uid in sandboxes}

    @property
    def noticed(self) -> tuple[str, ...]:
        """The sandboxes whose requests have had no answer."""
        return tuple(self._noticed)

    def silence(self, sandbox: str) -> Silence | None:
        """That the provider is silent, where this sandbox has noticed."""
        if self._since is None or not self._why or sandbox not in self._noticed:
            return None
        return Silence(self._since, self._why) if self._clock() - self._since >= TOLD_AFTER else None

    async def run(self) -> None:
        """Ask, as long as there is a suspicion; until cancelled."""
        while True:
            await self._suspected.wait()
            why = await self._probe()
            # A request was answered while the probe was under way: that says more.
            if self._since is None:
                continue
            if why is None:
                self.answered()
            else:
                self._why = why
                await asyncio.sleep(PROBE_EVERY)

    async def _probe(self) -> str | None:
        """Why it is not there; None where it answers."""
        provider = self._provider()
        try:
            async with (
                asyncio.timeout(PATIENCE),
                self._upstreams.exchange(provider, Message("HEAD", PATH, ()), PATIENCE) as connection,
            ):
                answer = await connection.head()
                return None if answers(answer.status) else f"it answers {answer.status}"
        except TimeoutError:
            return f"no answer within {PATIENCE:.0f} s"
        except UnreachableError as error:
            return str(error)
        except (AnswerError, MisconfiguredError):
            return "no connection"
