"""What Prometheus sees of where evidence comes from and of where it is written to, beside statuses."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass
class ReportsWritten:
    """Of the reports that are kept as objects of the cluster, what became of the writes. Each only grows."""

    written: int = 0
    failed: int = 0
    """The API server took it not, or not now: it is tried again."""
    refused: int = 0
    """Somebody else has an object of the name, which is said once."""


@dataclass(frozen=True, eq=False)
class ReportCollector(Collector):
    """`missing`: how many sandboxes have no report that says what their status says, for what went wrong last."""

    told: ReportsWritten
    missing: Callable[[], int]

    def collect(self) -> Iterator[Metric]:
        """At each scrape."""
        writes = CounterMetricFamily(
            "claudesandbox_report_writes",
            "Writes of sandboxes' reports as objects of the cluster, by what became of them.",
            labels=["result"],
        )
        for result in ("written", "failed", "refused"):
            writes.add_metric([result], getattr(self.told, result))
        yield writes
        yield GaugeMetricFamily(
            "claudesandbox_reports_not_written",
            "Sandboxes whose report could not be written when it was tried last.",
            value=self.missing(),
        )


@dataclass(frozen=True, eq=False)
class NodeAgentCollector(Collector):
    """`silent`: of each node with sandboxes' pods, whether its agent tells nothing. `ends`: when what the agents are
    known by does; None while that is not known."""

    silent: Callable[[], Mapping[str, bool]]
    ends: Callable[[], datetime | None]

    def collect(self) -> Iterator[Metric]:
        """At each scrape."""
        found = GaugeMetricFamily(
            "claudesandbox_node_agent_silent",
            "1 where the agent on a node with sandboxes' pods tells nothing.",
            labels=["node"],
        )
        for node, silent in sorted(self.silent().items()):
            found.add_metric([node], float(silent))
        yield found
        if (ends := self.ends()) is not None:
            yield GaugeMetricFamily(
                "claudesandbox_node_agents_certificate_end_timestamp_seconds",
                "When the certificate of the nodes' agents, or its authority, ends. Renewed 30 days before.",
                value=ends.timestamp(),
            )
