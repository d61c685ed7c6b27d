"""What Prometheus sees of the audit trail."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from claude_sandbox.trail.writer import Written


class TrailCollector(Collector):
    """Of one process. `told` is what its writer keeps."""

    def __init__(self, told: Written) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        """At each scrape."""
        told = self._told
        records = CounterMetricFamily(
            "claudesandbox_trail_records", "Records of the audit trail that are on the disk, by kind.", labels=["kind"]
        )
        for kind, count in sorted(dict(told.records).items()):
            records.add_metric([kind], count)
        left_out = CounterMetricFamily(
            "claudesandbox_trail_left_out",
            "Records that were left out: too many of one object (rate), or more than could be written (full).",
            labels=["reason"],
        )
        for reason in ("rate", "full"):
            left_out.add_metric([reason], told.left_out[reason])
        copies = CounterMetricFamily(
            "claudesandbox_trail_not_copied", "Lines that are missing in a copy, by export.", labels=["export"]
        )
        for name, count in sorted(dict(told.not_copied).items()):
            copies.add_metric([name], count)
        unwritable = GaugeMetricFamily("claudesandbox_trail_unwritable", "1 while the audit trail can't be written.")
        unwritable.add_metric([], float(bool(told.problem)))
        damaged = GaugeMetricFamily(
            "claudesandbox_trail_damaged", "1 where the audit trail was not as it was left, when it was opened."
        )
        damaged.add_metric([], float(told.damaged))
        last = GaugeMetricFamily(
            "claudesandbox_trail_last_write_timestamp_seconds", "When the audit trail was written last."
        )
        last.add_metric([], told.last)
        yield from (records, left_out, copies, unwritable, damaged, last)
