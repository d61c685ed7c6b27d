"""What is done about a newer image under a sandbox's tag. Pure: the clock is an argument.

A step goes from a status to the next, by what a pass knows; it is written down before anything of it is carried out.
An image is first tried beside the workload (`canaries`), which needs no moment that suits the agent. It is rolled only
where it is permitted, and taken to work only where its own workload was seen ready, without a break, for as long as the
gate says. What can't be seen neither fails nor passes, and time in which nobody looked counts for nothing. One that
failed is never tried again: the status remembers it. One that was taken back for what it could not help is not blamed:
a policy's refusal, another wish, what somebody changed meanwhile (`causes`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.fields.lifecycle import duration
from claude_sandbox.api.fields.update_policy import HealthGate, Requires, Strategy, UpdatePolicy
from claude_sandbox.api.status_fields.image import (
    MOST_FAILED,
    ImageAvailable,
    ImageCanary,
    ImageChange,
    ImageResult,
    ImageRolling,
    ImageStatus,
)
from claude_sandbox.backends.base import Trial, WorkloadState
from claude_sandbox.controller.images import canaries, causes
from claude_sandbox.controller.images.measured import Measured

IDLE_FOR = timedelta(minutes=10)
"""How long after the last sign of activity an agent is taken for idle. What a gateway tells comes within two
minutes, and whoever waits for one long answer is not idle (see the lower bound of spec.lifecycle.idleTimeout)."""
_BROKEN = frozenset({Reason.CONTAINER_FAILING, Reason.POD_FAILED, Reason.IMAGE_NOT_USABLE})
"""Reasons with which a new workload is not waited for until the gate's time is over."""
NOT_AGAIN = (
    "It did not work when it was tried, and is not tried again. To have it all the same, write its digest into"
    " spec.image; with the tag alone after that, newer ones are followed again."
)
_NOT_MEASURED = "It waits for the sandbox's controls to be measured, beside which those of a newer image are held."
_NOT_READY = "It waits for the sandbox to be ready: what does not work says nothing of a newer image."


@dataclass(frozen=True)
class Newest:
    """What the tag stands for now. `permitted`: None where that is not known yet. `message`: why not."""

    digest: str
    permitted: bool | None = True
    message: str = ""


NOT_TRIED = Trial()


@dataclass(frozen=True)
class Work:
    """The workload as a pass sees it. `active`: the last sign of activity; `heard`: whether there would be one.

    `trial`: what is seen of an image that is tried beside it; `missed`: for how long nobody had looked at what is being
    tried before this pass, or None where nobody has yet. `measured`: what its controls say, where that is known.
    `generation`: of the spec; `status`: what was said of the sandbox before this pass.
    """

    state: WorkloadState
    active: datetime | None = None
    heard: bool = False
    trial: Trial = NOT_TRIED
    missed: timedelta | None = canaries.NONE_MISSED
    measured: Measured | None = None
    generation: int | None = None
    status: Mapping[str, Any] = field(default_factory=dict)

    def changed_since(self, rolling: ImageRolling) -> str:
        """What else than the image is another than when it was begun, as a sentence; empty where nothing is."""
        if rolling.generation is not None and self.generation is not None and rolling.generation != self.generation:
            return "The spec was changed meanwhile."
        reason = causes.came_meanwhile(self.status, rolling.started_at)
        return f"Meanwhile there was {reason}." if reason else ""

    @property
    def sees(self) -> bool:
        """Whether anything is seen of the workload, or of what is tried beside it."""
        return self.trial.seen and self.state.status is not ConditionStatus.UNKNOWN

    @property
    def uid(self) -> str | None:
        """Of the workload that there is."""
        return self.state.workload.uid if self.state.workload is not None else None


NO_WORK = Work(WorkloadState(ConditionStatus.FALSE, Reason.NO_WORKLOAD, "There is no workload."))


