"""How much work something is, told without a wall clock: by the processor's time of this thread, against a floor.

Other processes take time from a wall clock, and a slow machine from both; so what is compared is always the time of
one thing with that of another, measured here in the same minute.
"""

import time
from collections.abc import Callable
from typing import Any


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The least processor time of this thread that `work` took in some tries, in seconds."""
    return min(_once(work) for _ in range(repeats))


def machine_pace() -> float:
    """How many times slower this machine is than one that does a million steps of a plain loop in 25 ms."""

    def loop() -> int:
        total = 0
        for number in range(1_000_000):
            total += number
        return total

    return seconds(loop) / 0.025


def _once(work: Callable[[], Any]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started
