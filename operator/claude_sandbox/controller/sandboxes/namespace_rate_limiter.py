"""Waking all sandboxes of a namespace, but not as often as its tenants like.

What concerns all of them (a NetworkPolicy, a Service, a quota, the Namespace) is whatever anybody in the namespace
writes, hundreds of times a second if they like. The first change is looked at at once; what follows within a pause is
looked at together at its end. The pause goes with the number of sandboxes, so that a namespace takes up the same
share of the operator however many it has.

Holds when each namespace was woken last, and a timer for those that are to be woken again. Used from the event loop; a
crash loses nothing, since a new process looks at everything.
"""

import asyncio
from collections.abc import Callable

from claude_sandbox.controller.sandboxes.store import Key, Sandboxes

PAUSE = 1.0
"""Seconds between two times that a namespace is woken, at least."""
PAUSE_EACH = 0.02
"""Seconds for each of its sandboxes: a look at one takes a tenth to a fifth of that."""
_REMEMBERED = 1000


class NamespaceRateLimiter:
    """`wake` has one sandbox looked at."""

    def __init__(self, sandboxes: Sandboxes, wake: Callable[[Key], None]) -> None:
        self._sandboxes = sandboxes
        self._wake = wake
        self._due: dict[str, float] = {}  # not before
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._loop = asyncio.get_running_loop()

    def all_of(self, namespace: str) -> None:
        """Something changed that concerns all sandboxes of the namespace."""
        # What its timer does comes after this change, and so sees it.
        if namespace in self._timers:
            return
        due = self._due.get(namespace, 0.0)
        if due <= self._loop.time():
            self._wake_now(namespace)
        else:
            self._timers[namespace] = self._loop.call_at(due, self._wake_now, namespace)

    def _wake_now(self, namespace: str) -> None:
        self._timers.pop(namespace, None)
        keys = self._sandboxes.of(namespace)
        for key in keys:
            self._wake(key)
        now = self._loop.time()
        # Nothing was woken, so nothing has to pause: tenants can't have names of empty namespaces remembered here.
        if not keys:
            self._due.pop(namespace, None)
            return
        self._due[namespace] = now + max(PAUSE, PAUSE_EACH * len(keys))
        if len(self._due) > _REMEMBERED:
            self._due = {name: due for name, due in self._due.items() if due > now}