def stepped(
    asked: UpdatePolicy, status: ImageStatus, newest: Newest | None, work: Work, now: datetime, turn: str = ""
) -> ImageStatus:
    """The next status. `newest` is None where it is not known; `turn`: why others go first."""
    # As a status has it, or the next pass would compare with another time.
    now = now.replace(microsecond=0)
    # What was begun is brought to its end first, whatever the tag stands for by now.
    if status.rolling is not None:
        if asked.strategy is Strategy.AUTO:
            return _tried(asked, status, status.rolling, work, now)
        return _back(status, status.rolling, work, now, "spec.updatePolicy is not Auto any more.", blamed=False)
    status = _wanted_still(asked, status, newest)
    if (canary := canaries.under_way(status)) is not None:
        return canaries.tried(asked, status, canary, work.trial, now, work.missed)
    if newest is None:
        return status
    if newest.digest == status.digest:
        return status.model_copy(update={"available": None})
    known = status.available if status.available and status.available.digest == newest.digest else None
    found = known.found_at if known is not None else now
    begins = asked.tries_beside and status.canary is None
    waits = _kept_by(asked, status, newest) or _waits_for(asked, found, work, now, beside=begins)
    if waits is None and newest.permitted:
        waits = turn or None
    # Nothing is said of it before it is known, or each new digest would be a write that is taken back.
    if waits is None and newest.permitted is None:
        return status
    available = ImageAvailable(digest=newest.digest, found_at=found, message=waits or canaries.BESIDE)
    if waits is not None:
        return status.model_copy(update={"available": available})
    if begins:
        return status.model_copy(
            update={"available": available, "canary": ImageCanary(to=newest.digest, started_at=now)}
        )
    rolling = ImageRolling(to=newest.digest, started_at=now, generation=work.generation, **_compared(asked, work))
    return status.model_copy(update={"available": None, "rolling": rolling, "replaces": work.uid})


def _wanted_still(asked: UpdatePolicy, status: ImageStatus, newest: Newest | None) -> ImageStatus:
    """Without what is tried, or was, for no newer image any more, or for one that may not run."""
    canary = status.canary
    if canary is None:
        return status
    other = newest is not None and (newest.digest != canary.to or newest.permitted is False)
    if asked.strategy is not Strategy.AUTO or other or (canary.ended_at is None and not asked.tries_beside):
        return status.model_copy(update={"canary": None})
    return status


def withdrawn(status: ImageStatus, work: Work, now: datetime) -> ImageStatus:
    """The next status where what is being tried may not run any more."""
    if status.rolling is None:
        return status
    return _back(
        status, status.rolling, work, now.replace(microsecond=0), "A ClaudeImagePolicy refuses it.", blamed=False
    )


def replaces(status: ImageStatus, work: Work) -> bool:
    """Whether the workload that there is has to give way to one of another digest."""
    return status.replaces is not None and status.replaces == work.uid


def _kept_by(asked: UpdatePolicy, status: ImageStatus, newest: Newest) -> str | None:
    """Why it is not taken at all; None where it may be."""
    if newest.digest in (status.failed or ()):
        return NOT_AGAIN
    if newest.permitted is False:
        return newest.message
    if asked.strategy is not Strategy.AUTO:
        return "Strategy Notify only tells of it: write its digest, or have the workload made anew without one."
    return None


def _waits_for(asked: UpdatePolicy, found: datetime, work: Work, now: datetime, *, beside: bool) -> str | None:
    """What it waits for to be rolled, or only to be tried `beside` the workload; None where that is nothing."""
    if beside:
        return None if work.state.status is ConditionStatus.TRUE else _NOT_READY
    if asked.window is not None and not asked.window.is_open(now):
        return "It waits for the window of spec.updatePolicy."
    if work.state.status is not ConditionStatus.TRUE:
        return _NOT_READY
    if asked.gate.requires is Requires.COMPLIANT and work.measured is None:
        return _NOT_MEASURED
    patience = asked.waits
    if patience is not None and now - found >= patience:
        return None
    if not work.heard:
        return "It waits for the agent to be idle, of which nothing tells: the gateway is not heard."
    if work.active is not None and now - work.active < IDLE_FOR:
        return "It waits for the agent to be idle."
    return None


