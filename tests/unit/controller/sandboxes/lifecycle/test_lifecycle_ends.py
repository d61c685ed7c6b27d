"""When a sandbox's time is over, by what is known of it and what the clock says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.fields.lifecycle import Lifecycle
from claude_sandbox.api.status_fields.lifecycle import End, Ended
from claude_sandbox.controller.sandboxes.lifecycle.life import Life, Seen, life

MADE = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def ended(by: End, at: datetime) -> Ended:
    return Ended(by=by, at=at)


@pytest.mark.parametrize(
    ("asked", "seen", "expected"),
    [
        ({"ttl": "8h"}, Seen(MADE), ended(End.TTL, MADE + 8 * HOUR)),
        ({"shutdownTime": "2026-11-01T13:00:00Z"}, Seen(MADE), ended(End.SHUTDOWN_TIME, MADE + HOUR)),
        ({"ttl": "8h", "shutdownTime": "2026-11-01T13:00:00Z"}, Seen(MADE), ended(End.SHUTDOWN_TIME, MADE + HOUR)),
        ({"ttl": "30m", "shutdownTime": "2026-11-01T13:00:00Z"}, Seen(MADE), ended(End.TTL, MADE + HOUR / 2)),
        ({"idleTimeout": "30m"}, Seen(MADE, MADE + HOUR, idle=True), ended(End.IDLE_TIMEOUT, MADE + 1.5 * HOUR)),
        ({"idleTimeout": "30m", "ttl": "1h"}, Seen(MADE, MADE + HOUR, idle=True), ended(End.TTL, MADE + HOUR)),
        # Nothing is known of what it does, or it could not do anything.
        ({"idleTimeout": "30m"}, Seen(MADE, MADE + HOUR), None),
        ({"idleTimeout": "30m"}, Seen(MADE, idle=True), None),
    ],
)
def test_the_first_of_its_times_ends_it(asked: dict[str, str], seen: Seen, expected: Ended | None) -> None:
    assert life(Lifecycle.model_validate(asked), seen, MADE + 24 * HOUR).ended == expected
    if expected is not None:
        assert life(Lifecycle.model_validate(asked), seen, expected.at).ended == expected
        assert life(Lifecycle.model_validate(asked), seen, expected.at - timedelta(microseconds=1)).ended is None


@pytest.mark.parametrize(
    ("asked", "warned"),
    [("8h", timedelta(minutes=5)), ("50m", timedelta(minutes=5)), ("10m", MINUTE), ("1m", MINUTE / 10)],
)
def test_the_end_is_warned_of_five_minutes_before_or_a_tenth_of_the_time(asked: str, warned: timedelta) -> None:
    spec = Lifecycle(ttl=asked)
    end = spec.lives
    assert end is not None
    at = MADE + end
    before = life(spec, Seen(MADE), at - warned - timedelta(seconds=2))
    assert before == Life(ends=at, next=2.0)
    near = life(spec, Seen(MADE), at - warned)
    assert near == Life(near=ended(End.TTL, at), ends=at, next=warned.total_seconds())


def test_a_later_time_brings_it_back_and_a_clock_that_is_set_back_does_not() -> None:
    over = ended(End.TTL, MADE + HOUR)
    seen = Seen(MADE, ended=over)
    assert life(Lifecycle(ttl="1h"), seen, MADE + HOUR / 2).ended == over
    assert life(Lifecycle(ttl="2h"), seen, MADE + 1.5 * HOUR).ended is None
    assert life(Lifecycle(ttl="61m"), seen, MADE + 1.5 * HOUR).ended == ended(End.TTL, MADE + 61 * MINUTE)
    assert life(None, seen, MADE + 1.5 * HOUR) == Life()


def test_one_that_ended_by_being_idle_stays_so_until_there_is_a_sign_of_activity() -> None:
    spec, active = Lifecycle(idle_timeout="30m"), MADE + HOUR
    seen = Seen(MADE, active, idle=True, ended=ended(End.IDLE_TIMEOUT, active + HOUR / 2))
    for later in (HOUR, 24 * HOUR, 1000 * HOUR):
        assert life(spec, seen, active + later).ended == seen.ended
    now = active + 10 * HOUR
    assert life(spec, replace(seen, active=now), now).ended is None


_DURATIONS = st.one_of(
    st.integers(300, 9_999_999).map(lambda count: f"{count}s"),
    st.integers(5, 999_999).map(lambda count: f"{count}m"),
    st.integers(1, 9999).map(lambda count: f"{count}d"),
)
_MOMENTS = st.timedeltas(timedelta(), timedelta(days=400)).map(lambda since: MADE + since)
_SPECS = st.builds(
    Lifecycle,
    ttl=st.none() | _DURATIONS,
    shutdown_time=_MOMENTS.map(lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ")),
    idle_timeout=st.none() | _DURATIONS,
)
_SEEN = st.builds(
    Seen,
    made=st.just(MADE),
    active=st.none() | _MOMENTS,
    idle=st.booleans(),
    ended=st.none() | st.builds(Ended, by=st.sampled_from(End), at=_MOMENTS),
)


@given(_SPECS, _SEEN, _MOMENTS, st.timedeltas(timedelta(), timedelta(days=400)))
def test_what_is_over_stays_over_as_time_passes_and_nothing_ends_before_the_next_look(
    spec: Lifecycle, seen: Seen, now: datetime, later: timedelta
) -> None:
    found, after = life(spec, seen, now), life(spec, seen, now + later)
    if found.ended is not None:
        assert found.ended.at <= max(now, seen.ended.at if seen.ended else now)
        assert found.next is None
        assert after.ended == found.ended
        return
    assert found.next is not None
    assert found.next > 0
    if later.total_seconds() < found.next:
        assert (after.ended, after.near) == (None, found.near)
    assert found.near is None or life(spec, seen, found.near.at).ended == found.near


@given(_SPECS, _SEEN, _MOMENTS)
def test_it_never_runs_after_an_end_that_holds_whatever_it_does(spec: Lifecycle, seen: Seen, now: datetime) -> None:
    found = life(spec, seen, now)
    assert found.ends is not None
    assert found.ended is not None or now < found.ends
