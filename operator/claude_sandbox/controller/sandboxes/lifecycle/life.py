"""Whether a sandbox's time is over, why, since when, and when to look again. Pure: the clock is an argument.

Nothing is a state here. What counts are moments: when the sandbox was made, when it was last active, what the clock
says, and of one that does not run the end that its status tells of. That end serves twice. A moment that was seen to
have passed stays passed, so a clock that is set back resumes nothing. And who ended by being idle has no workload any
more that could be seen idle: until there is a sign of activity, it is so still.

CPU time is a sign of activity that anybody can feign. So it is worth one more idleTimeout after the last other sign,
and no more: a build comes to its end, and a loop does not keep its sandbox for ever.

What can't be known makes nobody idle. So a running sandbox is only taken for idle where it could work: its gateway
works, its provider answers, and it has been Ready for all that time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from claude_sandbox.api.fields.lifecycle import Lifecycle
from claude_sandbox.api.status_fields.lifecycle import CpuActivity, End, Ended

_WARNED_BEFORE, _WARNED_PART = timedelta(minutes=5), 10
"""How long before the end is warned of it, and at most which part of the whole time."""


@dataclass(frozen=True)
class Seen:
    """What is known of a sandbox. `active`: the last sign of activity, None where there is none yet.

    `idle`: whether it may be taken for idle, since it could work and shows no activity, or ended so.
    `busy`: when its CPU was seen busy last. `ended`: as its status says, of one that does not run.
    """

    made: datetime
    active: datetime | None = None
    idle: bool = False
    ended: Ended | None = None
    busy: datetime | None = None


@dataclass(frozen=True)
class Life:
    """Where a sandbox is in its life. `next`: seconds until that changes by itself, more than 0; None: it does not.

    `near`: the end that is to be warned of now. `ends`: when it is over whatever the sandbox does.
    """

    ended: Ended | None = None
    near: Ended | None = None
    ends: datetime | None = None
    next: float | None = None


@dataclass(frozen=True)
class Looked:
    """What a look at a sandbox found of its life. `active`: the last sign of activity that is worth writing down, but
    for what its gateway tells; None where nothing goes by it. `workspace`: whether it outlives the workload. `cpu`:
    what is to be said of that.
    """

    asked: Lifecycle
    life: Life
    active: datetime | None = None
    workspace: bool = True
    cpu: CpuActivity | None = None


def is_over(looked: Looked | None) -> bool:
    """Whether its time is."""
    return looked is not None and looked.life.ended is not None


def turns_in(looked: Looked | None, *, ended: bool) -> float | None:
    """Seconds until it is worth another look; None where only something that happens makes it so.

    `ended`: whether it was ended already. Else that is done at once, by another pass.
    """
    if looked is None:
        return None
    return looked.life.next if looked.life.ended is None else None if ended else 0.0


@dataclass(frozen=True)
class _Limit:
    by: End
    at: datetime
    # From its beginning to its end.
    lasts: timedelta

    @property
    def warned(self) -> datetime:
        return self.at - max(timedelta(), min(_WARNED_BEFORE, self.lasts / _WARNED_PART))


def life(asked: Lifecycle | None, seen: Seen, now: datetime) -> Life:
    """Where a sandbox is. Times have a zone."""
    if asked is None:
        return Life()
    fixed = list(_fixed(asked, seen))
    ends = min((one.at for one in fixed), default=None)
    limits = [*fixed, *_idle(asked, seen)]
    if not limits:
        return Life()
    # An end that was reported is in the past whatever the clock says now.
    passed = now if seen.ended is None else max(now, seen.ended.at)
    first = min(limits, key=lambda one: one.at)
    found = Ended(by=first.by, at=first.at)
    if first.at <= passed:
        return Life(found, ends=ends)
    # Of all limits, not of the first alone: a warning of the second may come before the first has passed.
    coming = min(moment for one in limits for moment in (one.warned, one.at) if moment > passed)
    near = found if first.warned <= passed else None
    return Life(near=near, ends=ends, next=(coming - now).total_seconds())


def _fixed(asked: Lifecycle, seen: Seen) -> Iterator[_Limit]:
    if (lives := asked.lives) is not None:
        yield _Limit(End.TTL, seen.made + lives, lives)
    if (at := asked.shuts_down) is not None:
        yield _Limit(End.SHUTDOWN_TIME, at, at - seen.made)


def _idle(asked: Lifecycle, seen: Seen) -> Iterator[_Limit]:
    if (rests := asked.rests_after) is not None and seen.active is not None and seen.idle:
        used = seen.active if seen.busy is None else max(seen.active, min(seen.busy, seen.active + rests))
        yield _Limit(End.IDLE_TIMEOUT, used + rests, rests)
