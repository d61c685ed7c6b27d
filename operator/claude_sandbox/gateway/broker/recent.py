"""Of each sandbox, how its last requests to the provider went: what conditions of its status can be made of.

Theory of operation. Holds some moments of each sandbox, in memory: its last request, the last that the provider took
with its credential, the last error, in the provider's words, since when the provider has been refusing the credential,
and what the budget said last. A gateway that begins anew knows of none until there is one; of several gateways the
latest moment counts, which is why each has its time.
"""

import re
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, replace

from claude_sandbox.gateway.audit import plain
from claude_sandbox.gateway.broker.exchange import Request
from claude_sandbox.gateway.budget.ledger import Budget

# So many characters in a row, in common with the credential, and the word is hidden.
_WINDOW = 8
_RUN = re.compile(r"[A-Za-z0-9_.*/+=-]{8,}")
_KEY = re.compile(r"sk-[A-Za-z0-9_.*-]{4,}")
HIDDEN = "[credential]"
_REFUSED = (401, 402, 403)
"""Answers of the provider that are about the credential: unknown, not paid for, not for this."""
OVERLOADED = 529
"""The provider answers, and has no room at the moment."""


@dataclass(frozen=True)
class Moment:
    """An answer, or that there was none (`status` None). `at`: seconds since 1970."""

    at: float
    generation: str | None
    status: int | None
    type: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Refusal:
    """The provider refuses a generation of the credential: since when, and the last time."""

    since: float
    last: Moment


@dataclass(frozen=True)
class Recent:
    """Of one sandbox. `admitted`: when its budget let a request through last; `short`: when, and which budget, had
    none left for one last. Seconds since 1970."""

    request: Moment | None = None
    accepted: Moment | None = None
    error: Moment | None = None
    refusal: Refusal | None = None
    admitted: float = 0.0
    short: tuple[float, Budget] | None = None


class RecentRequests:
    """Of all sandboxes. Used from one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._found: dict[str, Recent] = {}

    def of(self, sandbox: str) -> Recent:
        """What is known of this one."""
        return self._found.get(sandbox, Recent())

    def keep(self, sandboxes: Container[str]) -> None:
        """Forget all others."""
        self._found = {key: one for key, one in self._found.items() if key in sandboxes}

    def note(self, request: Request) -> None:
        """A request has ended. One that was not sent tells nothing of the provider."""
        if request.sandbox is None or request.credential is None:
            return
        failed = request.verdict == "Failed"
        if not (request.sent or failed):
            return
        # Where the provider did not answer, the status is what the sandbox was told.
        status = None if failed and request.dialled is None else request.status
        moment = Moment(self._clock(), request.credential.generation, status)
        before = self.of(request.sandbox.uid)
        found = replace(before, request=moment)
        if failed or (status is not None and status >= 400):
            kind, said = request.error()
            said = hide(said, request.credential.text) if said is not None else request.rule
            error = Moment(moment.at, moment.generation, status, plain(kind, 64), plain(said, 300))
            found = replace(found, error=error)
            if status in _REFUSED:
                found = replace(found, refusal=_refusal(before.refusal, error))
        # Of a fault of its own the provider says nothing about the credential.
        if status is not None and status not in _REFUSED and status < 500:
            found = replace(found, accepted=moment, refusal=None)
        self._found[request.sandbox.uid] = found

    def admitted(self, sandbox: str) -> None:
        """Its budget let a request through."""
        self._found[sandbox] = replace(self.of(sandbox), admitted=self._clock())

    def short(self, sandbox: str, budget: Budget) -> None:
        """This budget has too little left for a request, whatever else is under way."""
        self._found[sandbox] = replace(self.of(sandbox), short=(self._clock(), budget))


def _refusal(before: Refusal | None, now: Moment) -> Refusal:
    goes_on = before is not None and before.last.generation == now.generation
    return Refusal(before.since if before is not None and goes_on else now.at, now)


def answers(status: int | None) -> bool:
    """Whether a provider that says this is there, whatever it thinks of the request."""
    return status is not None and (status < 500 or status == OVERLOADED)


def hide(message: str, credential: str) -> str:
    """The message without the credential or a part of it that could help anybody to find it."""

    def hidden(found: re.Match[str]) -> str:
        text = found[0]
        parts = (text[start : start + _WINDOW] for start in range(len(text) - _WINDOW + 1))
        return HIDDEN if any(part in credential for part in parts) else text

    return _KEY.sub(HIDDEN, _RUN.sub(hidden, message))
