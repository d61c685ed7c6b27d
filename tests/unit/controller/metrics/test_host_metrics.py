"""What Prometheus reads of Docker hosts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from claude_sandbox.controller.metrics.metrics import Metrics

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = "claudesandbox_docker_host_"


def status(**changes: Any) -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "Compliant")]
    return {
        "conditions": [*conditions, {"type": "Drained", "status": "False"}],
        "sandboxes": 2,
        "capacity": {"sandboxes": 30, "memory": "16384Mi"},
        "free": {"sandboxes": 28, "memory": "12288Mi"},
        **changes,
    }


def read(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by metric and by the values of its labels, in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.render().body.decode()):
        for sample in family.samples:
            if sample.name.startswith("claudesandbox_docker_"):
                assert family.documentation, f"{family.name} has no help text"
                key = tuple(value for _, value in sorted(sample.labels.items()))
                found.setdefault(sample.name, {})[key] = sample.value
    return found


def watching() -> Metrics:
    metrics = Metrics()
    metrics.watch_hosts()
    metrics.hosts._now = NOW.timestamp
    return metrics


def test_a_host_shows_when_its_certificates_are_to_be_exchanged() -> None:
    metrics = watching()
    due = [{"what": "Certificate", "name": "tls.crt", "at": "2026-03-01T00:00:00Z"}]
    metrics.hosts.put("build-1", status(due=due), NOW)
    assert read(metrics)[f"{HOST}due_timestamp_seconds"] == {("build-1", "tls.crt"): 1772323200}


def test_a_host_that_is_compromised_says_so() -> None:
    metrics = watching()
    metrics.hosts.put("build-1", status(incident={"state": "HostCompromised", "since": "2026-03-01T00:00:00Z"}), NOW)
    metrics.hosts.put("build-2", status(), NOW)
    assert read(metrics)[f"{HOST}compromised"] == {("build-1",): 1}


def test_a_host_shows_its_conditions_room_sandboxes_and_when_it_last_answered() -> None:
    metrics = watching()
    metrics.hosts.put("build-1", status(), NOW - timedelta(seconds=7))
    found = read(metrics)
    assert found[f"{HOST}condition"] == {
        ("Ready", "build-1", "True"): 1,
        ("Compliant", "build-1", "True"): 1,
        ("Drained", "build-1", "False"): 1,
    }
    assert found["claudesandbox_docker_hosts"] == {("True", "True"): 1}
    assert found[f"{HOST}capacity_sandboxes"] == {("build-1",): 30}
    assert found[f"{HOST}free_sandboxes"] == {("build-1",): 28}
    assert found[f"{HOST}free_memory_bytes"] == {("build-1",): 12 * 2**30}
    assert found[f"{HOST}sandboxes"] == {("build-1",): 2}
    assert found[f"{HOST}contact_age_seconds"] == {("build-1",): 7}
    # Without a limit there is no room to tell of, and nothing is drained.
    assert f"{HOST}free_cpu_cores" not in found
    assert f"{HOST}draining_sandboxes" not in found


def test_less_than_nothing_may_be_free() -> None:
    metrics = watching()
    metrics.hosts.put("a", status(free={"sandboxes": -1, "cpu": "-500m", "memory": "-2048Mi"}), NOW)
    found = read(metrics)
    assert found[f"{HOST}free_cpu_cores"] == {("a",): -0.5}
    assert found[f"{HOST}free_memory_bytes"] == {("a",): -2 * 2**30}


def test_draining_and_failed_calls_are_counted() -> None:
    metrics = watching()
    drain = {"moved": 4, "moving": 1, "staying": [{"reason": "InUse", "count": 2}, {"reason": "NoRoom", "count": 3}]}
    metrics.hosts.put("a", status(drain=drain), NOW)
    for code in (0, 0, 500):
        metrics.hosts.failed("a", code)
    found = read(metrics)
    assert found[f"{HOST}draining_sandboxes"] == {("moved", "a"): 4, ("moving", "a"): 1, ("staying", "a"): 5}
    assert found["claudesandbox_docker_engine_errors_total"] == {("none", "a"): 2, ("500", "a"): 1}


def test_a_host_that_is_gone_or_never_answered_shows_nothing_of_it() -> None:
    metrics = watching()
    metrics.hosts.put("gone", status(), NOW)
    metrics.hosts.put("new", {"conditions": [{"type": "Ready", "status": "Unknown"}]}, None)
    metrics.hosts.failed("gone", 0)
    metrics.hosts.remove("gone")
    found = read(metrics)
    assert "gone" not in str(found)
    assert f"{HOST}contact_age_seconds" not in found
    assert found["claudesandbox_docker_hosts"] == {("Unknown", "Unknown"): 1}
