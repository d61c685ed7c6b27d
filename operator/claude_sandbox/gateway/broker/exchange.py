"""What is known of one request to the provider: what it used in the end, and its line of the audit. No I/O."""

import asyncio
from dataclasses import dataclass, field, replace

from claude_sandbox.gateway.audit import plain, session, whose
from claude_sandbox.gateway.broker.provider import SESSION_HEADER, Route
from claude_sandbox.gateway.broker.usage import StreamMeter, Usage, WholeMeter
from claude_sandbox.gateway.budget.prices import NANO, Bound, PriceTable, Tokens
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.config.follow import Credential
from claude_sandbox.gateway.http.json_scan import Scanned

Headers = list[tuple[str, str]]


@dataclass(eq=False)
class Request:
    """What is known of one request, as it becomes known."""

    id: str
    method: str
    headers: Headers
    by_name: dict[str, str]
    """The headers; of one that is there twice, which none that decides is, the last."""
    sandbox: Sandbox | None = None
    route: Route | None = None
    credential: Credential | None = None
    withdrawn: bool = False
    """That credential was taken away since."""
    body: Scanned = field(default_factory=Scanned)
    size: int | None = None
    """Of the body in bytes, once it was judged."""
    bound: Bound | None = None
    """What was reserved."""
    reserved: bool = False
    sent: bool = False
    asked: float | None = None
    """When it was tried to send it, in seconds of the loop's clock."""
    meter: StreamMeter | WholeMeter | None = None
    verdict: str = "Refused"
    rule: str | None = None
    claimed: str | None = None
    status: int | None = None
    dialled: str | None = None
    up: int = 0
    down: int = 0
    first: float | None = None
    cost: int | None = None
    usage: Usage = field(default_factory=Usage)
    task: asyncio.Task[object] | None = None

    def passed(self, part: bytes, now: float) -> None:
        """A part of the answer goes on to the sandbox, at this time of the loop."""
        if self.first is None:
            self.first = now
        if self.meter is not None:
            self.meter.feed(part)
        self.down += len(part)

    def finalise(self, prices: PriceTable) -> Tokens | None:
        """Work out what it used, and note it; None where that is nothing, since it was not sent or not answered well.

        What was cut off before the provider said what it wrote counts as much as it might have written; what told
        nothing at all, the whole bound.
        """
        self.usage = self.meter.usage() if self.meter is not None else Usage()
        # Refusals cost nothing at the provider.
        if not self.sent or (self.status is not None and self.status >= 400):
            return None
        tokens, told, bound = self.usage.tokens, self.usage.told, None
        if not self.usage.complete:
            bound = self.bound or self._bound(prices)
            # What the input was is told at a stream's beginning, so of that the number counts, and of the output what
            # it might have become.
            tokens = (
                replace(tokens, output=max(tokens.output, bound.output)) if told else Tokens(bound.input, bound.output)
            )
            self.usage = replace(self.usage, tokens=tokens)
        if told or bound is None:
            self.cost = prices.cost(str(self.body.fields.get("model")), tokens, self.body.fields)
        else:
            self.cost = bound.cost
        return tokens

    def _bound(self, prices: PriceTable) -> Bound:
        return prices.bound(self.body, self.size) if self.size is not None else Bound(0, 0, 0)

    def error(self) -> tuple[str | None, str | None]:
        """The type and the message of the provider's error; None where it said none."""
        if self.status is None or self.status < 400 or not isinstance(self.meter, WholeMeter):
            return None, None
        return self.meter.error()

    def line(self, seconds: float, started: float) -> dict[str, str | int | float | bool | None]:
        """The line of the audit: it took so many seconds, and began at this time of the loop."""
        model, tokens = self.body.fields.get("model"), self.usage.tokens
        counted = self.cost is not None
        return {
            **whose(self.sandbox),
            "verdict": self.verdict,
            "rule": self.rule,
            "claimedPod": self.claimed,
            "method": plain(self.method, 16),
            "api": self.route.name if self.route else None,
            "status": self.status,
            "providerError": plain(self.error()[0], 64),
            "dialled": self.dialled,
            "generation": self.credential.generation if self.credential else None,
            "model": plain(model, 100) if isinstance(model, str) else None,
            "inputTokens": tokens.input if counted else None,
            "outputTokens": tokens.output if counted else None,
            "cacheWriteTokens": tokens.cache_write_5m + tokens.cache_write_1h if counted else None,
            "cacheReadTokens": tokens.cache_read if counted else None,
            "costUSD": round((self.cost or 0) / NANO, 9) if counted else None,
            "estimated": True if counted and not self.usage.complete else None,
            "sessionId": session(self.by_name.get(SESSION_HEADER)),
            "bytesUp": self.up,
            "bytesDown": self.down,
            "firstByteMs": round((self.first - started) * 1000) if self.first else None,
            "durationMs": round(seconds * 1000),
        }
