"""Whether a sandbox's CPU was busy between two looks.

Theory of operation. Held, of each sandbox that may become idle: the figure of the kernel's beside which the next one is
held, and what was found last. Each pass brings the figure that its backend has; two have to be some time apart, and of
one start of one container. Nothing is asked for here. In memory only: an operator that begins anew knows nothing until
its second look (`first`); when it was busy last the status says as well. On the event loop.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from claude_sandbox.api.status_fields.lifecycle import CpuState
from claude_sandbox.backends.base import CpuUse
from claude_sandbox.controller.sandboxes.store import Key

_BUSY = 0.25
"""Of a core. Claude Code that waits for its user takes a hundredth or two; a compiler takes all of one."""
APART = timedelta(seconds=20)
"""Between two figures: in less a single wakeup looks busy."""
_OLD = timedelta(minutes=5)
"""A figure that is older says nothing of now."""


@dataclass(frozen=True)
class CpuLook:
    """What was found. `busy_at`: when it was seen busy; `first`: whether another look will tell more."""

    state: CpuState = CpuState.UNKNOWN
    busy_at: datetime | None = None
    first: bool = False


UNTOLD = CpuLook()
"""Nothing tells."""


class CpuLooks:
    """Of all sandboxes."""

    def __init__(self) -> None:
        self._held: dict[Key, tuple[CpuUse, CpuLook]] = {}

    def look(self, key: Key, use: CpuUse | None, now: datetime) -> CpuLook:
        """What a pass finds, given the last figure; None where nothing tells it."""
        if use is None or now - use.at > _OLD:
            self.forget(key)
            return UNTOLD
        before, found = self._held.get(key, (None, CpuLook(first=True)))
        if before is None or before.container != use.container or use.cpu_seconds < before.cpu_seconds:
            found = CpuLook(first=True)
        elif (passed := use.at - before.at) < APART:
            return found
        else:
            is_busy = use.cpu_seconds - before.cpu_seconds >= _BUSY * passed.total_seconds()
            found = CpuLook(CpuState.BUSY, use.at) if is_busy else CpuLook(CpuState.QUIET)
        self._held[key] = use, found
        return found

    def forget(self, key: Key) -> None:
        """The sandbox is gone, or nothing tells of it."""
        self._held.pop(key, None)
