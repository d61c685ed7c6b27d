"""What each sandbox wanted last and was not let, as it would have to stand in its spec to be let: destinations, models.

Theory of operation. Holds of each sandbox KEPT of these, those that were asked for last, and how many denials there
were, in memory: a gateway that begins anew knows of none. It is fed with the records that become lines of the audit,
from one event loop.

A hostile agent chose the names, and people read them: only what a ClaudeSandbox could allow is kept, and of that only
what is no longer than LONGEST. All else is counted.
"""

import re
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from claude_sandbox.gateway.audit import Value
from claude_sandbox.gateway.destinations.domains import NOT_ALLOWED, PatternError, Way, entry_of, parse_pattern
from claude_sandbox.gateway.services.declared import METHODS, NAME

KEPT = 8
LONGEST = 100
"""Characters of a destination: longer than nearly all names of hosts, too short for a text."""
MODEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:@-]{0,63}")
"""A model as it may be told of: those of the provider and of clouds are so called."""
MODEL_NOT_ALLOWED = "model"
"""The reason for which a request is refused that asks for a model which is not in `spec.model.allowed`."""
_SERVICE_RULES = frozenset(("service", "method", "path"))
_PATH = re.compile(r"/[A-Za-z0-9._~/-]{0,59}")
"""A path as it may be told of: too short for a text, and of an agent's choice nothing but plain characters."""
_WAYS = {"tunnel": Way.TUNNEL, "http": Way.HTTP}


class What(StrEnum):
    """What was denied: an entry of `spec.network.egress.allowedDomains`, or of `spec.model.allowed`; or a request to a
    service as `spec.services` would have to allow it: its name, a method and a path."""

    DESTINATION = "Destination"
    MODEL = "Model"
    SERVICE = "Service"


@dataclass(frozen=True)
class Denial:
    """One destination or model, as in the spec. `first`, `at`: the first and the last time, in seconds since 1970."""

    what: What
    entry: str
    count: int
    first: float
    at: float


@dataclass
class Denied:
    """Of one sandbox: how often, and what; the last one is the newest."""

    count: int = 0
    entries: dict[tuple[What, str], Denial] = field(default_factory=dict)


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
        sandbox, rule = fields.get("sandbox"), fields.get("rule")
        what = _what(kind, rule)
        if not isinstance(sandbox, str) or what is None:
            return
        found = self._found.setdefault(sandbox, Denied())
        found.count += 1
        entry = _destination(fields, _WAYS[kind]) if kind in _WAYS else _ENTRIES[what](fields)
        if entry is None:
            return
        now = self._clock()
        # Taken out and put in at the end, so that the first is the one that was asked for longest ago.
        before = found.entries.pop((what, entry), None)
        count, first = (before.count, before.first) if before is not None else (0, now)
        found.entries[what, entry] = Denial(what, entry, count + 1, first, now)
        if len(found.entries) > KEPT:
            del found.entries[next(iter(found.entries))]


def _what(kind: str, rule: Value) -> What | None:
    if kind == "request":
        return What.MODEL if rule == MODEL_NOT_ALLOWED else None
    if kind == "service":
        return What.SERVICE if rule in _SERVICE_RULES else None
    return What.DESTINATION if kind in _WAYS and rule == NOT_ALLOWED else None


def _destination(fields: Mapping[str, Value], way: Way) -> str | None:
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
    # With a star it would allow more than what was asked for.
    return entry if len(entry) <= LONGEST and "*" not in entry else None


def _model(fields: Mapping[str, Value]) -> str | None:
    found = fields.get("model")
    return found if isinstance(found, str) and MODEL.fullmatch(found) else None


def _service(fields: Mapping[str, Value]) -> str | None:
    name, method, path = (str(fields.get(one)) for one in ("service", "method", "path"))
    plain = method in METHODS and _PATH.fullmatch(path) and re.fullmatch(NAME, name)
    return f"{name} {method} {path}" if plain else None


_ENTRIES: Mapping[What, Callable[[Mapping[str, Value]], str | None]] = {What.MODEL: _model, What.SERVICE: _service}
