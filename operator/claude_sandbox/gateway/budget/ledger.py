"""What a sandbox has used of its budget. Pure: each change makes a new `Account` from an old one.

Theory of operation. A request *reserves* the most that it can cost before it is sent, and is refused where what was
spent and what is reserved would be more than the budget with it; when it is over, what it did cost takes the place of
the reservation (*settle*). So at each moment spent + reserved ≤ budget, as long as no request costs more than it
reserved; should one, `overrun` counts by how much.

An account is one JSON document in a store that swaps it only if it is still the one that was read, so any number of
gateways may share it. Each gateway's last batch of changes is noted in it (`writers`), so that one that did not hear
whether its batch was written can read it there, and never makes it twice. A gateway that dies leaves its reservations
behind: they count in full, and become spent when they are older than any request may be (`LOST_AFTER`), or at once
where it is certain that no gateway is left that could settle them (`buried`). Nobody gives back what nobody knows.

A window begins with the first request, and the next begins with the first request after its end. What is still
reserved then is carried over, and counts where it is settled. Times are those of the gateway that makes the change:
where clocks differ, a window begins by the fastest, so early by as much as they differ, and what is spent within one
window is never more than the budget by any of them.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.gateway.budget.prices import NANO, Bound, Tokens

LOST_AFTER = 24 * 3600.0
"""Seconds after which a reservation is that of a gateway that died."""
MAX_MODELS = 20
"""Models that are counted by name; further ones are counted together, as `other`."""
MAX_RESERVED = 4000
"""Requests under way, those of dead gateways included; with them an account has less than half of the 1 MiB that an
object of the API server may have. One that is too large to be written could never be made smaller again."""
MAX_WRITERS = 16
"""Gateways whose last batch is noted: those that wrote last. Two replicas and those that a rollout brings are few."""


@dataclass(frozen=True)
class Budget:
    """Limits of a window: nano-USD, output tokens, and its length in seconds. None is no limit, or no end."""

    cost: int | None = None
    output: int | None = None
    window: float | None = None


@dataclass(frozen=True)
class Counts:
    """Of one model, ever since the account began."""

    requests: int = 0
    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0
    cost: int = 0


@dataclass(frozen=True)
class Reservation:
    """Of one request that is under way: nano-USD, output tokens, and when (seconds since 1970)."""

    cost: int
    output: int
    at: float


@dataclass(frozen=True)
class Account:
    """Of one sandbox. `spent` and `written` are of the window that began at `since`; `models` of all time.

    `writers`: the number of the last batch of each gateway, the latest writer at the end.
    """

    since: float | None = None
    spent: int = 0
    written: int = 0
    lost: int = 0
    overrun: int = 0
    reserved: Mapping[str, Reservation] = field(default_factory=dict)
    models: Mapping[str, Counts] = field(default_factory=dict)
    writers: Mapping[str, int] = field(default_factory=dict)


class BudgetSpentError(Exception):
    """A request would go beyond the budget. The message is for the agent and the person behind it.

    `hopeless`: it would even if nothing else were under way.
    """

    def __init__(self, message: str, *, hopeless: bool) -> None:
        super().__init__(message)
        self.hopeless = hopeless


def reserve(account: Account, budget: Budget, request: str, bound: Bound, now: float) -> Account:
    """The account with this request's reservation. Raises BudgetSpentError."""
    account = current(account, budget, now)
    if len(account.reserved) >= MAX_RESERVED:
        raise BudgetSpentError(f"{MAX_RESERVED} requests of this sandbox are under way: wait for some.", hopeless=False)
    pending = account.reserved.values()
    checks = (
        ("cost", budget.cost, account.spent, sum(one.cost for one in pending), bound.cost),
        ("output", budget.output, account.written, sum(one.output for one in pending), bound.output),
    )
    for what, limit, used, held, asked in checks:
        if limit is not None and used + held + asked > limit:
            raise BudgetSpentError(
                _message(what, limit, used, held, asked, _ends(account, budget)), hopeless=used + asked > limit
            )
    reserved = {**account.reserved, request: Reservation(bound.cost, bound.output, now)}
    return replace(account, reserved=reserved)


def settle(
    account: Account, budget: Budget, request: str, model: str, tokens: Tokens, cost: int, now: float
) -> Account:
    """The account with what this request used in place of its reservation. Nothing where it has none (any more)."""
    # It may have been taken for a dead gateway's, and is counted in full then: not twice.
    held = account.reserved.get(request)
    if held is None:
        return account
    account = count(account, budget, model, tokens, cost, now)
    return replace(release(account, request), overrun=account.overrun + max(0, cost - held.cost))


