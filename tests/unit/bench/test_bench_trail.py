"""The benchmark of the audit trail measures what it says."""

from pathlib import Path

from tests.bench import trail


def test_each_figure_is_there_and_is_some(tmp_path: Path) -> None:
    found = trail.measure(tmp_path, records=50, alone=3)
    assert all(found[name] > 0 for name in found if name != "aloneMilliseconds")
    assert 0 < found["aloneMilliseconds"]["p50"] <= found["aloneMilliseconds"]["p99"]
    assert 300 < found["bytes"] < 1000
    page = trail.page(found, "a machine")
    assert page.startswith("a machine")
    assert len(page.splitlines()) == 8
