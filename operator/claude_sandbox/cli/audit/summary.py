"""Sums over lines of the audit: what was refused and what would allow it, and what models were used. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from claude_sandbox.cli.audit.lines import Line
from claude_sandbox.cli.columns import columns
from claude_sandbox.gateway.destinations.domains import PatternError, parse_pattern

MAX_NAMES = 1000
"""Sandboxes, models and refusals that are told apart; an agent can make up more. Further ones are summed as `other`."""
OTHER = "(other)"


@dataclass
class ModelUsage:
    """Of one model."""

    requests: int = 0
    input: int = 0
    output: int = 0
    cache: int = 0
    cost: Decimal = Decimal(0)
    estimated: int = 0


@dataclass
class Summary:
    """Sums. `refused` by reason and destination (empty for requests to the model)."""

    first: datetime | None = None
    last: datetime | None = None
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    sandboxes: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    models: dict[str, ModelUsage] = field(default_factory=dict)
    up: int = 0
    down: int = 0

    def add(self, line: Line) -> None:
        """Count a line."""
        self.first = min(line.time, self.first or line.time)
        self.last = max(line.time, self.last or line.time)
        verdict = line.text("verdict")
        self.kinds[line.kind, verdict] += 1
        sandbox = line.sandbox or "(not known)"
        self.sandboxes[sandbox if sandbox in self.sandboxes or len(self.sandboxes) < MAX_NAMES else OTHER] += 1
        self.up += line.number("bytesUp")
        self.down += line.number("bytesDown")
        if verdict == "Refused":
            what = (line.text("rule") or "no reason", line.destination)
            self.refused[what if what in self.refused or len(self.refused) < MAX_NAMES else (OTHER, "")] += 1
        if line.text("model") and "costUSD" in line.fields:
            self._add_use(line)

    def _add_use(self, line: Line) -> None:
        model = line.text("model")
        used = self.models.setdefault(
            model if model in self.models or len(self.models) < MAX_NAMES else OTHER, ModelUsage()
        )
        used.requests += 1
        used.input += line.number("inputTokens")
        used.output += line.number("outputTokens")
        used.cache += line.number("cacheWriteTokens") + line.number("cacheReadTokens")
        used.estimated += line.fields.get("estimated") is True
        cost = line.fields["costUSD"]
        if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 < cost < 10**9:
            used.cost += Decimal(str(cost))

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "first": self.first.isoformat() if self.first else None,
            "last": self.last.isoformat() if self.last else None,
            "lines": [{"kind": k, "verdict": v, "count": n} for (k, v), n in sorted(self.kinds.items())],
            "sandboxes": [{"sandbox": one, "count": n} for one, n in self.sandboxes.most_common()],
            "bytesUp": self.up,
            "bytesDown": self.down,
            "refused": [
                {"rule": rule, "destination": to or None, "count": n, "remedy": remedy(rule, to)}
                for (rule, to), n in self.refused.most_common()
            ],
            "models": [
                {"model": name, "requests": one.requests, "inputTokens": one.input, "outputTokens": one.output,
                 "cacheTokens": one.cache, "costUSD": str(one.cost), "estimated": one.estimated}
                for name, one in sorted(self.models.items(), key=lambda item: -item[1].cost)
            ],
        }  # fmt: skip

    def text(self, top: int) -> Iterator[str]:
        """For people; of each kind the `top` most frequent."""
        if self.first is None or self.last is None:
            yield "No line is asked for."
            return
        period = f"{self.first:%Y-%m-%d %H:%M:%S} to {self.last:%Y-%m-%d %H:%M:%S} UTC"
        yield f"{self.kinds.total()} requests and tunnels, {period}; {self.up} bytes up, {self.down} bytes down"
        yield ""
        yield from columns(
            [("KIND", "VERDICT", "COUNT"), *((k, v, str(n)) for (k, v), n in sorted(self.kinds.items()))]
        )
        yield ""
        yield from columns([("SANDBOX", "COUNT"), *((one, str(n)) for one, n in self.sandboxes.most_common(top))])
        if self.models:
            yield ""
            yield from self._models(top)
        if self.refused:
            yield ""
            yield from self._refusals(top)

    def _models(self, top: int) -> Iterator[str]:
        head = ("MODEL", "REQUESTS", "INPUT", "OUTPUT", "CACHE", "USD", "ESTIMATED")
        by_cost = sorted(self.models.items(), key=lambda item: -item[1].cost)
        total = ModelUsage()
        rows = []
        for index, (name, one) in enumerate((*by_cost, ("all", total))):
            if index < len(by_cost):
                for key in vars(total):
                    setattr(total, key, getattr(total, key) + getattr(one, key))
            if index < top or one is total:
                counts = (one.requests, one.input, one.output, one.cache)
                rows.append((name, *map(str, counts), f"{one.cost:.4f}", str(one.estimated)))
        yield from columns([head, *rows])

    def _refusals(self, top: int) -> Iterator[str]:
        rows = [
            (rule, to or "the model", str(count), remedy(rule, to) or "-")
            for (rule, to), count in self.refused.most_common(top)
        ]
        yield from columns([("REFUSED", "DESTINATION", "COUNT", "WHAT WOULD ALLOW IT"), *rows])
        if len(self.refused) > len(rows):
            yield f"… and {len(self.refused) - len(rows)} more kinds: --top {len(self.refused)} shows all"
        yield "The agent chose where it wanted to go: allow what you know, and nothing because it was asked for."


_OF_SERVICES = {
    "service": "spec.services",
    "path": "paths, of this one of spec.services",
    "method": "methods, of this one of spec.services",
}


def remedy(rule: str, destination: str) -> str | None:
    """The line to add to the ClaudeSandbox, or who else can allow it; None where nothing should."""
    if rule == "not in allowedDomains":
        try:
            parse_pattern(destination)
        except PatternError as error:
            return f"nothing: {error}"
        return f'spec.network.egress.allowedDomains: ["{destination}"]'
    if rule.startswith("denied: "):
        return "the administrator's list deniedDomains has it"
    if destination and rule in _OF_SERVICES:
        return _OF_SERVICES[rule]
    return {
        "model": "spec.model.allowed",
        "repository": "spec.repositories",
        "read-only": "push, of this one of spec.repositories",
        "budget": "a higher spec.budget, or a smaller max_tokens",
        "budget held": "to wait until requests under way have ended",
        "identity": None,
    }.get(rule)