def _tried(asked: UpdatePolicy, status: ImageStatus, rolling: ImageRolling, work: Work, now: datetime) -> ImageStatus:
    state, gate = work.state, asked.gate
    if state.status is ConditionStatus.UNKNOWN or replaces(status, work):
        return status
    replaced, ready = (canaries.later(at, work.missed, now) for at in (rolling.replaced_at, rolling.ready_at))
    rolling = rolling.model_copy(update={"replaced_at": replaced or now, "ready_at": ready})
    status = status.model_copy(update={"rolling": rolling})
    there, since = work.uid is not None, rolling.replaced_at or now
    if there and state.status is ConditionStatus.FALSE and state.reason in _BROKEN:
        return _back(status, rolling, work, now, f"Its workload does not work: {state.message}")
    if there and state.status is ConditionStatus.TRUE:
        ready = rolling.ready_at or now
        status = status.model_copy(update={"rolling": rolling.model_copy(update={"ready_at": ready})})
        if now - ready < duration(gate.stable):
            return status
        why, for_good = _worse(gate, rolling, work.measured)
        if why and (for_good or now - ready >= duration(gate.stable) + duration(gate.within)):
            return _back(status, rolling, work, now, why)
        if why:
            return status
        message = f"It was ready for {gate.stable}. {status.canary.message if status.canary else ''}".strip()
        change = ImageChange(result=ImageResult.ROLLED, before=status.digest, to=rolling.to, at=now, message=message)
        return status.model_copy(
            update={
                "digest": rolling.to,
                "since": rolling.started_at,
                "rolling": None,
                "canary": None,
                "last": change,
                "replaces": None,
            }
        )
    # Only of a workload that is there: between two of them nothing is ready, and nothing has failed.
    if rolling.ready_at is not None and there:
        return _back(status, rolling, work, now, f"Its workload was ready, and is no more: {state.message}")
    if now - since >= duration(gate.within):
        return _back(status, rolling, work, now, f"It was not ready within {gate.within}: {state.message}")
    return status


def _compared(asked: UpdatePolicy, work: Work) -> dict[str, list[str]]:
    """What of the workload before is kept for the gate, where that looks at controls."""
    if asked.gate.requires is not Requires.COMPLIANT or work.measured is None:
        return {}
    return {"failed_before": sorted(work.measured.failed), "unknown_before": sorted(work.measured.unknown)}


def _worse(gate: HealthGate, rolling: ImageRolling, now: Measured | None) -> tuple[str, bool]:
    """What the controls say against it, empty where nothing; and whether waiting can't change that."""
    if gate.requires is not Requires.COMPLIANT:
        return "", False
    before = Measured.before(rolling)
    if now is None:
        return f"Its controls were not measured within {gate.within} of that it was stable.", False
    if failed := now.newly_failed(before):
        return f"It is less Compliant than the image before: {', '.join(failed)} failed.", True
    unknown = ", ".join(now.newly_unknown(before))
    return f"Whether it is Compliant was not known within {gate.within}: {unknown}." if unknown else "", False


def _back(
    status: ImageStatus, rolling: ImageRolling, work: Work, now: datetime, why: str, *, blamed: bool = True
) -> ImageStatus:
    """`blamed`: whether what went wrong is the image's own doing, as far as can be told."""
    if blamed and (meanwhile := work.changed_since(rolling)):
        # First: a message is clipped at its end.
        blamed, why = False, f"{meanwhile} It is tried again. {why}"
    change = ImageChange(result=ImageResult.ROLLED_BACK, before=status.digest, to=rolling.to, at=now, message=why)
    failed = status.failed
    if blamed:
        failed = [*(one for one in failed or () if one != rolling.to), rolling.to][-MOST_FAILED:]
    # The one before it, where that is there still, goes on.
    there = None if work.uid == status.replaces else work.uid
    gone = {"rolling": None, "canary": None}
    return status.model_copy(update={**gone, "last": change, "failed": failed, "replaces": there})


def events(before: ImageStatus | None, now: ImageStatus | None) -> Iterator[tuple[str, str, bool]]:
    """What is worth a Kubernetes Event: reason, message, whether it is a warning."""
    if now is None:
        return
    known = before.available.digest if before is not None and before.available is not None else None
    if now.available is not None and now.available.digest != known:
        yield "ImageAvailable", f"{now.named} is {now.available.digest} now. {now.available.message}", False
    if (canary := canaries.under_way(now)) is not None and canaries.under_way(before) is None:
        yield "ImageTried", f"{canary.to} is tried beside {now.digest}.", False
    if now.rolling is not None and (before is None or before.rolling is None):
        yield "ImageRolling", f"{now.rolling.to} is tried in place of {now.digest}.", False
    if now.last is not None and (before is None or before.last != now.last):
        old, new, rolled = now.last.before, now.last.to, now.last.result is ImageResult.ROLLED
        goes_on = "again" if now.last.result is ImageResult.ROLLED_BACK else "as it did"
        never = f", and {new} is not tried again" if new in (now.failed or ()) else f" in place of {new}"
        message = f"{new} runs in place of {old}." if rolled else f"{old} runs {goes_on}{never}."
        yield f"Image{now.last.result}", f"{message} {now.last.message}", not rolled
