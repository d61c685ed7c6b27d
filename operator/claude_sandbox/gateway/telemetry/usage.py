"""What each sandbox has used, and how its last requests went: the document of `GET /usage`. Pure.

For whoever writes the sandboxes' status. It has no credential and no identity in it, and of what the provider said only
what `recent` let through; sandboxes can't reach the listener that serves it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.gateway.broker.recent import Moment, Recent
from claude_sandbox.gateway.budget import ledger
from claude_sandbox.gateway.budget.ledger import Account
from claude_sandbox.gateway.budget.prices import NANO
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.telemetry.denials import Denied


def usage_of(sandbox: Sandbox, account: Account | str, recent: Recent, denied: Denied, now: float) -> dict[str, Any]:
    """Of one sandbox. `account`: why it can't be had, where it can't."""
    told = {"lastRequest": recent.request, "lastAccepted": recent.accepted, "lastError": recent.error}
    return {
        "uid": sandbox.uid,
        "namespace": sandbox.namespace,
        "name": sandbox.name,
        **({"accountError": account} if isinstance(account, str) else {"account": _account(sandbox, account, now)}),
        **{key: _moment(moment) for key, moment in told.items() if moment is not None},
        **({"denied": _denied(denied)} if denied.count else {}),
    }


def _denied(denied: Denied) -> dict[str, Any]:
    """The newest first."""
    return {
        "count": denied.count,
        "entries": [
            {"what": str(one.what), "entry": one.entry, "count": one.count, "time": clock(one.at)}
            for one in reversed(denied.entries.values())
        ],
    }


def _account(sandbox: Sandbox, account: Account, now: float) -> dict[str, Any]:
    """Sums of the window of this moment; models of all time."""
    begun = account.since is not None
    account = ledger.current(account, sandbox.budget, now)
    window, held = sandbox.budget.window, account.reserved.values()
    ends = account.since + window if begun and account.since is not None and window is not None else None
    return {
        **({"windowBegan": clock(account.since)} if begun and account.since is not None else {}),
        **({"windowEnds": clock(ends)} if ends is not None else {}),
        "costUSD": usd(account.spent),
        "outputTokens": account.written,
        "heldCostUSD": usd(sum(one.cost for one in held)),
        "heldOutputTokens": sum(one.output for one in held),
        "requestsUnderWay": len(held),
        "requestsLost": account.lost,
        "overrunUSD": usd(account.overrun),
        "models": [
            {"model": name, "requests": one.requests, "inputTokens": one.input, "outputTokens": one.output,
             "cacheWriteTokens": one.cache_write, "cacheReadTokens": one.cache_read, "costUSD": usd(one.cost)}
            for name, one in sorted(account.models.items())
        ],
    }  # fmt: skip


def _moment(moment: Moment) -> dict[str, Any]:
    fields: Mapping[str, Any] = {
        "time": clock(moment.at), "generation": moment.generation, "status": moment.status, "type": moment.type,
        "message": moment.message,
    }  # fmt: skip
    return {key: value for key, value in fields.items() if value is not None}


def usd(nano: int) -> str:
    """An amount as a decimal number, exact: JSON's numbers are not for money."""
    return f"{nano // NANO}.{nano % NANO:09d}".rstrip("0").rstrip(".")


def clock(seconds: float) -> str:
    """A time as the API server writes it; empty for one that no calendar has."""
    found = instant(seconds)
    return f"{found[:-5]}Z" if found else ""


def instant(seconds: float) -> str:
    """A time with its milliseconds, for who must know which of two came first; empty for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC).isoformat(timespec='milliseconds')[:-6]}Z"
    except (OverflowError, ValueError, OSError):
        return ""
