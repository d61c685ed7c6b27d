"""Choosing objects by their labels."""

import re
from typing import Annotated

from pydantic import ConfigDict, Field

from claude_sandbox.api.model import Model
from claude_sandbox.api.rules import Rule, matching

MAX_LABELS = 16

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
# As the API server's validation of labels: a prefix that is a DNS subdomain, and a name of at most 63 characters.
_KEY = f"(?:{_LABEL}(?:\\.{_LABEL})*/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
_MAX_KEY = 253 + 1 + 63
_COMPILED = re.compile(_KEY)

_KEYS = Rule(
    f"self.all(k, size(k) <= {_MAX_KEY} && k.matches(r'^(?:{_KEY})$'))",
    lambda labels: all(len(key) <= _MAX_KEY and _COMPILED.fullmatch(key) for key in labels),
    "has a key that no label can have: write NAME or PREFIX/NAME, for example topology.kubernetes.io/zone",
)

_VALUE = matching(
    "(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?",
    "must be a label's value: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
)


class LabelSelector(Model):
    """Chooses the objects that have all of these labels."""

    model_config = ConfigDict(strict=True)

    match_labels: Annotated[
        dict[str, Annotated[str, Field(max_length=63), _VALUE]],
        Field(min_length=1, max_length=MAX_LABELS),
        _KEYS,
    ]
    """Labels and their values, all of which have to be there. At least one: to choose everything is not offered."""

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is chosen."""
        return self.match_labels.items() <= labels.items()
