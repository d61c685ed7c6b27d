"""An image's name is taken apart as container runtimes take it apart."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.references import is_among, parse

TRUTH: dict[str, str | None] = json.loads(Path(__file__).with_name("references.json").read_text())
"""What ParseAnyReference of github.com/distribution/reference v0.6.0 says: registry and path, None for no name.

A name that has no registry even when completed (`registry_1.example/x`) is none here: nothing is fetched by it.
"""


def test_every_name_is_split_as_the_runtimes_module_splits_it() -> None:
    found = {name: parse(name) for name in TRUTH}
    assert {name: one and f"{one.registry} {one.path}" for name, one in found.items()} == TRUTH
    assert sum(1 for one in TRUTH.values() if one) > 200


@given(st.text("abAB01.:/@_-[]x", max_size=60))
def test_a_completed_name_stays_as_it_is(name: str) -> None:
    found = parse(name)
    if found is not None:
        assert parse(str(found)) == found


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("ghcr.io/acme/tools/x", True),
        ("ghcr.io/acmeevil/x", False),
        ("GHCR.io/acme/x", False),
        ("Acme/tools", False),
        ("acme/tools", True),
        ("docker.io.evil.example/acme/x", False),
    ],
)
def test_a_repository_is_among_those_that_it_is_below(name: str, allowed: bool) -> None:
    found = parse(name)
    assert found is not None
    assert is_among(found.repository, ("ghcr.io/acme", "docker.io/acme/")) is allowed


def test_a_name_that_is_a_thousand_parts_long_is_answered_at_once() -> None:
    assert parse("a-" * 200_000) is None
