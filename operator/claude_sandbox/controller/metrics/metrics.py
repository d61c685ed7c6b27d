"""All that Prometheus sees of one process, put together in a registry."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.metrics.conventional import CONTROLLER, QueueMetrics, ReconcileMetrics, RequestMetrics
from claude_sandbox.controller.metrics.docker_hosts import HostCollector
from claude_sandbox.controller.metrics.evidence import NodeAgentCollector, ReportCollector, ReportsWritten
from claude_sandbox.controller.metrics.sandboxes import SandboxCollector
from claude_sandbox.controller.metrics.trail import TrailCollector
from claude_sandbox.kubernetes_api.informers.informer import Informer
from claude_sandbox.kubernetes_api.transport import RequestObserver
from claude_sandbox.trail.writer import Written

HEALED_KINDS = frozenset(
    {"Pod", "NetworkPolicy", "ServiceAccount", "Service", "Secret", "PersistentVolumeClaim", "ResourceQuota"}
)
OTHER = "Other"
MAX_REASONS = 16


@dataclass(frozen=True)
class Rendered:
    """A page for Prometheus."""

    body: bytes
    content_type: str


class Metrics:
    """All metrics of one process, in a registry of their own.

    `overdue_after`: seconds after which an evaluation of a sandbox counts for nothing.
    """

    def __init__(self, *, version: str = "", overdue_after: float = math.inf) -> None:
        # One more series for each counter and histogram, which nobody asks for.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        prometheus_client.PlatformCollector(registry=registry)
        prometheus_client.GCCollector(registry=registry)
        self.sandboxes = SandboxCollector(overdue_after)
        registry.register(self.sandboxes)
        self.hosts = HostCollector()
        info = Gauge("claudesandbox_info", "The operator that runs; always 1.", ["version"], registry=registry)
        info.labels(version).set(1)

        self._reconciles = ReconcileMetrics(registry)
        self._requests = RequestMetrics(registry)
        self._leading = Gauge(
            "leader_election_master_status", "1 on the replica that leads.", ["name"], registry=registry
        )
        self._heals = Counter(
            "claudesandbox_heals_total",
            "Objects of sandboxes that were put back, by kind and by what was wrong.",
            ["kind", "reason"],
            registry=registry,
        )
        self._heal_reasons: set[str] = set()
        self._events = Counter(
            "claudesandbox_events_dropped_total",
            "Kubernetes Events that were not written, by reason.",
            ["reason"],
            registry=registry,
        )

    def reconciled(self, result: str, seconds: float) -> None:
        """A reconcile ended. Meant as `run_workers`' `on_result`."""
        self._reconciles.ended(result, seconds)

    def requests_to(self, host: str) -> RequestObserver:
        """An observer for an `Api`."""
        return self._requests.to(host)

    def queue_observer(self, name: str = CONTROLLER) -> QueueMetrics:
        """An observer for a `WorkQueue`, to be given the queue itself by `watch_queue`."""
        return QueueMetrics(name, self.registry)

    def watch_queue(self, queue: WorkQueue[Any], observer: QueueMetrics, workers: int) -> None:
        """Show the queue's depth and what its workers are at."""
        observer.follow(queue)
        self._reconciles.follow(queue, workers)

    def watch_informers(self, informers: Callable[[], Iterable[Informer]]) -> None:
        """Show what the informers hold and how old it may be."""
        self.registry.register(_InformerCollector(informers))

    def watch_hosts(self) -> None:
        """Show what is known of the Docker hosts."""
        self.registry.register(self.hosts)

    def watch_trail(self, told: Written) -> None:
        """Show what was written of the audit trail."""
        self.registry.register(TrailCollector(told))

    def watch_reports(self, told: ReportsWritten, missing: Callable[[], int]) -> None:
        """Show what became of the reports that are kept as objects of the cluster."""
        self.registry.register(ReportCollector(told, missing))

    def watch_node_agents(self, silent: Callable[[], Mapping[str, bool]], ends: Callable[[], datetime | None]) -> None:
        """Show on which nodes the agent tells nothing, and when the certificate of all of them ends."""
        self.registry.register(NodeAgentCollector(silent, ends))

    def watch_sessions(self, taken: Callable[[], Mapping[str, int]], most: int, ends: Callable[[], datetime]) -> None:
        """Show how many sessions are open in sandboxes on Docker, by namespace, how many there may be, and when the
        certificate of their port ends."""
        self.registry.register(_SessionCollector(taken, most, ends))

    def watch_certificates(self, ends: Callable[[], Mapping[str, datetime]]) -> None:
        """Show when the certificates of gateways end, by namespace."""
        self.registry.register(_CertificateCollector(ends))

    def watch_leading(self, name: str, leading: Callable[[], bool]) -> None:
        """Show whether this replica leads."""
        self._leading.labels(name).set_function(lambda: float(leading()))

    def healed(self, kind: str, reason: str) -> None:
        """An object of a sandbox was put back. Unknown kinds, and more than 16 reasons, are counted as Other."""
        if reason not in self._heal_reasons:
            # Each reason is a series for ever: Prometheus must not have as many as there are ways to change an object.
            if len(self._heal_reasons) >= MAX_REASONS:
                reason = OTHER
            self._heal_reasons.add(reason)
        self._heals.labels(kind if kind in HEALED_KINDS else OTHER, reason).inc()

    def event_dropped(self, reason: str) -> None:
        """A Kubernetes Event was not written. Meant as the recorder's `on_drop`."""
        self._events.labels(reason).inc()

    def render(self, accept: str = "") -> Rendered:
        """The page, in the format that an Accept header asks for. May run in a thread of its own."""
        encoder, content_type = choose_encoder(accept)
        return Rendered(encoder(self.registry), content_type)


