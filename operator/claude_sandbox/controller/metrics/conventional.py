"""client-go's and controller-runtime's conventional metrics, by their names and buckets, so that dashboards fit."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from claude_sandbox.controller.machinery.queue import WorkQueue
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


class ReconcileMetrics:
    """controller_runtime_*: the reconciles of one controller."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(metric: str, text: str) -> Gauge:
            return Gauge(metric, text, ["controller"], registry=registry).labels(CONTROLLER)

        results = Counter(
            "controller_runtime_reconcile_total", "Reconciles, by result.", ["controller", "result"], registry=registry
        )
        # Each from the beginning: a series that appears with its first error is none that a rate can be taken of.
        self._results = {
            result: results.labels(CONTROLLER, result) for result in ("success", "error", "requeue", "requeue_after")
        }
        self._errors = Counter(
            "controller_runtime_reconcile_errors_total", "Reconciles that failed.", ["controller"], registry=registry
        ).labels(CONTROLLER)
        self._seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "How long a reconcile takes.",
            ["controller"],
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        ).labels(CONTROLLER)
        self._workers = gauge(
            "controller_runtime_max_concurrent_reconciles", "Reconciles that may run at the same time."
        )
        self._active = gauge("controller_runtime_active_workers", "Reconciles that run now.")

    def ended(self, result: str, seconds: float) -> None:
        """A reconcile ended, with one of the results of `workers.OnResult`."""
        self._results[result].inc()
        self._seconds.observe(seconds)
        if result == "error":
            self._errors.inc()

    def follow(self, queue: WorkQueue[Any], workers: int) -> None:
        """Show how many reconciles may run, and how many do."""
        self._workers.set(workers)
        self._active.set_function(lambda: len(queue.in_work()))


class RequestMetrics:
    """rest_client_*: the requests to API servers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "rest_client_requests_total",
            "HTTP requests to the API server, by status code and method.",
            ["code", "method", "host"],
            registry=registry,
        )
        self._seconds = Histogram(
            "rest_client_request_duration_seconds",
            "Until the API server began to answer.",
            ["verb", "host"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )

    def to(self, host: str) -> RequestObserver:
        """An observer of the requests to one."""
        known: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

        def observe(method: str, code: str, seconds: float) -> None:
            children = known.get((method, code))
            if children is None:
                counter = self._requests.labels(code, method, host)
                known[method, code] = children = counter, self._seconds.labels(method, host)
            children[0].inc()
            children[1].observe(seconds)

        return observe


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
