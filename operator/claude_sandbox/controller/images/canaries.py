"""What is made of a newer image that is tried beside a sandbox's workload. Pure: the clock is an argument.

The status says that it is tried before anything is made, and that it is over after all of it is gone. Of what is tried
in only the sight counts: one that is another than before begins anew, since who ended that one is not known, but not
for ever, since an image can end as if it had been ended; what can't be seen neither passes nor fails, and time in which
nobody looked counts for nothing.
"""

from datetime import datetime, timedelta

from claude_sandbox.api.fields.lifecycle import duration
from claude_sandbox.api.fields.update_policy import UpdatePolicy
from claude_sandbox.api.status_fields.image import MOST_FAILED, ImageCanary, ImageChange, ImageResult, ImageStatus
from claude_sandbox.backends.base import Trial

BESIDE = "It is tried beside the workload."
NONE_MISSED = timedelta()
MOST_ATTEMPTS = 5
"""How often it is made, where it is ended again and again."""


def under_way(status: ImageStatus | None) -> ImageCanary | None:
    """What is being tried; None where nothing is, or that is over."""
    canary = status.canary if status is not None else None
    return canary if canary is not None and canary.ended_at is None else None


def later(at: datetime | None, missed: timedelta | None, now: datetime) -> datetime | None:
    """A time from which on something counts, without what was missed since: None is all of it."""
    if at is None or missed is None:
        return at and now
    return min(at + missed, max(at, now))


def seconds_of(asked: UpdatePolicy) -> float:
    """How long a trial takes at most."""
    return (duration(asked.gate.within) + duration(asked.gate.stable)).total_seconds()


def tried(
    asked: UpdatePolicy,
    status: ImageStatus,
    canary: ImageCanary,
    trial: Trial,
    now: datetime,
    missed: timedelta | None = NONE_MISSED,
) -> ImageStatus:
    """The next status where something is being tried. `missed`: as `later` takes it."""
    gate = asked.gate
    if trial.no_room:
        return _over(status, canary, now, f"It was not tried beside the workload. {trial.no_room}")
    if not trial.seen:
        return status
    if trial.uid != (canary.uid or ""):
        attempts = (canary.attempts or 0) + bool(trial.uid)
        if attempts > MOST_ATTEMPTS:
            return _failed(status, canary, now, f"what it was tried in was ended {MOST_ATTEMPTS} times")
        # Its time begins anew, also until there is another: what ended it, a node say, says nothing of the image.
        begun = {"uid": trial.uid or None, "attempts": attempts, "started_at": now, "ready_at": None}
        canary = canary.model_copy(update=begun)
    else:
        times = {"started_at": later(canary.started_at, missed, now), "ready_at": later(canary.ready_at, missed, now)}
        canary = canary.model_copy(update=times)
    if trial.failed:
        return _failed(status, canary, now, trial.failed)
    if trial.ready:
        ready = canary.ready_at or now
        if now - ready >= duration(gate.stable):
            return _over(status, canary, now, f"It had been ready for {gate.stable} beside the workload.")
        return status.model_copy(update={"canary": canary.model_copy(update={"ready_at": ready})})
    if canary.ready_at is not None:
        return _failed(status, canary, now, f"it was ready, and is no more: {trial.message}")
    if now - canary.started_at >= duration(gate.within):
        return _failed(status, canary, now, f"it was not ready within {gate.within}: {trial.message}")
    return status.model_copy(update={"canary": canary})


def _over(status: ImageStatus, canary: ImageCanary, now: datetime, message: str) -> ImageStatus:
    # Made anew, and no copy, of which nobody would shorten the message: a quota's words are long.
    ended = ImageCanary(
        to=canary.to, started_at=canary.started_at, attempts=canary.attempts, ended_at=now, message=message
    )
    return status.model_copy(update={"canary": ended})


def _failed(status: ImageStatus, canary: ImageCanary, now: datetime, why: str) -> ImageStatus:
    message = f"It did not work beside the workload: {why.rstrip('.')}."
    change = ImageChange(result=ImageResult.NOT_ROLLED, before=status.digest, to=canary.to, at=now, message=message)
    failed = [*(one for one in status.failed or () if one != canary.to), canary.to][-MOST_FAILED:]
    return status.model_copy(update={"canary": None, "available": None, "last": change, "failed": failed})
