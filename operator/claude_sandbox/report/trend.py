"""How it went: what the audit trail tells of sandboxes, day by day. Pure.

A trail says what changed, so what was so before its first line is not known: a sandbox counts from its first condition
Compliant in it on.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, ConditionType
from claude_sandbox.api.status import Result
from claude_sandbox.report import given
from claude_sandbox.report.model import Day, Trend, Verdict

MOST_DAYS = 400
"""A trail is kept for so long by default."""

_RANKS = {Result.PASS: 0, Result.NOT_APPLICABLE: 0, Result.UNKNOWN: 1, Result.FAIL: 2}
_VERDICTS = {
    ConditionStatus.TRUE: Verdict.COMPLIANT,
    ConditionStatus.FALSE: Verdict.NOT_COMPLIANT,
    ConditionStatus.UNKNOWN: Verdict.NOT_VERIFIED,
}


@dataclass(frozen=True)
class Event:
    """A record of the trail that is about a sandbox: its kind and its data, as the trail has them."""

    at: datetime
    kind: str
    uid: str
    data: Mapping[str, Any]


@dataclass
class _State:
    """What is known after the events so far."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    counts: dict[date, Counter[str]] = field(default_factory=dict)
    ends: dict[date, Counter[Verdict]] = field(default_factory=dict)
    """How the sandboxes stood at the end of each day on which something happened."""


def trend(events: Iterable[Event], today: date, days: int) -> Trend | None:
    """The last so many days up to `today`, of events in their order; None where there are none."""
    state = _State()
    for one in events:
        _take(state, one)
        day = one.at.date()
        state.ends[day] = Counter(state.verdicts.values())
    if not state.ends:
        return None
    first = max(min(state.ends), today - timedelta(days=min(days, MOST_DAYS) - 1))
    before = [day for day in state.ends if day < first]
    stands = state.ends[max(before)] if before else Counter()
    found = []
    for offset in range(max(0, (today - first).days + 1)):
        day = first + timedelta(days=offset)
        stands = state.ends.get(day, stands)
        count = state.counts.get(day, Counter())
        told = {verdict: stands[verdict] for verdict in Verdict}
        found.append(Day(day, told, count["worse"], count["better"], count["Healed"], count["Denied"]))
    return Trend(tuple(found)) if found else None


def _take(state: _State, event: Event) -> None:
    count = state.counts.setdefault(event.at.date(), Counter())
    match event.kind:
        case "ConditionChanged":
            for one in given.objects(event.data, "conditions"):
                if one.get("type") == ConditionType.COMPLIANT:
                    status = given.choice(ConditionStatus, one.get("after"), ConditionStatus.UNKNOWN)
                    state.verdicts[event.uid] = _VERDICTS[status]
        case "SandboxDeleted":
            state.verdicts.pop(event.uid, None)
        case "ResultsChanged":
            for one in given.objects(event.data, "changes"):
                was, now = (given.choice(Result, one.get(part), None) for part in ("before", "after"))
                if was is not None and now is not None and _RANKS[was] != _RANKS[now]:
                    count["worse" if _RANKS[now] > _RANKS[was] else "better"] += 1
        case "Healed" | "Denied":
            count[event.kind] += 1
