"""What a gateway reports of one sandbox to the operator, as one small JSON document. Pure.

The operator makes the sandbox's status of it (`claude_sandbox.backends.gateway_reports` reads it; a test has each read
what the other writes). It has no credential and no identity in it, and never more than LIMIT bytes: a container's
engine keeps 4096 of what a health check prints, and the gateway says more than this there.

Sums are those of the account, each with the time at which it was read; every other fact has a time of its own as well.
So of several gateways' reports the operator takes of each fact what is newest. A second has room for two of them, so
what is compared has milliseconds. What was left of a budget, and whether that sufficed for the last request, are two
facts: a gateway that has read the account since knows nothing of what another one has refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_sandbox.gateway.audit import plain
from claude_sandbox.gateway.broker.reachability import Silence
from claude_sandbox.gateway.broker.recent import Recent
from claude_sandbox.gateway.budget import ledger
from claude_sandbox.gateway.budget.ledger import Account, Budget, Counts
from claude_sandbox.gateway.config.follow import Lack
from claude_sandbox.gateway.services.declared import Unopened
from claude_sandbox.gateway.telemetry.denials import MODEL, Denied
from claude_sandbox.gateway.telemetry.usage import clock, instant, usd

VERSION = 1
LIMIT = 3000
"""Bytes of a report."""
MODELS = 6
"""Models that are told apart: those that cost the most; the rest is together, as `other`."""
FETCHES = 4
"""Repositories that are told of while they are fetched: those of which the most has come."""
OTHER = "other"
_WORDS = 200
"""Characters of what the provider said."""

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """All that a report is made of. `seen`: the account, and when it was read. `generation`: of the credential that is
    used now. `unopened`: services that have no credential, by their names; None where none is declared, or not all
    were looked at. `fetching`: bytes that have come of repositories of which a fetch is under way, by what requests
    name them; they are told of as long as one may be waited for. `lack`: that there is no credential, though its Secret
    is there. Times in seconds since 1970."""

    budget: Budget
    recent: Recent
    denied: Denied
    seen: tuple[Account, float] | None = None
    silence: Silence | None = None
    generation: str | None = None
    unopened: Mapping[str, Unopened] | None = None
    fetching: Mapping[str, int] = field(default_factory=dict)
    lack: Lack | None = None


def report(facts: Facts, now: float) -> str:
    """The report as compact JSON, or empty where there is nothing to say yet."""
    # That no service lacks its credential is said, too: it may be what has changed.
    document = {
        key: part for key, part in _parts(facts, now).items() if part or (key == "unopened" and part is not None)
    }
    if not document:
        return ""
    document = {"version": VERSION, "at": instant(now), **document}
    while len(text := _compact(document)) > LIMIT:
        # What a hostile agent can make long goes first: the oldest denials, then models.
        if document.get("fetching"):
            del document["fetching"]
        elif document.get("denied"):
            document["denied"] = document["denied"][:-1]
        elif document.get("usage", {}).get("models"):
            document["usage"] = {**document["usage"], "models": document["usage"]["models"][:-1]}
        else:
            return ""
    return text


def content(text: str) -> Document:
    """What a report says, without when it was made."""
    return {key: part for key, part in json.loads(text or "{}").items() if key != "at"}


def is_progress(text: str) -> bool:
    """Whether a report says how far something is that is waited for."""
    return bool(content(text).get("fetching"))


def decisive(text: str) -> object:
    """What of a report is not to wait: what turns whether the agent can work, and which credential is in use."""
    found = content(text)
    trouble, budget = found.get("trouble") or {}, found.get("budget") or {}
    return (
        trouble.get("kind"),
        trouble.get("generation"),
        budget.get("state"),
        (found.get("answered") or {}).get("generation"),
        found.get("unopened"),
    )


def _parts(facts: Facts, now: float) -> dict[str, Any]:
    accepted = facts.recent.accepted
    return {
        "usage": _usage(facts, now),
        "budget": _budget(facts, now),
        "answered": {"time": instant(accepted.at), "generation": accepted.generation} if accepted is not None else None,
        "trouble": _trouble(facts, now),
        "unopened": dict(facts.unopened) if facts.unopened is not None else None,
        "fetching": dict(sorted(facts.fetching.items(), key=lambda one: (-one[1], one[0]))[:FETCHES]),
        "denials": facts.denied.count,
        "denied": [
            {"what": str(one.what), "entry": one.entry, "count": one.count, "first": clock(one.first),
             "last": clock(one.at)}
            for one in reversed(facts.denied.entries.values())
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class _Window:
    """The account in the window of this moment. `began`: None where none has begun yet, or a new one will with the
    next request; `earliest`: what was said before is of an earlier one."""

    account: Account
    began: float | None
    earliest: float


def _window(facts: Facts, now: float) -> _Window:
    before = facts.seen[0] if facts.seen is not None else Account()
    account = ledger.current(before, facts.budget, now)
    if before.since is None:
        return _Window(account, None, 0.0)
    if account.since == before.since:
        return _Window(account, before.since, before.since)
    return _Window(account, None, before.since + (facts.budget.window or 0.0))


def _usage(facts: Facts, now: float) -> dict[str, Any] | None:
    if facts.seen is None or facts.seen[0].since is None:
        return None
    this, window = _window(facts, now), facts.budget.window
    return {
        "time": instant(facts.seen[1]),
        **({"windowBegan": clock(this.began)} if this.began is not None else {}),
        **({"windowEnds": clock(this.began + window)} if this.began is not None and window is not None else {}),
        "windowCostUSD": usd(this.account.spent),
        "windowOutputTokens": this.account.written,
        "total": _counts(this.account.models.values()),
        "models": _models(this.account.models),
    }


def _models(models: Mapping[str, Counts]) -> list[dict[str, Any]]:
    """Those that cost the most by name, if that can be told to people; all others together."""
    known = sorted(((name, one) for name, one in models.items() if MODEL.fullmatch(name) and name != OTHER),
                   key=lambda each: (-each[1].cost, each[0]))[:MODELS]  # fmt: skip
    named = {name for name, _ in known}
    rest = [one for name, one in models.items() if name not in named]
    found = [{"model": name, **_counts([one])} for name, one in known]
    return found + ([{"model": OTHER, **_counts(rest)}] if rest else [])


def _counts(counts: Any) -> dict[str, Any]:
    every = list(counts)
    return {
        "requests": sum(one.requests for one in every),
        "inputTokens": sum(one.input for one in every),
        "outputTokens": sum(one.output for one in every),
        "cacheWriteTokens": sum(one.cache_write for one in every),
        "cacheReadTokens": sum(one.cache_read for one in every),
        "costUSD": usd(sum(one.cost for one in every)),
    }


def _budget(facts: Facts, now: float) -> dict[str, Any] | None:
    """`Spent`: nothing is left. `Short`: what is left was too little for the last request. Else `Free`.

    `judged`: when a request was let through or refused last, and whether it was refused.
    """
    budget = facts.budget
    if budget.cost is None and budget.output is None:
        return None
    this, admitted, short = _window(facts, now), facts.recent.admitted, facts.recent.short
    amounts = {
        name: max(0, limit - used)
        for limit, used, name in (
            (budget.cost, this.account.spent, "leftUSD"),
            (budget.output, this.account.written, "leftOutputTokens"),
        )
        if limit is not None
    }
    ends = this.began + budget.window if this.began is not None and budget.window is not None else None
    is_short = short is not None and short[1] == budget and short[0] > admitted and short[0] >= this.earliest
    said = short[0] if short is not None and is_short else admitted
    return {
        "state": "Spent" if not all(amounts.values()) else "Short" if is_short else "Free",
        # By which budget it was judged, so that it is not held against another.
        **({"maxCostUSD": usd(budget.cost)} if budget.cost is not None else {}),
        **({"maxOutputTokens": budget.output} if budget.output is not None else {}),
        **({"leftUSD": usd(amounts["leftUSD"])} if "leftUSD" in amounts else {}),
        **({"leftOutputTokens": amounts["leftOutputTokens"]} if "leftOutputTokens" in amounts else {}),
        **({"began": instant(this.earliest)} if this.earliest else {}),
        **({"until": clock(ends)} if ends is not None else {}),
        **({"judged": {"time": instant(said), "short": is_short}} if said else {}),
        "time": instant(facts.seen[1] if facts.seen is not None else said),
    }


def _trouble(facts: Facts, now: float) -> dict[str, Any] | None:
    """That there is no credential to use, or the provider refuses it, or does not answer at all."""
    if facts.lack is not None:
        since = facts.lack.since
        return {"kind": "KeyMissing", "since": clock(since), "time": instant(since), "message": facts.lack.why}
    refusal, silence = facts.recent.refusal, facts.silence
    # Another gateway may have had answers since that refusal; of a silence that began later this one alone knows.
    silent = silence is not None and (refusal is None or silence.since > refusal.last.at)
    if not silent and refusal is not None and refusal.last.generation == facts.generation:
        found: Mapping[str, Any] = {
            "kind": "KeyRefused", "since": clock(refusal.since), "time": instant(refusal.last.at),
            "generation": refusal.last.generation, "status": refusal.last.status, "type": refusal.last.type,
            "message": plain(refusal.last.message, _WORDS),
        }  # fmt: skip
        return {key: value for key, value in found.items() if value is not None}
    if silence is not None:
        # Said anew each minute: of a gateway that has ended nobody believes for long that there is no answer.
        minute = now - now % 60
        return {
            "kind": "NoAnswer", "since": clock(silence.since),
            "time": instant(max(silence.since, minute)), "message": silence.why,
        }  # fmt: skip
    return None


def _compact(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))
