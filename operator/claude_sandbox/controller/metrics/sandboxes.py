"""The metrics that are about single sandboxes: read from their statuses when asked, gone when they are."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Status = Mapping[str, Any]

UNKNOWN = "Unknown"
TOKENS = {"inputTokens": "input", "outputTokens": "output", "cacheWriteTokens": "cache_write",
          "cacheReadTokens": "cache_read"}  # fmt: skip
RESULTS = {"pass": "Pass", "fail": "Fail", "unknown": UNKNOWN, "notApplicable": "NotApplicable"}


class _Seen(NamedTuple):
    status: Status
    at: float


class SandboxCollector(Collector):
    """Holds the last status of each sandbox. A status is immutable once it is handed in.

    What was handed in longer than `overdue_after` seconds ago makes nobody compliant any more.
    Handing one in costs next to nothing; what it means is worked out when Prometheus asks.
    """

    def __init__(self, overdue_after: float = math.inf, *, clock: Callable[[], float] = time.time) -> None:
        self._overdue_after = overdue_after
        self._clock = clock
        self._seen: dict[tuple[str, str], _Seen] = {}

    def put(self, namespace: str, name: str, status: Status) -> None:
        """The sandbox was evaluated just now, with this status."""
        self._seen[namespace, name] = _Seen(status, self._clock())

    def remove(self, namespace: str, name: str) -> None:
        """The sandbox is gone, and its series with it."""
        self._seen.pop((namespace, name), None)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, in whatever thread asks."""
        sandboxes = Counter[tuple[str, str, str]]()
        counts = _gauge("controls", "Controls of a sandbox, by result.", "result")
        evaluated = _gauge(
            "compliance_last_evaluated_timestamp_seconds", "When the sandbox's controls were last evaluated."
        )
        results = _gauge(
            "control_result",
            "1 for the present result of a control that does not pass; claudesandbox_controls counts those that do.",
            "control",
            "severity",
            "result",
        )
        quarantined = _gauge(
            "quarantined", "1 for each sandbox in quarantine, by the status of its condition Contained.", "contained"
        )
        stalled = _gauge(
            "stalled", "1 for each sandbox that waits for somebody, by the reason of its condition Stalled.", "reason"
        )
        changed = _gauge(
            "image_change_timestamp_seconds",
            "When spec.updatePolicy last changed the sandbox's image, or tried to: Rolled, RolledBack, NotRolled.",
            "result",
        )
        due = _gauge(
            "due_timestamp_seconds",
            "When something of the sandbox is due, passed or to come: Image, Key, Backup, Exception, Lifetime.",
            "what",
        )
        used = _Used()
        # A copy, in one step: the event loop goes on changing it.
        for (namespace, name), seen in list(self._seen.items()):
            used.add(namespace, name, seen.status.get("usage") or {})
            for what, at in _first_due(seen.status.get("due") or ()).items():
                due.add_metric([namespace, name, what], at)
            conditions = {c["type"]: c["status"] for c in seen.status.get("conditions") or ()}
            # Also of a replica that does not work any more, which nobody else would notice.
            if self._clock() - seen.at > self._overdue_after:
                conditions["Compliant"] = UNKNOWN
            sandboxes[namespace, conditions.get("Ready", UNKNOWN), conditions.get("Compliant", UNKNOWN)] += 1
            if "Contained" in conditions:
                quarantined.add_metric([namespace, name, conditions["Contained"]], 1)
            if why := _stalled(seen.status):
                stalled.add_metric([namespace, name, why], 1)
            if last := (seen.status.get("image") or {}).get("last"):
                at = datetime.fromisoformat(last["at"]).timestamp()
                changed.add_metric([namespace, name, last["result"]], at)
            compliance = seen.status.get("compliance")
            if not compliance:
                continue
            summary = compliance.get("summary") or {}
            for field, result in RESULTS.items():
                counts.add_metric([namespace, name, result], summary.get(field, 0))
            evaluated.add_metric([namespace, name], seen.at)
            for control in compliance.get("controls") or ():
                labels = [namespace, name, control["id"], control["severity"], control["result"]]
                results.add_metric(labels, 1)
        yield from (_totals(sandboxes), counts, evaluated, results, quarantined, stalled, changed, due, *used.metrics())


def _totals(sandboxes: Counter[tuple[str, str, str]]) -> GaugeMetricFamily:
    totals = GaugeMetricFamily(
        "claudesandbox_sandboxes",
        "Sandboxes, by the status of their conditions Ready and Compliant.",
        labels=["namespace", "ready", "compliant"],
    )
    for of, count in sorted(sandboxes.items()):
        totals.add_metric(of, count)
    return totals


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """Of each sandbox."""
    return GaugeMetricFamily(f"claudesandbox_{name}", text, labels=["namespace", "name", *labels])


def _stalled(status: Status) -> str | None:
    """Why it waits for somebody; None where it does not."""
    conditions = status.get("conditions") or ()
    return next((c["reason"] for c in conditions if c["type"] == "Stalled" and c["status"] == "True"), None)


def _first_due(dates: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The earliest date of each kind."""
    found: dict[str, float] = {}
    for one in dates:
        at = datetime.fromisoformat(one["at"]).timestamp()
        found[one["what"]] = min(at, found.get(one["what"], at))
    return found


class _Used:
    """What sandboxes have used, as their statuses say it: at most a minute old."""

    def __init__(self) -> None:
        of = ["namespace", "name"]
        self._cost = GaugeMetricFamily(
            "claudesandbox_usage_cost_usd", "What the sandbox's requests to the model have cost.", labels=of
        )
        self._requests = GaugeMetricFamily(
            "claudesandbox_usage_requests", "Requests to the model that were answered.", labels=of
        )
        self._tokens = GaugeMetricFamily(
            "claudesandbox_usage_tokens", "Tokens that the sandbox has used, by type.", labels=[*of, "type"]
        )
        self._denials = GaugeMetricFamily(
            "claudesandbox_usage_denials",
            "How often the sandbox was not let to a destination or a model that its spec does not have.",
            labels=of,
        )

    def add(self, namespace: str, name: str, usage: Mapping[str, Any]) -> None:
        """One sandbox's."""
        of = [namespace, name]
        if "requests" in usage:
            self._cost.add_metric(of, float(usage.get("costUSD") or 0))
            self._requests.add_metric(of, usage["requests"])
            for field, kind in TOKENS.items():
                self._tokens.add_metric([*of, kind], usage.get(field) or 0)
        if "denials" in usage:
            self._denials.add_metric(of, usage["denials"])

    def metrics(self) -> tuple[Metric, ...]:
        """All of them."""
        return self._cost, self._requests, self._tokens, self._denials
