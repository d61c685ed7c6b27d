"""What Prometheus sees: controller-runtime's conventional metrics, so that existing dashboards fit, and our own."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.metrics.docker_hosts import HostCollector
from claude_sandbox.controller.metrics.sandboxes import SandboxCollector
from claude_sandbox.kubernetes_api.informer import Informer
from claude_sandbox.kubernetes_api.transport import RequestObserver

CONTROLLER = "claudesandbox"

# As client-go and controller-runtime have them.
QUEUE_BUCKETS = tuple(10.0**exponent for exponent in range(-8, 2))
REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0),
    *(40.0, 50.0, 60.0),
)

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

        reconciles = Counter(
            "controller_runtime_reconcile_total", "Reconciles, by result.", ["controller", "result"], registry=registry
        )
        self._results = {
            result: reconciles.labels(CONTROLLER, result) for result in ("success", "error", "requeue", "requeue_after")
        }
        self._errors = Counter(
            "controller_runtime_reconcile_errors_total",
            "Reconciles that failed.",
            ["controller"],
            registry=registry,
        ).labels(CONTROLLER)
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "How long a reconcile takes.",
            ["controller"],
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        ).labels(CONTROLLER)
        self._workers = Gauge(
            "controller_runtime_max_concurrent_reconciles",
            "Reconciles that may run at the same time.",
            ["controller"],
            registry=registry,
        ).labels(CONTROLLER)
        self._active = Gauge(
            "controller_runtime_active_workers",
            "Reconciles that run now.",
            ["controller"],
            registry=registry,
        ).labels(CONTROLLER)
        self._requests = Counter(
            "rest_client_requests_total",
            "HTTP requests to the API server, by status code and method.",
            ["code", "method", "host"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "rest_client_request_duration_seconds",
            "Until the API server began to answer.",
            ["verb", "host"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
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
        self._results[result].inc()
        self._seconds.observe(seconds)
        if result == "error":
            self._errors.inc()

    def requests_to(self, host: str) -> RequestObserver:
        """An observer for an `Api`."""
        known: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

        def observe(method: str, code: str, seconds: float) -> None:
            children = known.get((method, code))
            if children is None:
                counter = self._requests.labels(code, method, host)
                known[method, code] = children = counter, self._request_seconds.labels(method, host)
            children[0].inc()
            children[1].observe(seconds)

        return observe

    def queue_observer(self, name: str = CONTROLLER) -> "QueueMetrics":
        """An observer for a `WorkQueue`, to be given the queue itself by `watch_queue`."""
        return QueueMetrics(name, self.registry)

    def watch_queue(self, queue: WorkQueue[Any], observer: "QueueMetrics", workers: int) -> None:
        """Show the queue's depth and what its workers are at."""
        observer.follow(queue)
        self._workers.set(workers)
        self._active.set_function(lambda: len(queue.in_work()))

    def watch_informers(self, informers: Callable[[], Iterable[Informer]]) -> None:
        """Show what the informers hold and how old it may be."""
        self.registry.register(_InformerCollector(informers))

    def watch_hosts(self) -> None:
        """Show what is known of the Docker hosts."""
        self.registry.register(self.hosts)

    def watch_leading(self, name: str, leading: Callable[[], bool]) -> None:
        """Show whether this replica leads."""
        self._leading.labels(name).set_function(lambda: float(leading()))

    def healed(self, kind: str, reason: str) -> None:
        """An object of a sandbox was put back. Unknown kinds, and more than 16 reasons, are counted as Other."""
        if reason not in self._heal_reasons:
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


class QueueMetrics:
    """workqueue_*: an observer of one queue."""

    def __init__(self, name: str, registry: CollectorRegistry) -> None:
        names = {"name": name, "controller": name}

        def counter(metric: str, text: str) -> Counter:
            return Counter(metric, text, [*names], registry=registry).labels(**names)

        def histogram(metric: str, text: str) -> Histogram:
            return Histogram(metric, text, [*names], buckets=QUEUE_BUCKETS, registry=registry).labels(**names)

        self._registry = registry
        self._names = names
        self._adds = counter("workqueue_adds_total", "Keys that were put in line.")
        self._retries = counter("workqueue_retries_total", "Keys that failed and are tried again.")
        self._waited = histogram("workqueue_queue_duration_seconds", "How long keys waited for a worker.")
        self._worked = histogram("workqueue_work_duration_seconds", "How long keys were worked on.")

    def added(self) -> None:
        """See `queue.Observer`."""
        self._adds.inc()

    def got(self, waited: float) -> None:
        """See `queue.Observer`."""
        self._waited.observe(waited)

    def done(self, worked: float) -> None:
        """See `queue.Observer`."""
        self._worked.observe(worked)

    def retried(self) -> None:
        """See `queue.Observer`."""
        self._retries.inc()

    def follow(self, queue: WorkQueue[Any]) -> None:
        """Show the queue's depth and the time that unfinished work has taken."""

        def ages() -> Mapping[Hashable, float]:
            return queue.in_work()

        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("workqueue_depth", "Keys in line.", lambda: float(len(queue))),
            ("workqueue_unfinished_work_seconds", "Spent so far on keys in work.", lambda: sum(ages().values())),
            (
                "workqueue_longest_running_processor_seconds",
                "Spent so far on the key that has been in work longest.",
                lambda: max(ages().values(), default=0.0),
            ),
        )
        for metric, text, value in gauges:
            gauge = Gauge(metric, text, [*self._names], registry=self._registry)
            gauge.labels(**self._names).set_function(value)


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
