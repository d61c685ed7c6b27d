"""What Prometheus reads, as its own parser understands it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from virtual_clock import run

from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.machinery.workers import Result, run_workers
from claude_sandbox.controller.metrics.evidence import ReportsWritten
from claude_sandbox.controller.metrics.metrics import Metrics
from claude_sandbox.controller.metrics.sandboxes import SandboxCollector
from claude_sandbox.controller.sessions.places import Places

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def read(metrics: Metrics) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(metrics.render().body.decode()):
        assert family.documentation, f"{family.name} has no help text"
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), "a series twice"
            found[sample.name][labels] = sample.value
    return found


def status(ready: str = "True", compliant: str = "True", **results: str) -> dict[str, Any]:
    controls = [
        {"id": control.replace("_", "-"), "severity": "High", "result": result, "title": "t", "required": True}
        for control, result in results.items()
    ]
    counted = [c["result"] for c in controls]
    return {
        "conditions": [{"type": "Ready", "status": ready}, {"type": "Compliant", "status": compliant}],
        "compliance": {
            "summary": {
                "pass": counted.count("Pass"),
                "fail": counted.count("Fail"),
                "unknown": counted.count("Unknown"),
                "notApplicable": 0,
                "required": "1/2",
            },
            "passed": [{"source": "LiveObject", "controls": [c["id"] for c in controls if c["result"] == "Pass"]}],
            "controls": [c for c in controls if c["result"] != "Pass"],
        },
    }


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


def test_open_sessions_are_counted_by_namespace() -> None:
    metrics, places = Metrics(), Places(most=9)
    metrics.watch_sessions(lambda: places.taken, places.most, lambda: datetime(2027, 1, 1, tzinfo=UTC))
    with places.of("a"), places.of("a"), places.of("b"):
        found = read(metrics)
    assert found["claudesandbox_sessions_open"] == {labels(namespace="a"): 2, labels(namespace="b"): 1}
    assert found["claudesandbox_sessions_most"] == {(): 9}
    # A namespace without any is no series.
    assert "claudesandbox_sessions_open" not in read(metrics)


def test_the_conventional_metrics_are_there_under_their_names() -> None:
    async def main() -> Samples:
        metrics = Metrics(version="1.2.3")
        observer = metrics.queue_observer()
        queue: WorkQueue[str] = WorkQueue(observer=observer)
        metrics.watch_queue(queue, observer, workers=4)
        metrics.watch_leading("operator", lambda: True)
        metrics.requests_to("10.0.0.1:443")("PATCH", "200", 0.01)
        runs = 0

        async def reconcile(_: str) -> Result | None:
            nonlocal runs
            runs += 1
            this = runs
            await asyncio.sleep(0.2)
            if this == 1:
                raise ValueError("once")
            if this == 2:
                return Result(requeue_after=5)
            queue.shutdown()
            return None

        queue.add("a")
        workers = asyncio.create_task(run_workers(queue, 4, reconcile, metrics.reconciled))
        await asyncio.sleep(0.1)
        queue.add("b")
        meanwhile = read(metrics)
        assert meanwhile["controller_runtime_active_workers"][labels(controller="claudesandbox")] == 1
        names = labels(name="claudesandbox", controller="claudesandbox")
        assert meanwhile["workqueue_depth"][names] == 1
        assert meanwhile["workqueue_longest_running_processor_seconds"][names] == pytest.approx(0.1)
        await workers
        return read(metrics)

    found = run(main())
    ours = labels(controller="claudesandbox")
    names = labels(name="claudesandbox", controller="claudesandbox")
    results = {
        result: found["controller_runtime_reconcile_total"][labels(controller="claudesandbox", result=result)]
        for result in ("success", "error", "requeue_after", "requeue")
    }
    assert results == {"success": 1, "error": 1, "requeue_after": 1, "requeue": 0}
    assert found["controller_runtime_reconcile_errors_total"][ours] == 1
    assert found["controller_runtime_reconcile_time_seconds_sum"][ours] == pytest.approx(0.6)
    assert found["controller_runtime_max_concurrent_reconciles"][ours] == 4
    assert found["controller_runtime_active_workers"][ours] == 0
    assert found["workqueue_adds_total"][names] == 3
    assert found["workqueue_retries_total"][names] == 1
    assert found["workqueue_work_duration_seconds_count"][names] == 3
    assert found["workqueue_queue_duration_seconds_count"][names] == 3
    assert found["workqueue_unfinished_work_seconds"][names] == 0
    request = labels(code="200", method="PATCH", host="10.0.0.1:443")
    assert found["rest_client_requests_total"][request] == 1
    assert found["rest_client_request_duration_seconds_count"][labels(verb="PATCH", host="10.0.0.1:443")] == 1
    assert found["leader_election_master_status"][labels(name="operator")] == 1
    assert found["claudesandbox_info"][labels(version="1.2.3")] == 1
    assert found["process_resident_memory_bytes"][()] > 0
    assert "python_gc_collections_total" in found


def test_each_sandbox_is_shown_and_only_what_does_not_pass_one_by_one() -> None:
    metrics = Metrics()
    metrics.sandboxes.put("agents", "alice", status(PRIV_01="Pass", PRIV_02="Fail", NET_01="Unknown"))
    metrics.sandboxes.put("agents", "bob", status(PRIV_01="Pass"))
    metrics.sandboxes.put("agents", "new", {"observedGeneration": -1})
    found = read(metrics)
    assert found["claudesandbox_control_result"] == {
        labels(namespace="agents", name="alice", control="PRIV-02", severity="High", result="Fail"): 1,
        labels(namespace="agents", name="alice", control="NET-01", severity="High", result="Unknown"): 1,
    }
    assert found["claudesandbox_controls"][labels(namespace="agents", name="alice", result="Fail")] == 1
    assert found["claudesandbox_controls"][labels(namespace="agents", name="bob", result="Pass")] == 1
    assert found["claudesandbox_sandboxes"] == {
        labels(namespace="agents", ready="True", compliant="True"): 2,
        labels(namespace="agents", ready="Unknown", compliant="Unknown"): 1,
    }


def test_what_a_sandbox_has_used_is_shown_of_those_of_which_it_is_known() -> None:
    metrics = Metrics()
    usage = {"requests": 3, "inputTokens": 10, "outputTokens": 20, "costUSD": "1.25", "denials": 7}
    metrics.sandboxes.put("agents", "alice", status(PRIV_01="Pass") | {"usage": usage})
    metrics.sandboxes.put("agents", "bob", status(PRIV_01="Pass"))
    found = read(metrics)
    alice = {"namespace": "agents", "name": "alice"}
    assert found["claudesandbox_usage_cost_usd"] == {labels(**alice): 1.25}
    assert found["claudesandbox_usage_requests"] == {labels(**alice): 3}
    assert found["claudesandbox_usage_denials"] == {labels(**alice): 7}
    assert found["claudesandbox_usage_tokens"][labels(**alice, type="output")] == 20
    assert len(found["claudesandbox_usage_tokens"]) == 4
    metrics.sandboxes.remove("agents", "alice")
    assert not read(metrics).get("claudesandbox_usage_cost_usd")


def test_what_waits_for_somebody_and_whose_image_changed_is_shown_with_why() -> None:
    metrics = Metrics()
    stalled = {"type": "Stalled", "status": "True", "reason": "KeyCompromised"}
    last = {"result": "RolledBack", "at": "2026-03-01T00:00:00Z"}
    metrics.sandboxes.put("agents", "alice", {"conditions": [stalled]})
    metrics.sandboxes.put("agents", "bob", {"conditions": [stalled | {"status": "False", "reason": "Ready"}]})
    metrics.sandboxes.put("agents", "eve", {"image": {"last": last}})
    metrics.sandboxes.put("agents", "new", {"image": {"digest": "sha256:1"}})
    found = read(metrics)
    assert found["claudesandbox_stalled"] == {labels(namespace="agents", name="alice", reason="KeyCompromised"): 1}
    eve = labels(namespace="agents", name="eve", result="RolledBack")
    assert found["claudesandbox_image_change_timestamp_seconds"] == {eve: 1772323200}


def test_the_end_of_gateways_certificates_is_shown_by_namespace() -> None:
    metrics = Metrics()
    metrics.watch_certificates(lambda: {"agents": datetime(2026, 3, 1, tzinfo=UTC)})
    found = read(metrics)["claudesandbox_gateway_certificate_end_timestamp_seconds"]
    assert found == {labels(namespace="agents"): 1772323200}


def test_the_time_of_the_last_evaluation_moves_although_nothing_changed() -> None:
    now = 100.0
    collector = SandboxCollector(clock=lambda: now)
    unchanged = status(PRIV_01="Pass")
    collector.put("agents", "alice", unchanged)
    now = 160.0
    collector.put("agents", "alice", unchanged)
    (family,) = (f for f in collector.collect() if "last_evaluated" in f.name)
    assert [s.value for s in family.samples] == [160.0]


def test_nothing_is_left_of_a_deleted_sandbox() -> None:
    metrics = Metrics()
    metrics.sandboxes.put("agents", "alice", status(PRIV_02="Fail"))
    metrics.sandboxes.remove("agents", "alice")
    metrics.sandboxes.remove("agents", "never-seen")
    assert not [n for n, series in read(metrics).items() if any("alice" in str(key) for key in series)]


def test_heals_have_a_bounded_number_of_series() -> None:
    metrics = Metrics()
    for n in range(100):
        metrics.healed(f"Kind{n}", f"Reason{n}")
        metrics.healed("Pod", "Deleted")
    heals = read(metrics)["claudesandbox_heals_total"]
    assert sum(heals.values()) == 200
    assert len(heals) < 25


def test_a_thousand_sandboxes_cost_a_bounded_number_of_series_and_nothing_until_asked() -> None:
    metrics = Metrics()
    plain = status(**{f"C_{n:02}": "Pass" for n in range(45)})
    started = time.process_time()
    for n in range(1000):
        metrics.sandboxes.put("agents", f"s-{n}", plain)
    assert time.process_time() - started < 1
    body = metrics.render().body
    about_sandboxes = [line for line in body.splitlines() if b"s-" in line and not line.startswith(b"#")]
    assert len(about_sandboxes) == 5000  # four counts and a time for each


def test_openmetrics_is_given_to_those_who_ask() -> None:
    page = Metrics().render("application/openmetrics-text; version=1.0.0")
    assert page.content_type.startswith("application/openmetrics-text")
    assert page.body.endswith(b"# EOF\n")


def test_what_became_of_reports_and_which_agents_are_silent_is_shown() -> None:
    metrics = Metrics()
    assert not [name for name in read(metrics) if "report" in name or "node_agent" in name]
    told = ReportsWritten()
    metrics.watch_reports(told, lambda: 3)
    ends = datetime(2026, 3, 1, tzinfo=UTC)
    metrics.watch_node_agents(lambda: {"node-1": True, "node-2": False}, lambda: ends)
    told.written, told.refused = 7, 1
    found = read(metrics)
    assert sorted(found["claudesandbox_report_writes_total"].values()) == [0, 1, 7]
    assert list(found["claudesandbox_reports_not_written"].values()) == [3]
    assert sorted(found["claudesandbox_node_agent_silent"].values()) == [0, 1]
    shown = found["claudesandbox_node_agents_certificate_end_timestamp_seconds"]
    assert list(shown.values()) == [ends.timestamp()]
