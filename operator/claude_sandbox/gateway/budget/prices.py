"""What tokens cost, from a dated table that administrators can replace. Pure; money is in whole nano-USD, rounded up.

The table is prices.json beside this module; `asOf` is when it was taken from the provider's page, `source`. A price
per million tokens in USD is 1,000 times as many nano-USD a token. The first model that matches counts; one that none
matches costs the dearest of each.
"""

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from claude_sandbox.gateway.http.json_scan import Scanned

NANO = 10**9
"""Nano-USD in one USD."""

HIDDEN_TOKENS = 3_000
"""Input tokens that no byte of the body accounts for: the provider's own instructions for tools, at most some hundred
by its documentation."""
SERVER_TURNS = 10
"""Times that a request with tools of the provider's own may have the model read its input again, by what its
documentation says of `pause_turn`."""

# Kinds of content that are text: a token of theirs is at least a byte of the body. Everything else may stand for
# more than it shows: an image, a document, a file that was uploaded, an address to fetch.
_TEXT_TYPES = frozenset(
    ("text", "tool_use", "tool_result", "thinking", "redacted_thinking", "enabled", "disabled", "adaptive", "ephemeral",
     "custom", "auto", "any", "tool", "none", "message", "json_schema", "object", "string", "array", "number",
     "integer", "boolean", "null")
)  # fmt: skip
_SERVER_TOOLS = ("web_search", "web_fetch", "code_execution", "mcp_", "server_tool", "tool_search", "advisor", "...")


_REMEMBERED = 256
"""Names of models whose prices are remembered."""


class PriceTableError(ValueError):
    """The document is no price table; the message names the field."""


@dataclass(frozen=True)
class Tokens:
    """What the provider counted. Cache writes are apart by how long they are kept."""

    input: int = 0
    output: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    web_searches: int = 0

    @property
    def prompt(self) -> int:
        """All that was read, by which long prompts are told."""
        return self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read


@dataclass(frozen=True)
class Price:
    """Of one model, in USD per million tokens. Above `long_above` tokens of prompt the factors apply."""

    model: str
    input: Decimal
    output: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    context: int
    long_above: int | None = None
    long_input: Decimal = Decimal(1)
    long_output: Decimal = Decimal(1)

    @cached_property
    def dearest(self) -> str:
        """The kind of input that costs most."""
        return max(("input", "cache_write_5m", "cache_write_1h"), key=lambda kind: Decimal(getattr(self, kind)))

    def cost(self, tokens: Tokens, factor: Decimal, search: Decimal) -> int:
        """In nano-USD, rounded up. `factor`: of what the request asked for beyond the ordinary."""
        long = self.long_above is not None and tokens.prompt > self.long_above
        read = (
            tokens.input * self.input
            + tokens.cache_write_5m * self.cache_write_5m
            + tokens.cache_write_1h * self.cache_write_1h
            + tokens.cache_read * self.cache_read
        ) * (self.long_input if long else 1)
        written = tokens.output * self.output * (self.long_output if long else 1)
        exact = (read + written) * factor * 1000 + tokens.web_searches * search * NANO
        # Up: of many small requests, none is free.
        return int(exact.to_integral_value(ROUND_CEILING))


@dataclass(frozen=True)
class Bound:
    """The most that a request can use: tokens to read, tokens to write, and what both cost in nano-USD."""

    input: int
    output: int
    cost: int


