"""What the benchmark of clones says: the goal by the medians within the run."""

from tests.bench.git.page import document, goals, page, ratio
from tests.bench.git.speed import PLAIN, TLS, Cloned

CPU, MEMORY = {PLAIN: 0.5, TLS: 0.75}, {PLAIN: 90_000_000, TLS: 91_000_000}
GOOD = Cloned(100, {"direct": (1.0, 2.0, 9.0), PLAIN: (2.0, 2.5, 2.6), TLS: (2.1, 2.2, 2.3)}, CPU, MEMORY)
SLOW = Cloned(1024, {"direct": (1.0,), PLAIN: (1.3,), TLS: (1.2,)}, CPU, MEMORY)


def test_the_goal_is_of_the_medians() -> None:
    assert ratio(GOOD, PLAIN) == 0.8
    assert [one.met for one in goals([GOOD, SLOW])] == [True, True, False, True]


def test_the_page_says_what_was_missed() -> None:
    text = page([GOOD, SLOW], "2 CPUs")
    assert "| 100 MiB | direct | 2.00 (1.00 to 9.00) | | | |" in text
    assert "| | by the gateway | 2.50 (2.00 to 2.60) | 0.80 | 0.50 | 90 |" in text
    assert "| | by the gateway, which is reached by TLS | 2.20 (2.10 to 2.30) | 0.91 | 0.75 | 91 |" in text
    assert (
        "| a clone of 1024 MiB by the gateway | at least 0.8 of the speed of a direct one | 0.77 | **missed** |" in text
    )
    assert document([GOOD], "2 CPUs")["clones"][0]["megabytes"] == 100
