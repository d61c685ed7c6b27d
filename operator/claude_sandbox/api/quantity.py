"""Kubernetes quantities, as far as a sandbox needs them."""

import re
from decimal import Decimal

# A subset of the Kubernetes grammar (apimachinery's resource.Quantity): no sign, no exponent, no more digits
# than any real machine needs, so that nothing overflows and a mistyped unit is refused.
PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"

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
