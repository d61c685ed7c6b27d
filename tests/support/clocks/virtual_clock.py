"""An event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _NoWait(selectors.SelectSelector):
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(0)
            if not ready:
                raise RuntimeError("everything waits and no timer is set: a deadlock")
            return ready
        self.loop.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs hours of timers in milliseconds, and the same way each time."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _NoWait()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class _Patient(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        ready = super().select(0.02)
        if not ready and timeout is not None:
            self.loop.now += max(timeout, 0.0)
        return ready


class PatientLoop(VirtualLoop):
    """The same for what goes through sockets: what is on its way through one of this machine is there before the clock
    moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Patient()
        selector.loop = self
        asyncio.SelectorEventLoop.__init__(self, selector)


def run(main: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
