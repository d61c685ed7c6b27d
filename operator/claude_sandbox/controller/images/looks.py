"""For how long nobody has looked at an image that is being tried.

What is ready when it is looked at twice, with an hour between, may have been anything meanwhile; and what nobody made
for an hour, since no operator was there, had no hour in which to become ready.

Theory of operation. Holds, in memory, when each sandbox's was looked at last, and what its status was to say of it. A
status that says anything else was not written by that look, of which nothing counts then. On one event loop, and
nothing here waits. A crash forgets it: the time of what is being tried begins anew with the next process.
"""

from datetime import datetime, timedelta

from claude_sandbox.api.status_fields.image import ImageCanary, ImageRolling
from claude_sandbox.controller.sandboxes.store import Key

Tried = ImageCanary | ImageRolling
_HOLDS = timedelta(seconds=30)
"""For how long a look counts: some more than passes are apart, on a busy operator too."""
_KEPT = timedelta(hours=1)


class Looks:
    """Of one operator."""

    def __init__(self) -> None:
        self._last: dict[Key, tuple[Tried, datetime]] = {}

    def missed(self, key: Key, tried: Tried | None, now: datetime) -> timedelta | None:
        """For how long nobody has looked at what the status says is being tried; None where nobody has yet."""
        before, at = self._last.get(key, (None, now))
        if before != tried or now - at > _KEPT:
            return None
        return max(now - at - _HOLDS, timedelta())

    def looked(self, key: Key, tried: Tried, now: datetime) -> None:
        """It was looked at, and that is to be in the status."""
        self._last = {one: seen for one, seen in self._last.items() if now - seen[1] <= _KEPT}
        self._last[key] = tried, now
