"""How long one piece of work has an event loop, without a wall clock: the processor's time between two turns."""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import workmeter

from claude_sandbox.controller.machinery import garbage_collection


@dataclass
class Slices:
    """What the loop of this thread did since."""

    longest: float = 0.0
    """Seconds of the processor that one callback took, or one step of a task: nothing else ran meanwhile."""
    what: str = ""
    pace: float = 1.0

    @property
    def milliseconds(self) -> float:
        """The longest slice as it would be on a machine of the usual pace."""
        return 1000 * self.longest / self.pace


@contextmanager
def measured() -> Iterator[Slices]:
    """Measure every turn of the event loops of this thread."""
    found = Slices(pace=max(1.0, workmeter.machine_pace()))
    before = gc.get_threshold()
    garbage_collection.tune()  # as the operator does
    original = asyncio.events.Handle._run

    def run(handle: asyncio.Handle) -> None:
        started = time.thread_time()
        try:
            original(handle)
        finally:
            took = time.thread_time() - started
            if took > found.longest:
                found.longest, found.what = took, repr(handle)

    asyncio.events.Handle._run = run  # type: ignore[method-assign, assignment]
    try:
        yield found
    finally:
        asyncio.events.Handle._run = original  # type: ignore[method-assign]
        gc.set_threshold(*before)
        gc.unfreeze()
