"""What the benchmark of clones says: the goal by the medians within the run."""

from tests.bench.git.page import document, goals, page, ratio
from tests.bench.git.speed import Cloned

GOOD = Cloned(100, {"direct": (1.0, 2.0, 9.0), "gateway": (2.0, 2.5, 2.6)}, 0.5, 90_000_000)
SLOW = Cloned(1024, {"direct": (1.0,), "gateway": (1.3,)}, 0.5, 90_000_000)


def test_the_goal_is_of_the_medians() -> None:
    assert ratio(GOOD) == 0.8
    assert [one.met for one in goals([GOOD, SLOW])] == [True, False]


def test_the_page_says_what_was_missed() -> None:
    text = page([GOOD, SLOW], "2 CPUs")
    assert "| 100 MiB | 2.00 (1.00 to 9.00) | 2.50 (2.00 to 2.60) | 0.50 | 90 |" in text
    assert (
        "| a clone of 1024 MiB by the gateway | at least 0.8 of the speed of a direct one | 0.77 | **missed** |" in text
    )
    assert document([GOOD], "2 CPUs")["clones"][0]["megabytes"] == 100