def count(account: Account, budget: Budget, model: str, tokens: Tokens, cost: int, now: float) -> Account:
    """The account with what a request used that reserved nothing, because there was no budget when it came."""
    account = current(account, budget, now)
    # Names come from outside, and an account has to stay small enough to be written.
    name = model if model in account.models or len(account.models) < MAX_MODELS else "other"
    before = account.models.get(name, Counts())
    after = Counts(
        before.requests + 1,
        before.input + tokens.input,
        before.output + tokens.output,
        before.cache_write + tokens.cache_write_5m + tokens.cache_write_1h,
        before.cache_read + tokens.cache_read,
        before.cost + cost,
    )
    return replace(
        account,
        spent=account.spent + cost,
        written=account.written + tokens.output,
        models={**account.models, name: after},
    )


def release(account: Account, request: str) -> Account:
    """The account without this request's reservation: it was never sent, or was answered with an error."""
    return replace(account, reserved={key: one for key, one in account.reserved.items() if key != request})


def signed(account: Account, writer: str, number: int) -> Account:
    """The account with this batch noted as the writer's last."""
    others = [(key, last) for key, last in account.writers.items() if key != writer]
    return replace(account, writers={**dict(others[-(MAX_WRITERS - 1) :]), writer: number})


def is_written(account: Account, writer: str, number: int) -> bool:
    """Whether this batch of the writer is in the account."""
    return account.writers.get(writer, 0) >= number


def current(account: Account, budget: Budget, now: float) -> Account:
    """The account in the window of this moment, with what dead gateways reserved counted as spent."""
    if account.since is None or (budget.window is not None and now >= account.since + budget.window):
        account = replace(account, since=now, spent=0, written=0)
    # Once the window has begun anew: what is carried over into it counts in it.
    return _counted(account, {key: one for key, one in account.reserved.items() if now - one.at > LOST_AFTER})


def buried(account: Account) -> Account:
    """The account with all that is reserved counted as spent: whoever reserved it is dead."""
    return _counted(account, account.reserved)


def _counted(account: Account, dead: Mapping[str, Reservation]) -> Account:
    """The account with these reservations counted as spent."""
    if not dead:
        return account
    return replace(
        account,
        spent=account.spent + sum(one.cost for one in dead.values()),
        written=account.written + sum(one.output for one in dead.values()),
        lost=account.lost + len(dead),
        reserved={key: one for key, one in account.reserved.items() if key not in dead},
    )


def _ends(account: Account, budget: Budget) -> float | None:
    return None if account.since is None or budget.window is None else account.since + budget.window


def _message(what: str, limit: int, used: int, held: int, asked: int, ends: float | None) -> str:
    def said(amount: int) -> str:
        return f"{amount / NANO:.4f} USD" if what == "cost" else f"{amount} output tokens"

    reason = "is spent" if used >= limit else "does not suffice for this request"
    until = "" if ends is None else f" A new window begins at {_clock(ends)}."
    return (
        f"The budget of this sandbox {reason}: {said(limit)} are allowed, {said(used)} used, {said(held)} held by "
        f"requests under way, and this one may take {said(asked)}.{until} Ask for less with max_tokens, or have "
        f"the budget raised."
    )


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def dumps(account: Account) -> str:
    """The account as a document."""
    return json.dumps(asdict(account), separators=(",", ":"))


def loads(text: str) -> Account:
    """Read an account. Raises ValueError for what is none: anybody may have written it who may write where it is."""
    try:
        document: dict[str, Any] = json.loads(text)
        reserved = {key: Reservation(**one) for key, one in document.pop("reserved").items()}
        models = {key: Counts(**one) for key, one in document.pop("models").items()}
        writers = dict(document.pop("writers", {}))
        account = Account(**document, reserved=reserved, models=models, writers=writers)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("this is no account") from error
    times = [one.at for one in reserved.values()] + ([] if account.since is None else [account.since])
    counts = [account.spent, account.written, account.lost, account.overrun, *writers.values()]
    counts += [value for one in reserved.values() for value in (one.cost, one.output)]
    counts += [value for one in models.values() for value in astuple(one)]
    # The very type: True would be an int as well.
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("a number in this account is none")
    # Python reads NaN from JSON, with which no comparison holds, so that a window would never end.
    if not all(type(at) in (int, float) and math.isfinite(at) for at in times):
        raise ValueError("a time in this account is none")
    return account
