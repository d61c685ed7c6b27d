"""Merge patches: what makes one document of another, and the document that comes of it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.controller.machinery.merge_patch import merge_patch, merged

VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@given(DOCUMENTS, DOCUMENTS)
def test_a_document_with_the_patch_to_another_is_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, merge_patch(old, new)) == new


def test_an_example_of_the_rfc() -> None:
    old = {"a": {"b": "c", "d": 1}, "e": [1]}
    assert merged(old, {"a": {"b": None}, "e": [2], "f": {"g": {"h": None}}}) == {
        "a": {"d": 1},
        "e": [2],
        "f": {"g": {}},
    }
