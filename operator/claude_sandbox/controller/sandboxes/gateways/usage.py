"""What a sandbox's gateway has told, as its status says it, and whether the agent can work by that. Pure.

What is told is kept where nobody tells it anew (a gateway that was just made knows nothing of before), but for what was
wrong: of that only the present counts.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from claude_sandbox.api.clip import clip
from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.fields.budget import Budget
from claude_sandbox.api.status_fields.usage import BudgetState, Trouble, TroubleKind, Usage
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.backends.gateway_reports import BELIEVED, Report, believed, budget_of, whole

EVERY = 60.0
"""Seconds between two writes of a status that say nothing but what was used since."""
_WORDS = 110
"""Bytes of the provider's words in a message, so that the remedy behind them is not cut."""
_SUMS = ("requests", "input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost_usd")


def previous_usage(status: Mapping[str, Any]) -> Usage | None:
    """What the status says; None where that can't be read, as of another version."""
    try:
        return Usage.model_validate(status["usage"]) if status.get("usage") else None
    except ValidationError:
        return None


def usage_of(report: Report | None, before: Usage | None, budget: Budget | None, now: datetime) -> Usage | None:
    """What is to be said: what the gateways report, and of the rest what was said before."""
    if report is None:
        nothing = dict.fromkeys(("trouble", "budget", "unopened_services"))
        # Sums stay, for they were true; trouble was of the gateway that does not answer any more.
        return None if before is None else before.model_copy(update=nothing)
    report = believed(report, now)
    update: dict[str, Any] = {
        "trouble": report.trouble,
        "unopened_services": list(report.unopened or ()) or None,
        "budget": None if budget is None else budget_of(report, budget.cost, budget.max_output_tokens, now),
    }
    if report.used is not None:
        total = report.used.total
        update |= {name: getattr(total, name) for name in _SUMS}
        update |= {"window": report.used.window, "models": list(report.used.models) or None}
    if report.answered is not None:
        update["last_answered"] = report.answered
    if report.denials:
        update |= {"denials": report.denials, "denied": list(report.denied) or None}
    told = whole(report.told)
    found = (before or Usage(reported_at=told)).model_copy(update=update)
    # A report that says the same is no reason for a write.
    return found if found == before else found.model_copy(update={"reported_at": told})


def usage_after(workload: WorkloadState, before: Usage | None, budget: Budget | None, now: datetime) -> Usage | None:
    """What the sandbox's gateway tells; of one that can't be asked, what was told before."""
    if workload.status is ConditionStatus.UNKNOWN:
        return before
    return usage_of(workload.report, before, budget, now)


def over_in(usage: Usage | None, now: datetime) -> float | None:
    """Seconds until what is wrong may be over by itself, though no gateway tells; None where nothing is."""
    if usage is None:
        return None
    if usage.trouble is not None and usage.trouble.kind is TroubleKind.NO_ANSWER:
        return BELIEVED.total_seconds()
    left = usage.budget
    if left is None or left.until is None or left.state is BudgetState.FREE:
        return None
    # A moment later, since times have whole seconds.
    return max(1.0, (left.until - now).total_seconds() + 1)


def waits(before: Usage | None, found: Usage | None, age: float) -> bool:
    """Whether what is found may wait, since the last write was only `age` seconds ago."""
    if before is None or found is None or age >= EVERY:
        return False
    return _decisive(before) == _decisive(found)


def _decisive(usage: Usage) -> object:
    trouble, answered, budget = usage.trouble, usage.last_answered, usage.budget
    return (
        (trouble.kind, trouble.generation) if trouble is not None else None,
        answered.generation if answered is not None else None,
        (budget.state, budget.until) if budget is not None else None,
        usage.unopened_services,
    )


def refused_key(usage: Usage | None, generation: str | None) -> Trouble | None:
    """That the provider refuses the key that is used now, which is of this generation, where that is known."""
    trouble = usage.trouble if usage is not None else None
    if trouble is None or trouble.kind is not TroubleKind.KEY_REFUSED:
        return None
    # What was said of another generation was said of a key that is not used any more.
    return trouble if generation is None or trouble.generation in (None, generation) else None


def missing_key(usage: Usage | None) -> str:
    """What to do about a key that the Secret has not got; empty where it has, or nobody knows."""
    trouble = usage.trouble if usage is not None else None
    if trouble is None or trouble.kind is not TroubleKind.KEY_MISSING:
        return ""
    return (
        f"The gateway has no key to send: {clip(trouble.message, 2 * _WORDS)}. Write it there, as one word, or name"
        " the Secret and its key that have it in spec.credentials; the next request uses it."
    )


def problem(
    usage: Usage | None, generation: str | None, budget: Budget | None, secret: str | None
) -> tuple[Reason, str] | None:
    """Why the agent can't work although Claude Code and the gateway do, with the remedy; None where it can."""
    if usage is None:
        return None
    if message := missing_key(usage):
        return Reason.SECRET_KEY_MISSING, message
    if (trouble := refused_key(usage, generation)) is not None:
        return Reason.KEY_REFUSED, key_refused(trouble, secret)
    if usage.trouble is not None and usage.trouble.kind is TroubleKind.NO_ANSWER:
        message = (
            f"The model's provider has not answered the gateway since {_clock(usage.trouble.since)}:"
            f" {clip(usage.trouble.message, _WORDS)}. That ends by itself when it does; if it lasts, see that the"
            " gateway can reach the provider's base URL."
        )
        return Reason.PROVIDER_SILENT, message
    if budget is not None and usage.budget is not None and usage.budget.state is not BudgetState.FREE:
        return Reason.BUDGET_SPENT, _spent(usage, budget)
    return None


def ends_by_itself(usage: Usage | None, reason: Reason) -> bool:
    """Whether nobody need act for it to end."""
    if reason is Reason.PROVIDER_SILENT:
        return True
    return reason is Reason.BUDGET_SPENT and usage is not None and usage.budget is not None and bool(usage.budget.until)


def key_refused(trouble: Trouble, secret: str | None) -> str:
    """The message."""
    which = f" of generation {trouble.generation}" if trouble.generation else ""
    return (
        f"The model's provider refuses the key{which}: {clip(trouble.message, _WORDS)}. Put a key that it takes into"
        f" the Secret {clip(secret or 'that is named', 80)}; the next request uses it."
    )


def _spent(usage: Usage, budget: Budget) -> str:
    left = usage.budget
    assert left is not None  # noqa: S101 - who calls has looked
    limits = [
        f"{name}: {said}"
        for name, said, rest in (
            ("maxCostUSD", f'"{budget.max_cost_usd}"', left.left_usd),
            ("maxOutputTokens", str(budget.max_output_tokens), left.left_output_tokens),
        )
        if rest is not None and (left.state is BudgetState.SHORT or rest in ("0", 0))
    ]
    reason = (
        "is spent"
        if left.state is BudgetState.SPENT
        else f"has too little left for the last request ({_left(left.left_usd, left.left_output_tokens)})"
    )
    named = f" (spec.budget.{', '.join(limits)})" if limits else ""
    if left.until is not None:
        return f"The budget{named} {reason}. A new window begins at {_clock(left.until)}; to go on before, raise it."
    return f"The budget{named} {reason}: the gateway lets no request through. Raise it, or give it a window."


def _left(usd: str | None, tokens: int | None) -> str:
    said = ([] if usd is None else [f"{usd} USD"]) + ([] if tokens is None else [f"{tokens} tokens"])
    return ", ".join(said)


def _clock(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
