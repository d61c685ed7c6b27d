"""Changes that concern all sandboxes of a namespace: the first is looked at at once, many of them now and then."""

import asyncio

from virtual_clock import run

from claude_sandbox.controller.sandboxes.namespace_rate_limiter import PAUSE, PAUSE_EACH, NamespaceRateLimiter
from claude_sandbox.controller.sandboxes.store import Sandboxes


def _sandboxes(count: int) -> Sandboxes:
    found = Sandboxes()
    for number in range(count):
        metadata = {"namespace": "busy", "name": f"s{number}", "uid": f"u{number}", "resourceVersion": "1"}
        found.put({"metadata": metadata, "spec": {}})
    return found


def _woken(count: int, seconds: float) -> list[float]:
    """When the sandboxes of a namespace are woken in which something changes a hundred times a second."""
    times: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        wakes = NamespaceRateLimiter(_sandboxes(count), lambda key: times.append(loop.time() - began))
        for _ in range(int(seconds * 100)):
            wakes.all_of("busy")
            await asyncio.sleep(0.01)
        await asyncio.sleep(count * PAUSE_EACH + PAUSE)

    run(main())
    return times


def test_the_first_change_wakes_at_once_and_the_last_one_is_not_lost() -> None:
    times = _woken(1, seconds=10)
    assert times[0] == 0
    assert 10 <= len(times) <= 12
    assert times[-1] > 9.98


def test_many_sandboxes_are_woken_as_often_together_as_few() -> None:
    times = _woken(500, seconds=30)
    assert len(times) == 500 * (1 + 30 // (500 * PAUSE_EACH))


def test_a_namespace_without_sandboxes_is_forgotten() -> None:
    async def main() -> None:
        wakes = NamespaceRateLimiter(Sandboxes(), lambda key: None)
        wakes.all_of("empty")
        assert not wakes._due

    run(main())
