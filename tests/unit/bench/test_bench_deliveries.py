"""What the benchmark of gateways beside sandboxes says: both in turn, and the ratio within the run."""

from collections.abc import Sequence

from tests.bench import deliveries
from tests.bench.deliveries import Compared, compared, page
from tests.bench.figures import Latency
from tests.bench.objects import BROKERED, MOUNTED, sandbox


async def test_lots_of_both_are_made_in_turn_and_each_sandbox_counts() -> None:
    asked: list[tuple[str, int]] = []

    async def lot(delivery: str, size: int) -> Sequence[float]:
        asked.append((delivery, size))
        return [1.0 if delivery == MOUNTED else 1.5] * size

    found = await compared(lot, 20, lambda _: None)
    assert asked == [(MOUNTED, 4), (BROKERED, 4)] * 5
    assert {delivery: (one.count, one.p50) for delivery, one in found.items()} == {
        MOUNTED: (20, 1.0),
        BROKERED: (20, 1.5),
    }


def test_the_page_has_the_ratio_and_says_of_a_namespaces_first_where_it_was_measured() -> None:
    both = {MOUNTED: Latency.of([1.0, 2.0]), BROKERED: Latency.of([1.2, 2.4])}
    text = page(Compared("here", both))
    assert "With a gateway it takes 1.20 times as long (p50)." in text
    assert "the first of its namespace" not in text
    assert "the first of its namespace, with a gateway       1    3000" in page(
        Compared("here", both, Latency.of([3.0]))
    )


def test_what_is_created_holds_its_key_unless_it_is_asked_for() -> None:
    assert sandbox("a", "b")["spec"]["credentials"]["delivery"] == MOUNTED
    assert sandbox("a", "b", BROKERED)["spec"]["credentials"]["delivery"] == BROKERED
    assert deliveries.DELIVERIES == (MOUNTED, BROKERED)
