"""How long nobody has looked at an image that is being tried."""

from datetime import UTC, datetime, timedelta

from claude_sandbox.api.status_fields.image import ImageCanary
from claude_sandbox.controller.images.looks import Looks
from claude_sandbox.controller.sandboxes.store import Key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY, OTHER = Key("agents", "alice"), Key("agents", "bob")
TRIED = ImageCanary(to="sha256:a", started_at=NOW)


def test_a_process_that_has_just_come_has_never_looked() -> None:
    assert Looks().missed(KEY, TRIED, NOW) is None


def test_from_look_to_look_nothing_is_missed_and_in_an_outage_the_rest_is() -> None:
    looks = Looks()
    looks.looked(KEY, TRIED, NOW)
    assert looks.missed(KEY, TRIED, NOW + timedelta(seconds=30)) == timedelta()
    assert looks.missed(KEY, TRIED, NOW + timedelta(minutes=5)) == timedelta(minutes=4.5)
    # A clock that was set back takes nothing off.
    assert looks.missed(KEY, TRIED, NOW - timedelta(hours=9)) == timedelta()
    assert looks.missed(KEY, TRIED, NOW + timedelta(hours=2)) is None


def test_a_look_at_something_else_or_that_is_not_in_the_status_is_none() -> None:
    looks = Looks()
    looks.looked(KEY, TRIED, NOW)
    assert looks.missed(OTHER, TRIED, NOW) is None
    assert looks.missed(KEY, TRIED.model_copy(update={"ready_at": NOW}), NOW) is None
    assert looks.missed(KEY, TRIED, NOW) == timedelta()


def test_what_was_looked_at_long_ago_is_not_kept() -> None:
    looks = Looks()
    looks.looked(KEY, TRIED, NOW)
    looks.looked(OTHER, TRIED, NOW + timedelta(hours=2))
    assert list(looks._last) == [OTHER]
