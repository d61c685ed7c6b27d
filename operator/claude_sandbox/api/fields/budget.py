"""How much of the model the agent may use."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.rules import Rule, matching

# What the gateway reads: `claude_sandbox.gateway.config.fields` has the same grammars.
_USD = matching(
    "(?:0|[1-9][0-9]{0,8})(?:\\.[0-9]{1,9})?",
    'must be an amount in USD as a string, below 1000000000, without a sign or an exponent, for example "20" or "0.50"',
)
_ABOVE_ZERO = Rule(
    "self.matches('[1-9]')",
    lambda text: bool(re.search("[1-9]", text)),
    "must be more than 0: to let the agent use no model, suspend the sandbox",
)
# A rule, and no bound of the schema: with a bound alone the API server takes 2.0 too.
_COUNTABLE = Rule(
    "self <= 1000000000000",
    lambda tokens: tokens <= 10**12,
    "must be at most 1000000000000: for no limit, leave it out",
)
_WINDOW = matching("[1-9][0-9]{0,5}[smhd]", "must be a number and s, m, h or d, for example 24h")


class Budget(Strict):
    """How much of the model the agent may use. What would go beyond it is refused, and never sent.

    Before it is sent, a request takes the most that it can cost; when it is over, what it did cost. The account lasts
    as long as the sandbox, whatever becomes of its gateway. On backend type Docker it is on the sandbox's host: a
    sandbox that is moved to another host counts from nothing there.
    """

    max_cost_usd: Annotated[str, Field(min_length=1, max_length=19), _USD, _ABOVE_ZERO] | None = Field(
        default=None, alias="maxCostUSD"
    )
    """The most that requests may cost in a window, in USD, by the gateway's price table. Default: no limit."""
    max_output_tokens: Annotated[int, Field(ge=1), _COUNTABLE] | None = None
    """How many tokens the model may write in a window. Default: no limit."""
    window: Annotated[str, Field(min_length=2, max_length=7), _WINDOW] | None = None
    """After what time the limits begin anew, for example 24h. Without it they are for the sandbox's whole life.

    A window begins with the first request after the end of the one before.
    """

    RULES = (
        Rule(
            "has(self.maxCostUSD) || has(self.maxOutputTokens)",
            lambda budget: budget.max_cost_usd is not None or budget.max_output_tokens is not None,
            "has no limit: write maxCostUSD or maxOutputTokens, or remove the budget",
        ),
    )

    @property
    def cost(self) -> Decimal | None:
        """The most that requests may cost, in USD; None is no limit."""
        return None if self.max_cost_usd is None else Decimal(self.max_cost_usd)
