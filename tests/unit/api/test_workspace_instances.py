"""Which workspace a sandbox has: every number has one of its own, and the first is what it was called ever since."""

import pytest

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.sandboxes.store import workspace_of

IDENTITY = Identity("agents", "alice", "uid-1", "uid-2")


def of(instance: int | None) -> Identity:
    return Identity("agents", "alice", "uid-1", "uid-2", instance)


def test_the_first_is_called_as_one_that_is_not_named() -> None:
    assert meta.workspace_name("alice") == meta.workspace_name("alice", 1) == "sandbox-alice-workspace"
    assert names_of("c", of(None)).workspace == names_of("c", of(1)).workspace


@pytest.mark.parametrize("instance", [2, 99])
def test_another_has_a_workspace_and_a_home_of_its_own_and_all_else_is_the_same(instance: int) -> None:
    first, other = names_of("c", of(1)), names_of("c", of(instance))
    assert {first.workspace, first.home}.isdisjoint({other.workspace, other.home})
    assert (first.container, first.network, first.key) == (other.container, other.network, other.key)
    assert meta.home_name("alice", instance) != meta.home_name("alice")


def test_a_volume_is_known_for_the_workspace_that_it_is() -> None:
    for own in (None, 1, 7):
        called = names_of("c", of(own))
        assert [called.number_of(names_of("c", of(number)).workspace) for number in (None, 1, 2, 99)] == [1, 1, 2, 99]
        other = names_of("c", Identity("agents", "alice", "uid-1", "another-namespace"))
        for name in (called.home, called.key, f"{called.first}-x", f"{called.first}-", other.workspace):
            assert called.number_of(name) is None


def test_it_is_read_of_a_spec_whatever_else_is_wrong_with_that() -> None:
    assert workspace_of({"spec": {"workspace": {"instance": 3}, "profile": 7}}) == 3
    for spec in ({}, {"workspace": {}}, {"workspace": {"instance": "3"}}, None):
        assert workspace_of({"spec": spec}) is None


def test_it_is_the_same_sandbox_whichever_it_has() -> None:
    assert of(1) == of(2) == IDENTITY
