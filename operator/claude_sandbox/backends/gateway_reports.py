"""What the gateways of a sandbox report of it, read. Pure. The one reader of what `gateway/telemetry/report.py` writes.

It comes from a program of our own, and is read as if it did not: that program talks with a hostile agent, and others
may write where it writes. So a text has a bound, each part is read by a strict grammar, and a part that does not keep
to it is not there; what is not known is ignored, so that a newer gateway can say more.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar

from claude_sandbox.api.usage_status import (
    MAX_DENIED,
    MAX_MODELS,
    Answered,
    BudgetLeft,
    BudgetState,
    Denied,
    DeniedEntry,
    ModelUsage,
    Trouble,
    TroubleKind,
    UsedWindow,
)

MAX_TEXT = 4096
"""Characters of a report."""
MAX_PARTS = 16
"""Gateways of one sandbox whose reports are read."""
BELIEVED = timedelta(minutes=3)
"""For how long it is believed that the provider does not answer; a gateway says it anew each minute."""

_REMEMBERED = 2048
"""Texts that are not read again: a sandbox is looked at far more often than something new is told of it."""
_MOST = 2**62
_USD = re.compile(r"(?:0|[1-9][0-9]{0,12})(?:\.[0-9]{1,9})?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_MODEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:@-]{0,63}")
_DESTINATION = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,92}[a-z0-9])?(?::[0-9]{1,5})?")
_SERVICE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,28}[a-z0-9])? [A-Z]{3,7} /[A-Za-z0-9._~/-]{0,59}")
_ENTRIES = {Denied.DESTINATION: _DESTINATION, Denied.MODEL: _MODEL, Denied.SERVICE: _SERVICE}
_GENERATION = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_COUNTS = ("requests", "inputTokens", "outputTokens", "cacheWriteTokens", "cacheReadTokens")

Part = TypeVar("Part")


class _MalformedError(Exception):
    """A part does not keep to the grammar."""


@dataclass(frozen=True)
class Used:
    """What was used, and when that was read. `total` has no name: of all models."""

    time: datetime
    window: UsedWindow
    total: ModelUsage
    models: tuple[ModelUsage, ...]


@dataclass(frozen=True)
class ReportedBudget:
    """How a budget stood at a time; `cost` (USD) and `output` (tokens) are the limits of that budget."""

    time: datetime
    cost: Decimal | None
    output: int | None
    left: BudgetLeft


@dataclass(frozen=True)
class Report:
    """What is told of one sandbox, by one gateway or by all of them. `told`: when it was last."""

    told: datetime
    used: Used | None = None
    budgets: tuple[ReportedBudget, ...] = ()
    answered: Answered | None = None
    trouble: Trouble | None = None
    trouble_at: datetime | None = None
    denials: int = 0
    denied: tuple[DeniedEntry, ...] = field(default=())


def read(text: object) -> Report | None:
    """The report that a gateway has written; None for what is none."""
    return _read(text) if isinstance(text, str) and len(text) <= MAX_TEXT else None


@lru_cache(_REMEMBERED)
def _read(text: str) -> Report | None:
    try:
        return read_document(json.loads(text))
    except (ValueError, RecursionError):
        return None


def read_document(found: object) -> Report | None:
    """The same of a report that is JSON already, and no longer than a text may be."""
    if not isinstance(found, dict):
        return None
    try:
        told = _time(found.get("at"))
    except _MalformedError:
        return None
    trouble = _part(found.get("trouble"), _trouble)
    return Report(
        told,
        _part(found.get("usage"), _used),
        tuple(one for one in (_part(found.get("budget"), _budget),) if one is not None),
        _part(found.get("answered"), _answered),
        trouble[0] if trouble is not None else None,
        trouble[1] if trouble is not None else None,
        _part(found.get("denials"), _count) or 0,
        _denied(found.get("denied")),
    )


def merged(reports: Iterable[Report]) -> Report | None:
    """What several gateways report of one sandbox: of each fact the newest; denials added up."""
    parts = sorted(reports, key=lambda one: one.told)[-MAX_PARTS:]
    if not parts:
        return None
    used = max((one.used for one in parts if one.used is not None), key=lambda one: one.time, default=None)
    answered = max((one.answered for one in parts if one.answered is not None), key=lambda one: one.time, default=None)
    troubled = max(
        (one for one in parts if one.trouble_at is not None), key=lambda one: (one.trouble_at, one.told), default=None
    )
    if troubled is not None and any(
        one.answered is not None and troubled.trouble_at is not None and one.answered.time > troubled.trouble_at
        for one in parts
        if one is not troubled
    ):
        troubled = None
    return Report(
        parts[-1].told,
        used,
        tuple(budget for one in parts for budget in one.budgets),
        answered,
        troubled.trouble if troubled is not None else None,
        troubled.trouble_at if troubled is not None else None,
        min(sum(one.denials for one in parts), _MOST),
        _added(denied for one in parts for denied in one.denied),
    )


def believed(report: Report, now: datetime) -> Report:
    """The report without what is too old to be still so."""
    trouble, at = report.trouble, report.trouble_at
    if trouble is None or trouble.kind is not TroubleKind.NO_ANSWER or at is None or now - at <= BELIEVED:
        return report
    return replace(report, trouble=None, trouble_at=None)


def decisive(report: Report | None) -> object:
    """What of a report is not to wait: what turns whether the agent can work, and which credential is in use."""
    if report is None:
        return None
    trouble, answered = report.trouble, report.answered
    return (
        (trouble.kind, trouble.generation) if trouble is not None else None,
        tuple((one.left.state, one.cost, one.output) for one in report.budgets),
        answered.generation if answered is not None else None,
    )


def budget_of(report: Report, cost: Decimal | None, output: int | None, now: datetime) -> BudgetLeft | None:
    """How the budget with these limits stands; None where no gateway has judged by it."""
    same = [one for one in report.budgets if (one.cost, one.output) == (cost, output)]
    newest = max(same, key=lambda one: one.time, default=None)
    if newest is None:
        return None
    if newest.left.until is not None and newest.left.until <= now:
        # A new window begins with the next request.
        return BudgetLeft(
            state=BudgetState.FREE, left_usd=None if cost is None else f"{cost:f}", left_output_tokens=output
        )
    return newest.left


def _added(denied: Iterable[DeniedEntry]) -> tuple[DeniedEntry, ...]:
    found: dict[tuple[Denied, str], DeniedEntry] = {}
    for one in denied:
        before = found.get((one.what, one.entry))
        found[one.what, one.entry] = (
            one
            if before is None
            else DeniedEntry(
                what=one.what,
                entry=one.entry,
                count=min(before.count + one.count, _MOST),
                first=min(before.first, one.first),
                last=max(before.last, one.last),
            )
        )
    return tuple(sorted(found.values(), key=lambda one: (one.last, one.entry), reverse=True)[:MAX_DENIED])


def _part(value: object, how: Callable[[Any], Part]) -> Part | None:
    if value is None:
        return None
    try:
        return how(value)
    except _MalformedError:
        return None


def _used(value: Any) -> Used:
    fields = _object(value)
    window = UsedWindow(
        began=_maybe(fields.get("windowBegan"), _time),
        ends=_maybe(fields.get("windowEnds"), _time),
        cost_usd=_usd(fields.get("windowCostUSD")),
        output_tokens=_count(fields.get("windowOutputTokens")),
    )
    models = fields.get("models") or []
    if not isinstance(models, list):
        raise _MalformedError
    named = {str(one.get("model")): one for one in map(_object, models[:MAX_MODELS])}
    return Used(
        _time(fields.get("time")),
        window,
        _model_usage(_object(fields.get("total")), ""),
        tuple(_model_usage(one, _word(name, _MODEL)) for name, one in named.items()),
    )


def _model_usage(fields: Mapping[str, Any], name: str) -> ModelUsage:
    counts = {key: _count(fields.get(key)) for key in _COUNTS}
    return ModelUsage.model_validate({"model": name, "costUSD": _usd(fields.get("costUSD")), **counts})


def _budget(value: Any) -> ReportedBudget:
    fields = _object(value)
    left = BudgetLeft(
        state=_choice(fields.get("state"), BudgetState),
        left_usd=_maybe(fields.get("leftUSD"), _usd),
        left_output_tokens=_maybe(fields.get("leftOutputTokens"), _count),
        until=_maybe(fields.get("until"), _time),
    )
    cost = _maybe(fields.get("maxCostUSD"), _usd)
    output = _maybe(fields.get("maxOutputTokens"), _count)
    return ReportedBudget(_time(fields.get("time")), None if cost is None else Decimal(cost), output, left)


def _answered(value: Any) -> Answered:
    fields = _object(value)
    return Answered(time=_time(fields.get("time")), generation=_maybe(fields.get("generation"), _generation))


def _trouble(value: Any) -> tuple[Trouble, datetime]:
    fields = _object(value)
    kind, status = fields.get("type"), fields.get("status")
    said = str(fields.get("message") or "")[:MAX_TEXT]
    words = [part for part in (str(status) if type(status) is int else "", str(kind or "")[:64]) if part]
    trouble = Trouble(
        kind=_choice(fields.get("kind"), TroubleKind),
        since=_time(fields.get("since")),
        generation=_maybe(fields.get("generation"), _generation),
        message=f"{' '.join(words)}: {said}" if words and said else said or " ".join(words),
    )
    return trouble, _time(fields.get("time"))


def _denied(value: object) -> tuple[DeniedEntry, ...]:
    """Each by itself: one that is malformed takes no other away."""
    read = (_part(one, _denied_entry) for one in value[:MAX_DENIED]) if isinstance(value, list) else ()
    return _added(one for one in read if one is not None)


def _denied_entry(value: Any) -> DeniedEntry:
    fields = _object(value)
    what = _choice(fields.get("what"), Denied)
    return DeniedEntry(
        what=what,
        entry=_word(fields.get("entry"), _ENTRIES[what]),
        count=_count(fields.get("count")),
        first=_time(fields.get("first")),
        last=_time(fields.get("last")),
    )


def _maybe(value: Any, how: Callable[[Any], Part]) -> Part | None:
    return None if value is None else how(value)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _MalformedError
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise _MalformedError
    return value


def _word(value: Any, grammar: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not grammar.fullmatch(value):
        raise _MalformedError
    return value


def _usd(value: Any) -> str:
    return _word(value, _USD)


def _generation(value: Any) -> str:
    return _word(value, _GENERATION)


def _choice(value: Any, kind: type[Part]) -> Part:
    try:
        return kind(value)  # type: ignore[call-arg]
    except ValueError:
        raise _MalformedError from None


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(_word(value, _TIME)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _MalformedError from None
