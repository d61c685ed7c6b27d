"""An Event for what a sandbox asked for and was not let, with the line to add to its spec; seldom, and each once.

Theory of operation. A pass says what the gateway has told (`tell`). What was not said of this sandbox yet is said in
one Event, and then nothing for PAUSE seconds, whatever the agent asks for meanwhile: the Events of a sandbox are
rationed together, and what else there is to say of it must not go without because its agent tries a million names.

Held, in memory, by sandbox: when the last one was, and the last REMEMBERED entries that were said; it goes with the
sandbox. After a start what the status names was said already. Used on the event loop, by the one pass of a sandbox. A
crash may have something said twice. The names were read by a strict grammar: nothing else of an agent's is in them.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from claude_sandbox.api.status_fields.usage import Denied, DeniedEntry, Usage
from claude_sandbox.controller.sandboxes.interfaces import Reporter
from claude_sandbox.controller.sandboxes.store import Key, Raw

PAUSE = 900.0
REMEMBERED = 256
_NAMED = 5
"""Entries that one Event has the lines of."""
_FIELDS = {
    Denied.DESTINATION: "spec.network.egress.allowedDomains",
    Denied.MODEL: "spec.model.allowed",
    Denied.SERVICE: "spec.services",
}


@dataclass
class _Told:
    said: dict[tuple[Denied, str], None] = field(default_factory=dict)
    at: float = float("-inf")


class DenialEvents:
    """Of all sandboxes. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[Key, _Told] = {}

    def forget(self, key: Key) -> None:
        """The sandbox is gone."""
        self._told.pop(key, None)

    def tell(self, reporter: Reporter, key: Key, raw: Raw, before: Usage | None, found: Usage | None) -> None:
        """Say what is new, if it is time. `before`: what the status says."""
        denied = (found.denied if found is not None else None) or ()
        if not denied:
            return
        told = self._told.get(key)
        if told is None:
            told = self._told[key] = _Told(_entries((before.denied if before is not None else None) or ()))
        new = [one for one in denied if (one.what, one.entry) not in told.said]
        now = self._clock()
        # What is not said now is not remembered: what the report names after the pause is said then.
        if not new or now - told.at < PAUSE:
            return
        told.at = now
        told.said |= _entries(new)
        while len(told.said) > REMEMBERED:
            del told.said[next(iter(told.said))]
        reporter.tell(raw, "Denied", message(new), warning=True)


def message(denied: Iterable[DeniedEntry]) -> str:
    """What was denied, and the lines of the spec that would let it."""
    every = list(denied)
    parts = []
    for what, path in _FIELDS.items():
        lines = [f"- {one.entry}" for one in every[:_NAMED] if one.what is what]
        if lines:
            parts.append(f"{path}: {' '.join(lines)}")
    more = f" There were {len(every) - _NAMED} more; see status.usage.denied." if len(every) > _NAMED else ""
    return (
        f"The gateway did not let the agent to what its spec does not have. If that is meant to be allowed, add to"
        f" {'; '.join(parts)}.{more}"
    )


def _entries(denied: Iterable[DeniedEntry]) -> dict[tuple[Denied, str], None]:
    return {(one.what, one.entry): None for one in denied}
