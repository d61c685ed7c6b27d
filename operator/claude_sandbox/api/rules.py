"""Rules that the API server and the models check alike: the same condition in CEL and in Python."""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

# The type of the errors that rules raise; their context is {"failed": ((path below the value, message), …)}.
RULE_ERROR = "rule"


@dataclass(frozen=True)
class Rule:
    """One validation rule, of a field (as `Annotated` metadata) or of a whole model (in its `RULES`).

    `cel` is evaluated by the API server with `self` bound to the field's value or the model's object (Kubernetes
    CEL with its quantity, CIDR and string libraries); `holds` gets the same value in Python. Both must agree on every
    document. A field's rules are tried in order and the first that fails is reported.
    `message` says what to write instead and never repeats the value; `field` is the path below the model that the
    message is about, for example `image.digest`.
    `confidential` keeps the API server from repeating the value too: from 1.37 on it does so for texts and numbers,
    unless the error is of the kind "Forbidden".
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field: str = ""
    confidential: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if not self.holds(value):
            raise rule_error((self.field, self.message))
        return value


@dataclass(frozen=True)
class Transition:
    """A rule about a change, in CEL with `oldSelf`. Only the API server sees both sides of one."""

    cel: str
    message: str
    field: str = ""


@dataclass(frozen=True)
class UniqueBy:
    """A list whose items differ in `key`, so that they can be merged one by one (`x-kubernetes-list-type: map`)."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, items: list[Any]) -> list[Any]:
        seen: set[Hashable] = set()
        for index, item in enumerate(items):
            value = getattr(item, self.key)
            if value in seen:
                raise rule_error((f"[{index}]", f"Duplicate value: an earlier item has the same {self.key}"))
            seen.add(value)
        return items


def rule_error(*failed: tuple[str, str]) -> PydanticCustomError:
    """The error for rules that failed, each as (path below the value, message)."""
    text = "; ".join(f"{path}: {message}" if path else message for path, message in failed)
    return PydanticCustomError(RULE_ERROR, "{text}", {"text": text, "failed": failed})


def matching(pattern: str, message: str, *, confidential: bool = False) -> Rule:
    """The string matches the whole pattern, which must mean the same to RE2 and to Python's re (`\\w` is of ASCII)."""
    compiled = re.compile(pattern, re.ASCII)
    cel = f"self.matches({literal(f'^(?:{pattern})$')})"
    return Rule(cel, lambda text: bool(compiled.fullmatch(text)), message, confidential=confidential)


def never_matching(pattern: str, message: str, *, confidential: bool = False) -> Rule:
    """The pattern is nowhere in the string."""
    compiled = re.compile(pattern, re.ASCII)
    cel = f"!self.matches({literal(pattern)})"
    return Rule(cel, lambda text: not compiled.search(text), message, confidential=confidential)


def literal(text: str) -> str:
    """The text as a CEL string literal. Raises ValueError for what would need escapes."""
    if "'" in text or "\n" in text:
        raise ValueError(f"{text!r} can't be written as a raw CEL string")
    return f"r'{text}'" if "\\" in text else f"'{text}'"


A_DAY = never_matching(
    "-02-3|-(?:04|06|09|11)-31|^20(?:[0-9][13579]|[02468][26]|[13579][048])-02-29",
    "must be a day that there is: this month has fewer days in that year",
)
"""Of a text that begins with a day of this century as YYYY-MM-DD, of which each part is in its range."""
