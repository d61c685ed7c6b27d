"""The benchmark's arithmetic: percentiles, spreads, and what is read from the API server's metrics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.account import Account, operator_counts, written
from tests.bench.figures import Latency, Spread, percentile

METRICS = """\
# HELP apiserver_request_total [STABLE] Counter of apiserver requests
apiserver_request_total{code="201",dry_run="",group="",resource="pods",subresource="",verb="POST"} 7
apiserver_request_total{code="409",dry_run="",group="",resource="pods",subresource="",verb="POST"} 2
apiserver_request_total{code="200",dry_run="",group="",resource="pods",subresource="status",verb="PATCH"} 3
apiserver_request_total{code="200",dry_run="",group="",resource="pods",subresource="",verb="GET"} 90
apiserver_request_total{code="201",dry_run="All",group="",resource="pods",subresource="",verb="POST"} 5
apiserver_request_total{code="201",dry_run="",resource="localsubjectaccessreviews",subresource="",verb="POST"} 4
apiserver_flowcontrol_dispatched_requests_total{flow_schema="bench-create-pod",priority_level="workload-low"} 6
apiserver_flowcontrol_dispatched_requests_total{flow_schema="bench-lease",priority_level="workload-low"} 11
apiserver_flowcontrol_dispatched_requests_total{flow_schema="service-accounts",priority_level="workload-low"} 99
"""


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_a_value_that_as_many_as_said_do_not_exceed(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values)
    smaller = [value for value in values if value < found]
    assert len(smaller) < percent / 100 * len(values) + 1


def test_latency_of_a_hundred_values() -> None:
    assert Latency.of([float(number) for number in range(100, 0, -1)]) == Latency(100, 50, 90, 99, 100)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_spread_is_shown_with_its_ends_only_where_they_differ() -> None:
    assert f"{Spread.of([3.0, 1.0, 2.0]):.1f}" == "2.0 (1.0 to 3.0)"
    assert f"{Spread.of([2.0]):.1f}" == "2.0"


def test_only_the_operators_own_requests_are_counted_as_its() -> None:
    assert operator_counts(METRICS) == {"create-pod": 6, "lease": 11}


def test_only_what_was_stored_counts_as_written() -> None:
    assert written(METRICS) == {"pods": 7, "pods/status": 3}


def test_renewals_of_the_lease_and_reads_are_no_writes() -> None:
    later = Account({"lease": 30, "get": 9, "create-pod": 4, "patch-sandbox-status": 2}, {"pods": 5}, 120)
    earlier = Account({"lease": 20, "create-pod": 3}, {"pods": 4}, 100)
    since = later.since(earlier)
    assert since.writes == 3
    assert since == Account({"lease": 10, "get": 9, "create-pod": 1, "patch-sandbox-status": 2}, {"pods": 1}, 20)