@dataclass(frozen=True)
class PriceTable:
    """All prices. `factors`: by top-level field of a request and its value, `*` for every other value."""

    as_of: str
    models: Sequence[Price]
    factors: Mapping[str, Mapping[str, Decimal]]
    web_search: Decimal
    _found: dict[str, Price] = field(default_factory=dict, compare=False, repr=False)

    def price(self, model: str) -> Price:
        """Of the model, or the dearest of each."""
        found = self._found.get(model)
        if found is None:
            matching = (price for price in self.models if fnmatch.fnmatchcase(model, price.model))
            found = next(matching, None) or self._dearest()
            # Agents choose the names.
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[model] = found
        return found

    def _dearest(self) -> Price:
        models = self.models
        return Price(
            "*",
            max(one.input for one in models),
            max(one.output for one in models),
            max(one.cache_write_5m for one in models),
            max(one.cache_write_1h for one in models),
            max(one.cache_read for one in models),
            max(one.context for one in models),
            # As if each prompt were a long one.
            long_above=0,
            long_input=max(one.long_input for one in models),
            long_output=max(one.long_output for one in models),
        )

    def factor(self, fields: Mapping[str, object]) -> Decimal:
        """What the request's fields multiply its price by: a value that the table doesn't know, by the most."""
        found = Decimal(1)
        for name, values in self.factors.items():
            if fields.get(name) is not None:
                found *= values.get(str(fields[name]), values["*"])
        return found

    def cost(self, model: str, tokens: Tokens, fields: Mapping[str, object]) -> int:
        """Of an answer, in nano-USD."""
        return self.price(model).cost(tokens, self.factor(fields), self.web_search)

    def bound(self, body: Scanned, size: int) -> Bound:
        """The most that a request can cost, by its body (`size` bytes): max_tokens written, all of it read and kept.

        A token of text is at least one byte. What shows less than it stands for may fill the model's context; with
        tools of the provider's own, several times.
        """
        price = self.price(str(body.fields.get("model")))
        turns = SERVER_TURNS if _has_server_tools(body) else 1
        asked = body.fields.get("max_tokens")
        written = asked if isinstance(asked, int) and not isinstance(asked, bool) else 0
        plain = turns == 1 and body.types <= _TEXT_TYPES
        # More than its context no model reads at once.
        read = min(size + HIDDEN_TOKENS, price.context) if plain else price.context
        worst = Tokens(**{price.dearest: read}, output=written)
        searches = turns if turns > 1 else 0
        once = price.cost(worst, self.factor(body.fields), self.web_search)
        return Bound(read * turns, written * turns, once * turns + searches * int(self.web_search * NANO))


def _has_server_tools(body: Scanned) -> bool:
    return "mcp_servers" in body.keys or any(kind.startswith(_SERVER_TOOLS) for kind in body.types)


@cache
def built_in() -> PriceTable:
    """The table that comes with the program."""
    return parse_table(json.loads(files("claude_sandbox.gateway").joinpath("prices.json").read_text()))


def parse_table(document: Any) -> PriceTable:
    """Read a table. Raises PriceTableError."""
    try:
        models = tuple(_price(entry) for entry in document["models"])
        factors = {
            str(name): {str(value): _amount(factor) for value, factor in values.items()}
            for name, values in document["factors"].items()
        }
        if not models:
            raise PriceTableError("models: at least one is needed, and the last should be for the model `*`")
        if any("*" not in values for values in factors.values()):
            raise PriceTableError("factors: each needs a value for `*`, every other value")
        return PriceTable(str(document["asOf"]), models, factors, _amount(document["webSearch"]))
    except KeyError as missing:
        raise PriceTableError(f"{missing.args[0]}: it is missing") from None
    except (TypeError, AttributeError):
        raise PriceTableError("the document has another form: see prices.json of this program") from None


def _price(entry: Any) -> Price:
    long = entry.get("longPrompt", {})
    return Price(
        str(entry["model"]),
        _amount(entry["input"]),
        _amount(entry["output"]),
        _amount(entry["cacheWrite5m"]),
        _amount(entry["cacheWrite1h"]),
        _amount(entry["cacheRead"]),
        context=int(entry["contextTokens"]),
        long_above=int(long["above"]) if long else None,
        long_input=_amount(long.get("input", "1")),
        long_output=_amount(long.get("output", "1")),
    )


def _amount(text: object) -> Decimal:
    try:
        found = Decimal(str(text))
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        raise PriceTableError('a price is no number of 0 or more: write it as a string, for example "0.25"')
    return found
