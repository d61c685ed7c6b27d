"""Which models the agent may use."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.rules import Rule, matching

_MODEL = matching(
    "[a-z0-9*][-a-z0-9.*]*",
    "must be the name of a model, or a pattern with stars, as claude-sonnet-*: lower-case letters, digits, '-' and '.'",
)
_DISTINCT = Rule(
    "self.all(a, self.exists_one(b, a == b))",
    lambda models: len(set(models)) == len(models),
    "lists a model twice: write each once",
)


class ModelAccess(Strict):
    """Which models of the Claude API the agent may use."""

    allowed: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128), _MODEL]],
        Field(min_length=1, max_length=32),
        _DISTINCT,
    ]
    """Names of models, a star for any characters: claude-sonnet-*. A request for any other is refused."""
