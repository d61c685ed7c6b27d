"""What the benchmark of the gateway says: the goals by the differences within the run."""

from dataclasses import replace

from tests.bench.gateway.load import Percentiles, percentiles
from tests.bench.gateway.speed import Measured
from tests.bench.gateway.speed_page import document, goals, page

FOUND = Measured(
    requests={"direct": Percentiles(0.5, 2.0), "gateway": Percentiles(1.0, 6.0), "Envoy": Percentiles(0.7, 3.0)},
    rates={"direct": 2000.0, "gateway": 1200.0, "Envoy": 1900.0},
    events={"direct": Percentiles(0.2, 0.4), "gateway": Percentiles(0.3, 0.9), "Envoy": Percentiles(0.2, 0.5)},
    openings={"direct": Percentiles(4.0, 9.0), "gateway": Percentiles(5.0, 9.0), "Smokescreen": Percentiles(5.0, 9.0)},
    secure={"direct": 300.0, "gateway": 300.0, "Smokescreen": 300.0},
    raw={"direct": 900.0, "gateway": 600.0, "Smokescreen": 800.0},
    cpu={"gateway": 1.0, "Envoy": 0.3},
    memory={"gateway": 47.0, "Envoy": 77.0},
    not_tried={"mitmproxy": "it is not to be had"},
)


def test_goals_are_of_differences_within_the_run() -> None:
    assert [one.met for one in goals(FOUND)] == [True] * 7
    slow = replace(FOUND, requests={**FOUND.requests, "gateway": Percentiles(1.2, 8.0)}, rates={"gateway": 900.0})
    assert [one.what.split(",")[0] for one in goals(slow) if not one.met] == [
        "a request of 2 KB", "a request of 2 KB", "a request of 2 KB above Envoy", "requests a second",
    ]  # fmt: skip
    without = replace(FOUND, requests={name: FOUND.requests[name] for name in ("direct", "gateway")})
    assert len(goals(without)) == 6


def test_the_page_has_a_column_for_each_and_says_what_was_not_tried() -> None:
    text = page(FOUND, "2 CPUs")
    assert "| | direct | gateway | Envoy | Smokescreen |" in text
    assert "| requests a second, 32 at once | 2000 | 1200 | 1900 |  |" in text
    assert "Not tried: mitmproxy: it is not to be had" in text
    assert "missed" not in text
    assert document(FOUND, "2 CPUs")["requests"]["gateway"] == {"p50": 1.0, "p99": 6.0}


def test_percentiles() -> None:
    assert percentiles([float(one) for one in range(1, 101)]) == Percentiles(50.5, 99.99)
