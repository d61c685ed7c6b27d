"""When everything that the process holds is looked at, which nothing else can go on beside."""

import asyncio
import gc

import pytest
from virtual_clock import run

from claude_sandbox.controller.machinery.garbage_collection import CALM, PATIENCE, PAUSE, collect_when_idle


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times: list[float] = []
    monkeypatch.setattr(gc, "collect", lambda: times.append(asyncio.get_running_loop().time() - 1000.0))
    return times


async def collecting(idle_from: float, seconds: float) -> None:
    """For so many seconds, with sandboxes coming one after the other until `idle_from`."""
    loop = asyncio.get_running_loop()

    def idle() -> float:
        return max(0.02, loop.time() - 1000.0 - idle_from)  # a moment between two sandboxes

    task = asyncio.create_task(collect_when_idle(idle, loop.time))
    await asyncio.sleep(seconds)
    task.cancel()


def test_it_waits_for_the_end_of_a_row_of_sandboxes(collected: list[float]) -> None:
    run(collecting(idle_from=PAUSE + 30, seconds=PAUSE + 60))
    assert collected == [pytest.approx(PAUSE + 30 + CALM, abs=1.0)]


def test_it_comes_once_a_minute_at_rest(collected: list[float]) -> None:
    run(collecting(idle_from=0, seconds=3.5 * PAUSE))
    assert collected == [PAUSE, 2 * PAUSE, 3 * PAUSE]


def test_it_comes_in_the_end_however_much_there_is_to_do(collected: list[float]) -> None:
    run(collecting(idle_from=10 * PATIENCE, seconds=PAUSE + PATIENCE + 2))
    assert collected == [pytest.approx(PAUSE + PATIENCE, abs=1.0)]
