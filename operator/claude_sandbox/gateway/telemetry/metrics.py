"""What Prometheus sees of a gateway, with labels of which there can only be so many, whatever an agent does.

Counted from the very records that become lines of the audit, so the two agree. What an agent chooses is in no label:
a model is the entry of the price table that it falls under, a reason one of those listed here, and a sandbox is not
told apart at all (`/usage` does that).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from claude_sandbox.gateway.audit import Value
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.prices import PriceTable
from claude_sandbox.gateway.proxy.client_hello import Outcome

VERDICTS = ("Allowed", "Refused", "Failed", "Cancelled")
OTHER = "other"
REASONS = frozenset(
    ("allowed", "denied", "not in allowedDomains", "address", "malformed", "identity", "path", "batches", "model",
     "budget", "budget held", "ledger", "rate", "concurrency", "connections", "size", "timeout", "credential",
     "connect", "answer", "broken off", "no longer allowed", "SNIMismatch", "EncryptedClientHello",
     "repository", "read-only", "service", "method", "tunnel", OTHER)
).union(Outcome)  # fmt: skip
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Buckets of the time to the first byte: models take from a fraction of a second to minutes."""
_STATUSES = (400, 401, 402, 403, 404, 413, 429, 529)
"""That are counted one by one; all others by their class, so that no server makes series without end."""
_TOKENS = {"input": "inputTokens", "output": "outputTokens", "cache_write": "cacheWriteTokens",
           "cache_read": "cacheReadTokens"}  # fmt: skip


@dataclass(frozen=True)
class Page:
    """What is answered to a scrape."""

    body: bytes
    content_type: str


class Metrics:
    """All metrics of one gateway, in a registry of their own. `prices`: the table of this moment."""

    def __init__(self, prices: Callable[[], PriceTable], books: Bookkeeper) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._prices = prices
        self.registry = registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        prometheus_client.GCCollector(registry=registry)
        registry.register(_Ledger(books))

        def counter(name: str, text: str, *labels: str) -> _Counts:
            found = _Counts(f"claude_sandbox_gateway_{name}", text, labels)
            registry.register(found)
            return found

        self._requests = counter("requests", "Requests to the model's provider, at their end.", "verdict", "reason")
        self._tunnels = counter(
            "connections", "Tunnels and plain HTTP requests, at their end.", "kind", "verdict", "reason"
        )
        self._tokens = counter("tokens", "Tokens that count, by entry of the price table.", "model", "type")
        self._cost = counter("cost_usd", "What requests cost, by entry of the price table.", "model")
        self._estimated = counter(
            "estimated_requests", "Requests of which the provider did not say all that they used."
        )
        self._refusals = counter("budget_refusals", "Requests that a budget kept from being sent.", "reason")
        self._errors = counter("provider_errors", "Answers of the provider with an error, and none at all.", "status")
        self._bytes = counter("bytes", "Bytes that were passed on.", "door", "direction")
        self._first = Histogram(
            "claude_sandbox_gateway_time_to_first_byte_seconds", "From a request to the first byte of its answer.",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._open = Gauge("claude_sandbox_gateway_open", "What is under way now.", ["door"], registry=registry)

    def opened(self, door: str, count: Callable[[], int]) -> None:
        """Ask this for how many requests or connections are open."""
        self._open.labels(door).set_function(count)

    def observe(self, kind: str, fields: Mapping[str, Value]) -> None:
        """Count what becomes a line of the audit."""
        verdict, why = str(fields.get("verdict")), reason(fields.get("rule"))
        verdict = verdict if verdict in VERDICTS else OTHER
        door = {"request": "broker", "git": "git"}.get(kind, "proxy")
        self._bytes.add(_number(fields, "bytesUp"), door, "up")
        self._bytes.add(_number(fields, "bytesDown"), door, "down")
        if kind != "request":
            self._tunnels.add(1, kind, verdict, why)
            return
        self._requests.add(1, verdict, why)
        if why in ("budget", "budget held", "ledger"):
            self._refusals.add(1, why)
        self._observe_answer(fields, verdict, why)
        if fields.get("costUSD") is not None:
            self._observe_use(fields)

    def _observe_answer(self, fields: Mapping[str, Value], verdict: str, why: str) -> None:
        if fields.get("firstByteMs") is not None:
            self._first.observe(_number(fields, "firstByteMs") / 1000)
        status = fields.get("status")
        if verdict == "Failed":
            self._errors.add(1, "none" if why in ("connect", "answer", "timeout") else why)
        elif verdict == "Allowed" and isinstance(status, int) and status >= 400:
            self._errors.add(1, str(status) if status in _STATUSES else f"{status // 100}xx")

    def _observe_use(self, fields: Mapping[str, Value]) -> None:
        # The table's entry, not the name that was asked for: that an agent chooses, and each would be a series.
        model = self._prices().price(str(fields.get("model"))).model
        for kind, name in _TOKENS.items():
            self._tokens.add(_number(fields, name), model, kind)
        self._cost.add(_number(fields, "costUSD"), model)
        if fields.get("estimated"):
            self._estimated.add(1)

    def page(self, accept: str) -> Page:
        """All of it, in the form that the scraper prefers."""
        encode, content_type = choose_encoder(accept)
        return Page(encode(self.registry), content_type)


class _Counts(Collector):
    """A counter. To the library's own it would take longer to count than to answer."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._named = name, text, labels
        # Without labels it is there from the beginning, as the library's is.
        self._found: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def add(self, amount: float, *labels: str) -> None:
        """Count; labels in their order."""
        self._found[labels] = self._found.get(labels, 0.0) + amount

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._named
        family = CounterMetricFamily(name, text, labels=labels)
        for found, amount in self._found.items():
            family.add_metric(found, amount)
        yield family


class _Ledger(Collector):
    """What the bookkeeper counts itself."""

    def __init__(self, books: Bookkeeper) -> None:
        self._books = books

    def collect(self) -> Iterable[Metric]:
        writes = CounterMetricFamily(
            "claude_sandbox_gateway_account_writes", "Writes of accounts, by outcome.", labels=["outcome"]
        )
        for outcome in ("written", "conflict", "failed"):
            writes.add_metric([outcome], self._books.writes[outcome])
        yield writes
        yield CounterMetricFamily(
            "claude_sandbox_gateway_uncounted_requests", "Requests whose counts were lost, since accounts were away.",
            value=self._books.uncounted,
        )  # fmt: skip


def reason(rule: Value) -> str:
    """The rule without what an agent or an administrator chose; one of REASONS."""
    text = str(rule or "").partition(":")[0]
    if text.startswith("the name leads to an address"):
        return "address"
    return text if text in REASONS else OTHER


def _number(fields: Mapping[str, Value], name: str) -> float:
    found = fields.get(name)
    return found if isinstance(found, int | float) and found > 0 else 0
