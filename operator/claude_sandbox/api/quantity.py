"""Kubernetes quantities, as far as a sandbox needs them."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from claude_sandbox.api.rules import Rule, literal

# A subset of the Kubernetes grammar (apimachinery's resource.Quantity): no sign, no exponent, no more digits
# than any real machine needs, so that nothing overflows and a mistyped unit is refused.
PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
MAX_LENGTH = 18

_MATCH = re.compile(PATTERN.removesuffix("$") + r"\Z")
_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
}


def parse(quantity: str | int) -> Decimal:
    """The quantity in its base unit (cores, bytes). Raises ValueError for what is not one."""
    text = str(quantity)
    if not _MATCH.match(text):
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2 or 2Gi")
    unit = text.lstrip("0123456789.")
    return Decimal(text.removesuffix(unit)) * _FACTORS[unit]


def millicores(quantity: str | int) -> int:
    """CPU in thousandths of a core, rounded up as Kubernetes does."""
    return int((parse(quantity) * 1000).to_integral_value(rounding="ROUND_CEILING"))


def bytes_of(quantity: str | int) -> int:
    """Memory or storage in bytes, rounded up as Kubernetes does."""
    return int(parse(quantity).to_integral_value(rounding="ROUND_CEILING"))


def is_some(quantity: object) -> bool:
    """Whether it is written and not zero, in whatever notation Kubernetes knows (`0`, `0Mi`, `0.0`, `0e3`)."""
    return quantity is not None and re.split("[eE]", str(quantity))[0].strip("+-0.KMGTPEikmun") != ""


class IntOrString:
    """Marks a field that takes 2 as well as "2" (`x-kubernetes-int-or-string`)."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Not pydantic's union, whose errors would have the branch in their path.
        return core_schema.no_info_plain_validator_function(
            _int_or_string, serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value)
        )


def _int_or_string(value: Any) -> int | str:
    if type(value) is int or type(value) is str:
        return value
    raise PydanticCustomError("int_or_string", "must be an integer or a string")


_SYNTAX = Rule(
    f"string(self).matches({literal(PATTERN)})",
    lambda value: bool(_MATCH.match(str(value))),
    "is not a quantity: write a positive number and, where it is one of bytes, a unit without a space, for example 500m"
    " or 2 for CPU and 512Mi or 2Gi for memory and storage",
)

Quantity = Annotated[int | str, IntOrString(), _SYNTAX]
"""An amount as Kubernetes writes it."""


def at_least(minimum: str, why: str = "") -> Rule:
    """A quantity that is not less than `minimum`. `why` completes the message."""
    limit = parse(minimum)
    return Rule(_compare(">=", minimum), lambda value: parse(value) >= limit, f"must be at least {minimum}{why}")


def at_most(maximum: str) -> Rule:
    """A quantity that is not more than `maximum`."""
    limit = parse(maximum)
    message = f"must be at most {maximum}: check the unit"
    return Rule(_compare("<=", maximum), lambda value: parse(value) <= limit, message)


def _compare(operator: str, limit: str) -> str:
    # What is no quantity is the other rule's to report.
    text = "string(self)"
    return f"!isQuantity({text}) || quantity({text}).compareTo(quantity('{limit}')) {operator} 0"
