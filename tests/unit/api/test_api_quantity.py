"""Quantities mean what they mean to Kubernetes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api import quantity


@pytest.mark.parametrize(
    ("text", "millicores"), [("2", 2000), (2, 2000), ("500m", 500), ("1.5", 1500), ("0.0001", None), ("100.1m", 101)]
)
def test_cpu(text: str | int, millicores: int | None) -> None:
    if millicores is None:
        with pytest.raises(ValueError, match="not a quantity"):
            quantity.millicores(text)
    else:
        assert quantity.millicores(text) == millicores


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("2Gi", 2**31), ("2G", 2 * 10**9), ("1.5Ki", 1536), (512, 512), ("1500m", 2), ("0.001Pi", 1125899906843)],
)
def test_bytes(text: str | int, bytes_: int) -> None:
    assert quantity.bytes_of(text) == bytes_


@pytest.mark.parametrize("text", ["", "m", "-1", "+1", "1e3", "1 Gi", "1Gi\n", "1gi", "1.", ".5", "٢", "1" * 13, "1Ei"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity such as"):
        quantity.parse(text)


@given(st.integers(0, 10**12 - 1), st.sampled_from(["", "k", "Ki", "M", "Mi", "G", "Gi", "T", "Ti"]))
def test_a_larger_number_of_the_same_unit_is_a_larger_quantity(number: int, unit: str) -> None:
    limit = quantity.at_least(f"{number}{unit}")
    assert limit.holds(f"{number}{unit}")
    assert number == 0 or not limit.holds(f"{number - 1}{unit}")