class _SessionCollector(Collector):
    def __init__(self, taken: Callable[[], Mapping[str, int]], most: int, ends: Callable[[], datetime]) -> None:
        self._taken = taken
        self._most = most
        self._ends = ends

    def collect(self) -> Iterator[Metric]:
        found = GaugeMetricFamily(
            "claudesandbox_sessions_open",
            "Sessions that are open in sandboxes on Docker, by the operator's channel.",
            labels=["namespace"],
        )
        for namespace, count in sorted(self._taken().items()):
            found.add_metric([namespace], count)
        yield found
        yield GaugeMetricFamily("claudesandbox_sessions_most", "Sessions that may be open at a time.", value=self._most)
        yield GaugeMetricFamily(
            "claudesandbox_sessions_certificate_end_timestamp_seconds",
            "When the certificate of the port for sessions ends.",
            value=self._ends().timestamp(),
        )


class _CertificateCollector(Collector):
    def __init__(self, ends: Callable[[], Mapping[str, datetime]]) -> None:
        self._ends = ends

    def collect(self) -> Iterator[Metric]:
        found = GaugeMetricFamily(
            "claudesandbox_gateway_certificate_end_timestamp_seconds",
            "When the certificate of a namespace's gateway, or its authority, ends. Renewed 30 days before.",
            labels=["namespace"],
        )
        for namespace, at in sorted(self._ends().items()):
            found.add_metric([namespace], at.timestamp())
        yield found


class _InformerCollector(Collector):
    def __init__(self, informers: Callable[[], Iterable[Informer]]) -> None:
        self._informers = informers

    def collect(self) -> Iterator[Metric]:
        labels = ["resource", "namespace", "selector"]
        objects = GaugeMetricFamily("claudesandbox_watched_objects", "Objects that are known.", labels=labels)
        age = GaugeMetricFamily(
            "claudesandbox_watch_age_seconds",
            "Since the API server last told something. It does so every minute at least.",
            labels=labels,
        )
        readable = GaugeMetricFamily(
            "claudesandbox_watch_readable", "0 where the API server lets us not read the objects.", labels=labels
        )
        for informer in tuple(self._informers()):
            values = [str(informer.resource), informer.namespace or "", informer.selector]
            objects.add_metric(values, len(informer.store))
            age.add_metric(values, informer.age())
            readable.add_metric(values, float(informer.readable))
        yield from (objects, age, readable)
