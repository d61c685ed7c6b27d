"""Where each sandbox wanted to go last and was not let, as it would have to stand in its spec to be let.

Holds of each sandbox KEPT destinations, those that were asked for last, and how many denials there were, in memory: a
gateway that begins anew knows of none. It is fed with the records that become lines of the audit, from one event loop.

A hostile agent chose the names, and people read them: only what a ClaudeSandbox could allow is kept, and of that only
what is no longer than LONGEST. All else is counted.
"""

import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from claude_sandbox.gateway.audit import Value
from claude_sandbox.gateway.destinations.domains import NOT_ALLOWED, PatternError, Way, entry_of, parse_pattern

KEPT = 8
LONGEST = 100
"""Characters of a destination: longer than nearly all names of hosts, too short for a text."""
_WAYS = {"tunnel": Way.TUNNEL, "http": Way.HTTP}


@dataclass(frozen=True)
class Denial:
    """One destination, as in `spec.network.egress.allowedDomains`. `at`: the last time, in seconds since 1970."""

    destination: str
    count: int
    at: float


@dataclass
class Denied:
    """Of one sandbox: how often, and where to; the last one is the newest."""

    count: int = 0
    destinations: dict[str, Denial] = field(default_factory=dict)


class Denials:
    """Of all sandboxes."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._found: dict[str, Denied] = {}

    def of(self, sandbox: str) -> Denied:
        """What is known of this one."""
        return self._found.get(sandbox, Denied())

    def keep(self, sandboxes: Container[str]) -> None:
        """Forget all others."""
        self._found = {uid: one for uid, one in self._found.items() if uid in sandboxes}

    def observe(self, kind: str, fields: Mapping[str, Value]) -> None:
        """Look at what becomes a line of the audit."""
        way, sandbox = _WAYS.get(kind), fields.get("sandbox")
        if way is None or not isinstance(sandbox, str) or fields.get("rule") != NOT_ALLOWED:
            return
        found = self._found.setdefault(sandbox, Denied())
        found.count += 1
        entry = _entry(fields, way)
        if entry is None:
            return
        before = found.destinations.pop(entry, Denial(entry, 0, 0))
        found.destinations[entry] = Denial(entry, before.count + 1, self._clock())
        if len(found.destinations) > KEPT:
            del found.destinations[next(iter(found.destinations))]


def _entry(fields: Mapping[str, Value], way: Way) -> str | None:
    """The destination as an entry of the spec; None where it can't be one, or is too long."""
    host, port = fields.get("host"), fields.get("port")
    if not isinstance(host, str) or not isinstance(port, int):
        return None
    entry = entry_of(host, port, way)
    try:
        # As the spec would have it: an agent's spelling says nothing.
        entry = str(parse_pattern(entry))
    except PatternError:
        return None
    return entry if len(entry) <= LONGEST and "*" not in entry else None
