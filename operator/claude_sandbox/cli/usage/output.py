"""What was used, as tables for people and as JSON for programs. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from claude_sandbox.api.clip import plain
from claude_sandbox.api.status_fields.usage import Denied, Trouble, TroubleKind, Usage
from claude_sandbox.cli.columns import columns
from claude_sandbox.cli.usage.reading import Sandbox, Used, by_model, total

WHERE = {
    Denied.DESTINATION: "spec.network.egress.allowedDomains",
    Denied.MODEL: "spec.model.allowed",
    Denied.SERVICE: "spec.services",
}
"""Where in the spec an entry would have to stand."""
_TROUBLES = {
    TroubleKind.KEY_MISSING: "the gateway has no key to send",
    TroubleKind.KEY_REFUSED: "the model's provider refuses the key",
    TroubleKind.NO_ANSWER: "the model's provider does not answer",
}
_COUNTS = ("REQUESTS", "INPUT", "OUTPUT", "CACHE", "USD")


def tables(found: Sequence[Sandbox], now: datetime) -> Iterator[str]:
    """A line for each sandbox and for all, each model's, what is wrong, and what was denied."""
    if not found:
        yield "There is no ClaudeSandbox."
        return
    rows = [(one.full_name, *_cells(one), *_budget(one, now), str(_denials(one))) for one in found]
    if len(found) > 1:
        rows.append(("all", *_counts(total(found)), "", "", "", str(sum(map(_denials, found)))))
    yield from columns([("SANDBOX", *_COUNTS, "BUDGET", "LEFT", "UNTIL", "DENIED"), *rows])
    if models := by_model(found):
        yield ""
        yield from columns([("MODEL", *_COUNTS), *((plain(name), *_counts(used)) for name, used in models.items())])
    yield from _wrong(found)
    yield from _denied(found)


def document(found: Sequence[Sandbox], read: str, now: datetime) -> dict[str, Any]:
    """As JSON. `read`: which sandboxes these are."""
    return {
        "generatedAt": _time(now),
        "scope": read,
        "total": _used(total(found)),
        "models": [{"model": name, **_used(used)} for name, used in by_model(found).items()],
        "sandboxes": [_sandbox(one, now) for one in found],
    }


def _sandbox(one: Sandbox, now: datetime) -> dict[str, Any]:
    usage, spent = one.usage, one.spent(now)
    told = _as_told(usage)
    return {
        "namespace": one.namespace,
        "name": one.name,
        "used": None if usage is None else _used(one.used),
        "models": [{"model": name, **_used(used)} for name, used in one.models.items()],
        "budget": None
        if one.limits is None
        else {
            "limits": one.limits.model_dump(mode="json", by_alias=True, exclude_none=True),
            "spent": None if spent is None else float(round(spent, 4)),
            "window": told.get("window"),
            "left": told.get("budget"),
        },
        "denials": _denials(one),
        "denied": [entry | {"field": WHERE[Denied(entry["what"])]} for entry in told.get("denied") or ()],
        "trouble": told.get("trouble"),
        "unopenedServices": told.get("unopenedServices") or [],
        "reportedAt": told.get("reportedAt"),
        "note": one.why or None,
    }


def _as_told(usage: Usage | None) -> Mapping[str, Any]:
    return {} if usage is None else usage.model_dump(mode="json", by_alias=True, exclude_none=True)


def _used(used: Used) -> dict[str, Any]:
    return {
        "requests": used.requests,
        "inputTokens": used.input,
        "outputTokens": used.output,
        "cacheWriteTokens": used.cache_write,
        "cacheReadTokens": used.cache_read,
        "costUSD": _plain(used.cost),
    }


def _cells(one: Sandbox) -> tuple[str, ...]:
    return _counts(one.used) if one.usage is not None else ("-",) * len(_COUNTS)


def _counts(used: Used) -> tuple[str, ...]:
    counts = (used.requests, used.input, used.output, used.cache_write + used.cache_read)
    return (*map(str, counts), f"{used.cost:.4f}")


def _budget(one: Sandbox, now: datetime) -> tuple[str, str, str]:
    """Its state with the part that is spent, what is left, and until when."""
    spent, left = one.spent(now), one.usage.budget if one.usage is not None else None
    if one.limits is None or spent is None:
        return "none", "-", "-"
    until = left.until if left is not None else None
    if left is None or (until is not None and until <= now):
        # Nothing of it is used, or the next request begins a new window.
        whole = ([] if one.limits.cost is None else [f"{_plain(one.limits.cost)} USD"]) + _tokens(
            one.limits.max_output_tokens
        )
        return "Free (0 %)", ", ".join(whole), "-"
    amounts = ([] if left.left_usd is None else [f"{plain(left.left_usd)} USD"]) + _tokens(left.left_output_tokens)
    return f"{left.state} ({spent:.0%})".replace("%", " %"), ", ".join(amounts) or "-", _time(until) if until else "-"


def _tokens(number: int | None) -> list[str]:
    return [] if number is None else [f"{number} tokens"]


def _denials(one: Sandbox) -> int:
    return (one.usage.denials if one.usage is not None else None) or 0


def _wrong(found: Sequence[Sandbox]) -> Iterator[str]:
    lines = []
    for one in found:
        if one.why:
            lines.append(f"{one.full_name}: {one.why}")
        if one.usage is not None and one.usage.trouble is not None:
            lines.append(f"{one.full_name}: {_trouble(one.usage.trouble)}")
        for service in (one.usage.unopened_services if one.usage is not None else None) or ():
            lines.append(f"{one.full_name}: service {plain(service.name)} has no credential ({service.why})")
    if lines:
        yield ""
        yield from lines


def _trouble(trouble: Trouble) -> str:
    return f"{_TROUBLES[trouble.kind]} since {_time(trouble.since)}: {plain(trouble.message)}"


def _denied(found: Sequence[Sandbox]) -> Iterator[str]:
    entries = [(one, entry) for one in found for entry in (one.usage.denied if one.usage is not None else None) or ()]
    if not entries:
        return
    entries.sort(key=lambda each: (-each[1].count, each[0].full_name, each[1].entry))
    rows = [
        (one.full_name, str(entry.count), _time(entry.last), f"{WHERE[entry.what]}: - {plain(entry.entry)}")
        for one, entry in entries
    ]
    yield ""
    yield from columns([("DENIED", "COUNT", "LAST", "WHAT WOULD ALLOW IT"), *rows])
    yield "The agent chose what it asked for: allow what you know, and nothing because it was asked for."


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(cost: Decimal) -> str:
    """Without an exponent, and without zeros at its end."""
    text = f"{cost:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
