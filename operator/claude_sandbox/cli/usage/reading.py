"""From ClaudeSandboxes, as the API server or a file has them, to what each has used. Pure.

Only statuses are read: the figures are those of the gateway's price table, as they were when the operator wrote them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from claude_sandbox.api.clip import plain
from claude_sandbox.api.fields.budget import Budget
from claude_sandbox.api.status_fields.usage import ModelUsage, Usage

MOUNTED = "holds its key itself, so nobody counts"
NOTHING_YET = "has used nothing yet"
UNREADABLE = "its status is of another version: take the claude-sandbox of the operator's version"


class Order(StrEnum):
    """What is shown first."""

    COST = "cost"
    TOKENS = "tokens"
    REQUESTS = "requests"
    BUDGET = "budget"
    NAME = "name"


@dataclass(frozen=True)
class Used:
    """Requests and tokens, and what they have cost in USD."""

    requests: int = 0
    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0
    cost: Decimal = Decimal(0)

    def __add__(self, other: "Used") -> "Used":
        return Used(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def tokens(self) -> int:
        return self.input + self.output + self.cache_write + self.cache_read


@dataclass(frozen=True)
class Sandbox:
    """What its status says. `why`: why it says nothing of what was used, in a phrase; else empty."""

    namespace: str
    name: str
    used: Used
    models: Mapping[str, Used]
    limits: Budget | None
    usage: Usage | None
    why: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"

    def spent(self, now: datetime) -> Decimal | None:
        """Which part of its budget is spent, from 0; of two limits the one that is nearer. None: it has no budget."""
        if self.limits is None:
            return None
        window = self.usage.window if self.usage is not None else None
        if window is None or (window.ends is not None and window.ends <= now):
            return Decimal(0)
        parts = [Decimal(0)]
        if self.limits.cost:
            parts.append(amount(window.cost_usd) / self.limits.cost)
        if self.limits.max_output_tokens:
            parts.append(Decimal(window.output_tokens) / self.limits.max_output_tokens)
        return max(parts)


def sandboxes(documents: Iterable[Mapping[str, Any]], order: Order, now: datetime) -> list[Sandbox]:
    """In this order, what is most first; what is the same, by its name."""
    found = sorted(map(_sandbox, documents), key=lambda one: (one.namespace, one.name))
    most: Mapping[Order, Callable[[Sandbox], Decimal | int]] = {
        Order.COST: lambda one: one.used.cost,
        Order.TOKENS: lambda one: one.used.tokens,
        Order.REQUESTS: lambda one: one.used.requests,
        Order.BUDGET: lambda one: -1 if (part := one.spent(now)) is None else part,
    }
    # What is equal keeps its order by name, in reverse too.
    return found if order is Order.NAME else sorted(found, key=most[order], reverse=True)


def total(found: Iterable[Sandbox]) -> Used:
    """Of all of them."""
    return sum((one.used for one in found), Used())


def by_model(found: Iterable[Sandbox]) -> dict[str, Used]:
    """Of all of them, the dearest model first."""
    sums: dict[str, Used] = {}
    for sandbox in found:
        for model, used in sandbox.models.items():
            sums[model] = sums.get(model, Used()) + used
    return dict(sorted(sums.items(), key=lambda item: (-item[1].cost, item[0])))


def amount(text: str | None) -> Decimal:
    """USD as the status has it; 0 for what is no amount."""
    try:
        found = Decimal(text or "0")
    except InvalidOperation:
        return Decimal(0)
    return found if found.is_finite() else Decimal(0)


def _sandbox(document: Mapping[str, Any]) -> Sandbox:
    metadata, spec, status = (_fields(document, name) for name in ("metadata", "spec", "status"))
    limits, usage, why = _limits(spec), None, NOTHING_YET
    if _fields(spec, "credentials").get("delivery") == "Mounted":
        why = MOUNTED
    if told := status.get("usage"):
        try:
            usage, why = Usage.model_validate(told), ""
        except ValidationError:
            why = UNREADABLE
    return Sandbox(
        plain(str(metadata.get("namespace", ""))),
        plain(str(metadata.get("name", ""))),
        _used(usage) if usage is not None else Used(),
        {} if usage is None else {one.model: _used(one) for one in usage.models or ()},
        limits,
        usage,
        why,
    )


def _limits(spec: Mapping[str, Any]) -> Budget | None:
    try:
        return Budget.model_validate(spec["budget"]) if spec.get("budget") else None
    except ValidationError:
        return None


def _used(of: Usage | ModelUsage) -> Used:
    return Used(
        of.requests or 0,
        of.input_tokens or 0,
        of.output_tokens or 0,
        of.cache_write_tokens or 0,
        of.cache_read_tokens or 0,
        amount(of.cost_usd),
    )


def _fields(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}
