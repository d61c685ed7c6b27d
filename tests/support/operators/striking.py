"""The operator killed at its k-th write, and started again: what a test does at each k."""

from collections.abc import Awaitable, Callable

import pytest
from gate import Gate, Strike
from operator_process import OperatorProcess
from world import World

Variant = Callable[[Gate, Callable[[], object]], Strike]
VARIANTS = {"after": Gate.kill_after, "before": Gate.kill_before}
BOTH = [pytest.param(Gate.kill_after, id="after"), pytest.param(Gate.kill_before, id="before", marks=pytest.mark.slow)]


async def survive(
    world: World,
    operator: OperatorProcess,
    strike: Strike,
    number: int,
    act: Callable[[], Awaitable[object]],
    settled: Callable[[], bool],
) -> bool:
    """Do something, have the operator struck at its `number`-th write after that, and wait until all is well."""
    if not operator.alive:
        await operator.restart()
    world.gate.strike_at(number, strike)
    await act()
    what = f"all well after write {number}"
    await world.ledger.until(lambda: settled() or not operator.alive, what)
    struck = world.gate.disarm()
    if struck:
        await operator.restart()
        await world.ledger.until(settled, f"{what}, which was {world.gate.struck}")
    return struck
