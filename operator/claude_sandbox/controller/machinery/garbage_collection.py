"""Python's collector of cycles, set for a process that holds much and makes few cycles.

As it is by default it looks at everything that the process holds again and again while sandboxes are made, and nothing
else runs meanwhile: tenths of a second with 1,000 sandboxes.
"""

import asyncio
import gc
import time
from collections.abc import Callable

# Objects more made than freed, until the young ones are looked at, and how many times until older ones are as well.
# The oldest are only looked at by `collect_when_idle`.
_YOUNG, _OLDER, _NEVER = 20_000, 10, 1_000_000
PAUSE = 60.0
"""Seconds between two looks at everything."""
CALM = 2.0
"""Seconds without work after which there is nothing to do: between two sandboxes of a row there is more to come."""
PATIENCE = 600.0
"""Seconds after which everything is looked at however much there is to do, or memory would grow for ever."""


def tune() -> None:
    """To be called once everything is imported: what there is now stays for good, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _OLDER, _NEVER)


async def collect_when_idle(idle: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
    """Look at everything about once a minute, while there is nothing to do. `idle`: for how many seconds already."""
    while True:
        await asyncio.sleep(PAUSE)
        due = clock() + PATIENCE
        while idle() < CALM and clock() < due:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(1.0)
        gc.collect()
