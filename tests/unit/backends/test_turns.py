"""One at a time for each key, and nothing is kept where nobody is."""

import asyncio

import pytest

from claude_sandbox.backends.turns import Turns


async def test_of_one_key_one_at_a_time_and_of_others_at_once() -> None:
    turns, at, most = Turns(), dict.fromkeys("ab", 0), dict.fromkeys("ab", 0)
    together = 0

    async def work(key: str) -> None:
        nonlocal together
        async with turns.of(key):
            at[key] += 1
            most[key] = max(most[key], at[key])
            together = max(together, sum(at.values()))
            await asyncio.sleep(0)
            at[key] -= 1

    await asyncio.gather(*(work(key) for key in "ab" * 20))
    assert (most, together) == ({"a": 1, "b": 1}, 2)


async def test_nothing_is_kept_however_it_ends() -> None:
    turns = Turns()

    async def ends(key: int) -> None:
        async with turns.of(key):
            await asyncio.sleep(0)
            raise ValueError(key)

    for key in range(1000):
        with pytest.raises(ValueError, match=str(key)):
            await ends(key)
    holds = asyncio.Event()

    async def waits() -> None:
        async with turns.of("held"):
            await holds.wait()

    tasks = [asyncio.create_task(waits()) for _ in range(3)]
    await asyncio.sleep(0)
    assert len(turns) == 1
    for task in tasks:
        # One that holds it, and those that wait for it.
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(turns) == 0
