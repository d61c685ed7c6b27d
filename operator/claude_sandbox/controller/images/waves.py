"""How a newer image spreads over the sandboxes of a namespace that follow one tag.

Only so many try it at a time, and where it did not work for one of them the others leave it alone. A namespace is by
itself: what its people make fail, or keep from ending, holds up nobody else's updates.

Theory of operation. Both follow from the sandboxes' statuses, which are asked for each time. Held, in memory: which
sandboxes began to try an image whose statuses do not say so yet: until their next pass, if there is one soon. On one
event loop, and nothing here waits, so that no two can take the last turn. A crash forgets who began: what was written
counts, and what was not written never began.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from claude_sandbox.api.conditions import ConditionType, Reason
from claude_sandbox.controller.sandboxes.store import Key, Raw, key_of

_WRITTEN_WITHIN = timedelta(minutes=2)
"""How long a sandbox counts as one that tries a newer image before its status says so."""


class Waves:
    """Of one operator. `sandboxes_of` gives the sandboxes of a namespace."""

    def __init__(self, sandboxes_of: Callable[[str], Iterable[Raw]]) -> None:
        self._sandboxes_of = sandboxes_of
        self._begun: dict[Key, tuple[str, datetime]] = {}

    def began(self, key: Key, named: str, now: datetime) -> None:
        """The sandbox tries a newer image under this name, and its status is about to say so."""
        self._begun[key] = named, now

    def passed(self, key: Key) -> None:
        """Another pass of the sandbox is under way: what the one before began is in its status, or is not begun."""
        self._begun.pop(key, None)

    def waits_for(self, key: Key, named: str, digest: str, most: int, now: datetime) -> str:
        """What keeps a sandbox, which tries nothing, from trying a digest now; empty where nothing does.

        `named`: the image as the sandboxes name it.
        """
        self._begun = {one: (of, at) for one, (of, at) in self._begun.items() if now - at <= _WRITTEN_WITHIN}
        trying = 0
        for raw in self._sandboxes_of(key.namespace):
            image, other = _image(raw), key_of(raw)
            if other == key:
                continue
            # In any of the namespace, since they run the same: one failure is enough.
            if image.get("named") == named and digest in (image.get("failed") or ()):
                return f"It did not work for sandbox {other.name}, so that the others leave it alone."
            begun = self._begun.get(other, ("", now))[0] == named
            trying += begun or (image.get("named") == named and _is_trying(raw))
        if trying < most:
            return ""
        return f"It waits for its turn: a ClaudeImagePolicy lets {most} sandboxes try it at a time, and {trying} do."


def _is_trying(raw: Raw) -> bool:
    """Whether it tries a newer image. One that is suspended meanwhile keeps nobody waiting."""
    conditions = _mapping(raw.get("status")).get("conditions") or ()
    ready: Mapping[str, Any] = next((one for one in conditions if one.get("type") == ConditionType.READY), {})
    canary = _mapping(_image(raw).get("canary"))
    trying = _image(raw).get("rolling") or (canary and not canary.get("endedAt"))
    return bool(trying) and ready.get("reason") != Reason.SUSPENDED


def _image(raw: Raw) -> Mapping[str, Any]:
    return _mapping(_mapping(raw.get("status")).get("image"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
