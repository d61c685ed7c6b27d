"""The metrics that are about single Docker hosts: read from their statuses when asked, gone when they are."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from claude_sandbox.api.quantity import bytes_of, millicores

Status = Mapping[str, Any]

UNKNOWN = "Unknown"


class _Seen(NamedTuple):
    status: Status
    contact: datetime | None


class HostCollector(Collector):
    """Holds the last status of each Docker host, and how often its engine failed. A status is immutable once it is in.

    `now` is the time in seconds since the epoch.
    """

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self._errors: dict[str, Counter[str]] = {}

    def put(self, host: str, status: Status, contact: datetime | None) -> None:
        """The host was looked at just now; its engine last answered at `contact`."""
        self._seen[host] = _Seen(status, contact)

    def remove(self, host: str) -> None:
        """The host is gone, and its series with it."""
        self._seen.pop(host, None)
        self._errors.pop(host, None)

    def failed(self, host: str, status: int) -> None:
        """A call to the host's engine failed, with this HTTP status, or 0 where there was no answer."""
        self._errors.setdefault(host, Counter())[str(status or "none")] += 1

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, in whatever thread asks."""
        # A copy, in one step: the event loop goes on changing it.
        seen = sorted(self._seen.items())
        yield _totals(status for _, (status, _) in seen)
        yield from _rooms(seen)
        conditions = _gauge("condition", "1 for the present status of a condition.", "condition", "status")
        sandboxes = _gauge("sandboxes", "Sandboxes that are placed on the host, or on their way to it.")
        age = _gauge("contact_age_seconds", "Since the host's engine last answered. It is asked every 10 seconds.")
        draining = _gauge("draining_sandboxes", "Sandboxes of a host that is being drained, by fate.", "fate")
        compromised = _gauge("compromised", "1 for a host whose spec.incident says so.")
        due = _gauge("due_timestamp_seconds", "When a certificate is to be exchanged, by the Secret's key.", "name")
        for host, (status, contact) in seen:
            for one in status.get("due") or ():
                due.add_metric([host, one["name"]], datetime.fromisoformat(one["at"]).timestamp())
            for one in status.get("conditions") or ():
                conditions.add_metric([host, one["type"], one["status"]], 1)
            sandboxes.add_metric([host], status.get("sandboxes", 0))
            if status.get("incident"):
                compromised.add_metric([host], 1)
            if contact is not None:
                age.add_metric([host], max(0.0, self._now() - contact.timestamp()))
            if (drain := status.get("drain")) is not None:
                staying = sum(one["count"] for one in drain.get("staying") or ())
                for fate, count in (("moved", drain["moved"]), ("moving", drain["moving"]), ("staying", staying)):
                    draining.add_metric([host, fate], count)
        yield from (conditions, sandboxes, compromised, age, draining, due)
        errors = CounterMetricFamily(
            "claudesandbox_docker_engine_errors",
            "Calls to the host's engine that failed, by HTTP status; none where there was no answer.",
            labels=["host", "code"],
        )
        for host, _ in seen:
            for code, count in sorted(self._errors.get(host, Counter()).copy().items()):
                errors.add_metric([host, code], count)
        yield errors


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"claudesandbox_docker_host_{name}", text, labels=["host", *labels])


def _totals(statuses: Iterator[Status]) -> Metric:
    totals = GaugeMetricFamily(
        "claudesandbox_docker_hosts",
        "Docker hosts, by the status of their conditions Ready and Compliant.",
        labels=["ready", "compliant"],
    )
    counted = Counter[tuple[str, str]]()
    for status in statuses:
        conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
        counted[conditions.get("Ready", UNKNOWN), conditions.get("Compliant", UNKNOWN)] += 1
    for of, count in sorted(counted.items()):
        totals.add_metric(of, count)
    return totals


def _rooms(seen: list[tuple[str, _Seen]]) -> Iterator[Metric]:
    """What is not limited has no series."""
    for field, what in (("capacity", "How much sandboxes may take together"), ("free", "How much of it is left")):
        sandboxes = _gauge(f"{field}_sandboxes", f"{what}: sandboxes.")
        cores = _gauge(f"{field}_cpu_cores", f"{what}: CPU.")
        memory = _gauge(f"{field}_memory_bytes", f"{what}: memory.")
        for host, (status, _) in seen:
            room = status.get(field) or {}
            if "sandboxes" in room:
                sandboxes.add_metric([host], room["sandboxes"])
            if "cpu" in room:
                cores.add_metric([host], _signed(millicores, room["cpu"]) / 1000)
            if "memory" in room:
                memory.add_metric([host], _signed(bytes_of, room["memory"]))
        yield from (sandboxes, cores, memory)


def _signed(parse: Callable[[str], int], amount: str) -> int:
    """An amount of room, which is less than nothing where a limit was lowered."""
    return -parse(amount[1:]) if amount.startswith("-") else parse(amount)
