"""Where each sandbox was placed, as this process stored or first saw it: a status says what somebody wrote into it.

Theory of operation. Who may write statuses could else have a sandbox made a second time on another host, or have the
operator look for it where it is not.

Holds, in memory, a placement for each sandbox. What the status tells otherwise since is not believed, but put back. A
crash forgets: then what the status tells is taken, and where that leads nowhere it is looked for on the hosts. Called
by the passes of sandboxes, on the event loop.
"""

from claude_sandbox.api.status import Placement
from claude_sandbox.controller.sandboxes.store import Key, Raw, key_of, placement_of


class Placements:
    """Of one operator."""

    def __init__(self) -> None:
        self._stored: dict[Key, tuple[str, Placement]] = {}

    def stored(self, raw: Raw) -> Placement | None:
        """What was stored last of this very sandbox, or else what its status tells."""
        uid, placement = self._stored.get(key_of(raw), ("", None))
        return placement if uid == raw["metadata"]["uid"] else placement_of(raw)

    def learn(self, raw: Raw) -> None:
        """Believe what the status tells from now on: it was stored by this operator, or is seen for the first time."""
        if (placement := placement_of(raw)) is not None:
            self._stored[key_of(raw)] = raw["metadata"]["uid"], placement

    def forget(self, key: Key) -> None:
        """The sandbox is gone."""
        self._stored.pop(key, None)
