"""What is told of a sandbox while a pass writes to it: kept until the pass has looked, and never lost."""

from typing import Any

from claude_sandbox.backends.docker.events.expectations import Expectations, unseen, until_start

ALICE, BOB = ("agents", "alice"), ("agents", "bob")
OWN, HELPER, STRANGER, NETWORK = "1" * 64, "2" * 64, "3" * 64, "9" * 64


def container(action: str, identifier: str) -> dict[str, Any]:
    return {"Type": "container", "Action": action, "Actor": {"ID": identifier, "Attributes": {"name": "x"}}}


def network(action: str, member: str | None = None, identifier: str = NETWORK) -> dict[str, Any]:
    attributes = {"name": "own"} | ({"container": member} if member else {})
    return {"Type": "network", "Action": action, "Actor": {"ID": identifier, "Attributes": attributes}}


def test_only_the_sandbox_that_is_written_to_is_not_woken_and_only_meanwhile() -> None:
    expectations, event = Expectations(), container("start", OWN)
    assert not expectations.keep(ALICE, event)
    with expectations.during(ALICE, []) as kept:
        assert expectations.keep(ALICE, event)
        assert not expectations.keep(BOB, event)
    assert kept == [event]
    assert not expectations.keep(ALICE, event)


def test_what_is_told_of_a_removed_container_concerns_nobody_however_late() -> None:
    expectations, removed = Expectations(), list[str]()
    with expectations.during(ALICE, removed) as kept:
        for event in (container("create", HELPER), container("die", HELPER)):
            expectations.keep(ALICE, event)
        removed.append(HELPER)
    assert unseen(kept, OWN, NETWORK, 0, removed) == []
    assert expectations.keep(ALICE, container("destroy", HELPER))
    assert expectations.keep(ALICE, network("disconnect", HELPER))
    assert not expectations.keep(ALICE, container("destroy", OWN))


def test_a_look_at_the_container_answers_for_what_was_told_of_it_before_and_for_nothing_else() -> None:
    before = [container("create", OWN), network("connect", OWN), container("start", OWN)]
    after = [network("connect", OWN), container("pause", OWN)]
    assert unseen([*before, *after], OWN, NETWORK, until_start(before, OWN), []) == after
    others = [network("connect", STRANGER), network("destroy"), container("start", STRANGER)]
    assert unseen([*others, *before], OWN, NETWORK, len(others) + len(before), []) == others


def test_without_a_start_that_was_told_nothing_is_known_to_have_come_before_it() -> None:
    told = [network("connect", OWN), container("start", STRANGER)]
    assert until_start(told, OWN) == 0
    assert unseen(told, OWN, NETWORK, until_start(told, OWN), []) == told


def test_that_the_own_network_was_made_is_known_and_that_another_of_the_name_was_is_not() -> None:
    own, other = network("create"), network("create", identifier="8" * 64)
    assert unseen([own, other], OWN, NETWORK, 0, []) == [other]
    # Nobody's network is nothing that was seen.
    assert unseen([own], OWN, "", 0, []) == [own]
