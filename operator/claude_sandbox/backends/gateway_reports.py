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

from claude_sandbox.api.status_fields.usage import (
    MAX_DENIED,
    MAX_MODELS,
    MAX_SERVICES,
    Answered,
    BudgetLeft,
    BudgetState,
    Denied,
    DeniedEntry,
    ModelUsage,
    ServiceTrouble,
    Trouble,
    TroubleKind,
    UnopenedService,
    UsedWindow,
)

MAX_TEXT = 4096
"""Characters of a report."""
MAX_PARTS = 16
"""Gateways of one sandbox whose reports are read."""
BELIEVED = timedelta(minutes=3)
"""For how long it is believed that the provider does not answer; a gateway says it anew each minute."""
FETCHING_BELIEVED = timedelta(seconds=30)
"""For how long what a fetch has brought is news; a gateway says it anew every few seconds while more comes."""

_REMEMBERED = 2048
"""Texts that are not read again: a sandbox is looked at far more often than something new is told of it."""
_MOST = 2**62
"""Where a sum ends: a status has integers of 64 bits."""
_USD = re.compile(r"(?:0|[1-9][0-9]{0,12})(?:\.[0-9]{1,9})?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3})?Z")
_MODEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:@-]{0,63}")
_DESTINATION = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,92}[a-z0-9])?(?::[0-9]{1,5})?")
_SERVICE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,28}[a-z0-9])? [A-Z]{3,7} /[A-Za-z0-9._~/-]{0,59}")
_SERVICE_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,28}[a-z0-9])?")
_ENTRIES = {Denied.DESTINATION: _DESTINATION, Denied.MODEL: _MODEL, Denied.SERVICE: _SERVICE}
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9.:-]{0,260}(?:/[A-Za-z0-9._~-]{1,128}){1,16}")
_MAX_FETCHES = 8
_GENERATION = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_COUNTS = ("requests", "inputTokens", "outputTokens", "cacheWriteTokens", "cacheReadTokens")

_NEVER = datetime.min.replace(tzinfo=UTC)

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
    """How a budget stood at a time; `cost` (USD) and `output` (tokens) are the limits of that budget. `judged`: when a
    request was let through or refused last; `short`: it was refused. `began`: the window that this is of."""

    time: datetime
    cost: Decimal | None
    output: int | None
    left: BudgetLeft
    judged: datetime | None = None
    short: bool = False
    began: datetime | None = None


@dataclass(frozen=True)
class Report:
    """What is told of one sandbox, by one gateway or by all of them. `told`: when it was last; it, `answered_at` and
    `trouble_at` are as exact as was said, since they tell what is newer. `unopened`: services
    without a credential; None where nothing is told of services. `fetching`: bytes that had come of repositories of
    which a fetch was under way at `fetching_at`, by `HOST/PATH`."""

    told: datetime
    used: Used | None = None
    budgets: tuple[ReportedBudget, ...] = ()
    answered: Answered | None = None
    answered_at: datetime | None = None
    trouble: Trouble | None = None
    trouble_at: datetime | None = None
    denials: int = 0
    denied: tuple[DeniedEntry, ...] = field(default=())
    unopened: tuple[UnopenedService, ...] | None = None
    fetching: Mapping[str, int] = field(default_factory=dict)
    fetching_at: datetime | None = None


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
    answered = _part(found.get("answered"), _answered)
    fetching = _part(found.get("fetching"), _fetching) or {}
    return Report(
        told,
        _part(found.get("usage"), _used),
        tuple(one for one in (_part(found.get("budget"), _budget),) if one is not None),
        answered[0] if answered is not None else None,
        answered[1] if answered is not None else None,
        trouble[0] if trouble is not None else None,
        trouble[1] if trouble is not None else None,
        _part(found.get("denials"), _count) or 0,
        _denied(found.get("denied")),
        _part(found.get("unopened"), _unopened),
        fetching,
        told if fetching else None,
    )


def merged(reports: Iterable[Report]) -> Report | None:
    """What several gateways report of one sandbox: of each fact the newest; denials added up."""
    parts = sorted(reports, key=lambda one: one.told)[-MAX_PARTS:]
    if not parts:
        return None
    # Not added up: all gateways of a namespace count into the same account, and each tells of all of it.
    used = max((one.used for one in parts if one.used is not None), key=lambda one: one.time, default=None)
    answered = max((one for one in parts if one.answered_at), key=lambda one: one.answered_at or _NEVER, default=None)
    troubled = max(
        (one for one in parts if one.trouble_at), key=lambda one: (one.trouble_at or _NEVER, one.told), default=None
    )
    # Another gateway has had an answer since. What the troubled one had itself would have ended its trouble.
    if troubled is not None and any(
        (one.answered_at or _NEVER) > (troubled.trouble_at or _NEVER) for one in parts if one is not troubled
    ):
        troubled = None
    return Report(
        parts[-1].told,
        used,
        tuple(budget for one in parts for budget in one.budgets),
        answered.answered if answered is not None else None,
        answered.answered_at if answered is not None else None,
        troubled.trouble if troubled is not None else None,
        troubled.trouble_at if troubled is not None else None,
        min(sum(one.denials for one in parts), _MOST),
        _added(denied for one in parts for denied in one.denied),
        next((one.unopened for one in reversed(parts) if one.unopened is not None), None),
        *next(((one.fetching, one.fetching_at) for one in reversed(parts) if one.fetching), ({}, None)),
    )


def believed(report: Report, now: datetime) -> Report:
    """The report without what is too old to be still so."""
    if report.fetching_at is not None and now - report.fetching_at > FETCHING_BELIEVED:
        report = replace(report, fetching={}, fetching_at=None)
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
        report.unopened,
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
    judged = max((one for one in same if one.judged), key=lambda one: one.judged or _NEVER, default=None)
    if judged is None or newest.left.state is BudgetState.SPENT:
        return newest.left
    # A refusal in an earlier window says nothing of this one.
    short = judged.short and (newest.began is None or (judged.judged or _NEVER) >= newest.began)
    return newest.left.model_copy(update={"state": BudgetState.SHORT if short else BudgetState.FREE})


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
        began=_maybe(fields.get("windowBegan"), _second),
        ends=_maybe(fields.get("windowEnds"), _second),
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
        until=_maybe(fields.get("until"), _second),
    )
    cost = _maybe(fields.get("maxCostUSD"), _usd)
    output = _maybe(fields.get("maxOutputTokens"), _count)
    judged = _maybe(fields.get("judged"), _object) or {}
    return ReportedBudget(
        _time(fields.get("time")),
        None if cost is None else Decimal(cost),
        output,
        left,
        _maybe(judged.get("time"), _time),
        judged.get("short") is True,
        _maybe(fields.get("began"), _time),
    )


def _answered(value: Any) -> tuple[Answered, datetime]:
    fields = _object(value)
    at = _time(fields.get("time"))
    return Answered(time=whole(at), generation=_maybe(fields.get("generation"), _generation)), at


def _trouble(value: Any) -> tuple[Trouble, datetime]:
    fields = _object(value)
    kind, status = fields.get("type"), fields.get("status")
    said = str(fields.get("message") or "")[:MAX_TEXT]
    words = [part for part in (str(status) if type(status) is int else "", str(kind or "")[:64]) if part]
    trouble = Trouble(
        kind=_choice(fields.get("kind"), TroubleKind),
        since=_second(fields.get("since")),
        generation=_maybe(fields.get("generation"), _generation),
        message=f"{' '.join(words)}: {said}" if words and said else said or " ".join(words),
    )
    return trouble, _time(fields.get("time"))


def _unopened(value: Any) -> tuple[UnopenedService, ...]:
    found = sorted(_object(value).items())[:MAX_SERVICES]
    return tuple(
        UnopenedService(name=_word(name, _SERVICE_NAME), why=_choice(why, ServiceTrouble)) for name, why in found
    )


def _fetching(value: Any) -> Mapping[str, int]:
    found = list(_object(value).items())[:_MAX_FETCHES]
    return {_word(name, _REPOSITORY): _count(size) for name, size in found}


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
        first=_second(fields.get("first")),
        last=_second(fields.get("last")),
    )


def _maybe(value: Any, how: Callable[[Any], Part]) -> Part | None:
    return None if value is None else how(value)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _MalformedError
    return value


def _count(value: Any) -> int:
    # To Python, true is an int too.
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


def whole(at: datetime) -> datetime:
    """The time as a status has it, in whole seconds: else what is told would never be what was told before."""
    return at.replace(microsecond=0)


def _second(value: Any) -> datetime:
    return whole(_time(value))


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(_word(value, _TIME)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _MalformedError from None
