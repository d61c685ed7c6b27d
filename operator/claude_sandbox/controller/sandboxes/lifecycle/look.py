"""Where a sandbox is in its life, by what its object says and what a pass found of its workload. Pure.

A pass asks twice: before it does anything, by what is written down, and when it has seen the workload and heard its
gateway. What the status says of an end is believed only where nothing runs. So whoever may write a status ends nothing
by it; an end that was reported keeps a sandbox from coming back by itself, and that is all.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from claude_sandbox.api.conditions import ConditionStatus, ConditionType
from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.api.meta import ANNOTATION_ACTIVE_AT
from claude_sandbox.api.spec import ClaudeSandboxSpec, OperatingMode, WorkspaceType
from claude_sandbox.api.status_fields.lifecycle import CpuActivity, End, LifecycleStatus
from claude_sandbox.api.status_fields.usage import Usage
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.controller.sandboxes.gateways.usage import usage_after
from claude_sandbox.controller.sandboxes.lifecycle.cpu import APART, CpuLook
from claude_sandbox.controller.sandboxes.lifecycle.life import Looked, Seen, life
from claude_sandbox.controller.sandboxes.reporting.conditions import conditions_of
from claude_sandbox.controller.sandboxes.reporting.findings import Findings
from claude_sandbox.controller.sandboxes.store import Raw

_AHEAD = timedelta(minutes=5)
"""How far a clock of a user, a node or a gateway may be ahead; a time beyond that is not believed at all."""


def before(raw: Raw, spec: ClaudeSandboxSpec, now: datetime, *, rests: bool) -> Looked | None:
    """By what is written down; None where the spec bounds nothing. `rests`: whether nothing of it runs."""
    if spec.lifecycle is None:
        return None
    found = _looked(spec, _written(raw, spec, now, rests=rests), now)
    # What it ended by stays said.
    return replace(found, cpu=previous(raw).cpu) if found is not None and found.life.ended is not None else found


def after(raw: Raw, spec: ClaudeSandboxSpec, findings: Findings, now: datetime) -> Looked | None:
    """By what the pass found as well, of one that was not over before."""
    if spec.lifecycle is None or spec.lifecycle.idle_timeout is None:
        return before(raw, spec, now, rests=False)
    seen, workload = _written(raw, spec, now, rests=False), findings.workload.workload
    # A start counts as activity: who resumes a sandbox has the whole of the time before them.
    seen = replace(seen, active=_latest(now, seen.active, workload.started_at if workload is not None else None))
    if not _shows_activity(findings):
        return _looked(spec, seen, now)
    answered = findings.usage.last_answered.time if findings.usage and findings.usage.last_answered else None
    # Time in which it could not have worked makes nobody idle. Not Ready by its status yet: it counts from now.
    could = _latest(now, seen.active, answered, _ready_since(raw) or now) or now
    look, rests = findings.cpu, spec.lifecycle.rests_after or timedelta()
    busy = _latest(now, seen.busy, look.busy_at)
    # Until the second look, which is soon, nobody is taken for idle: it may be in the middle of a build.
    counted = max(busy or could, now + APART - rests) if look.first else busy
    found = _looked(spec, replace(seen, active=could, idle=True, busy=counted), now)
    if found is not None:
        found = replace(found, cpu=_told_of_cpu(previous(raw).cpu, replace(look, busy_at=busy), could, found, now))
    # Of one that ended so, that moment is written down: it tells since when it was idle.
    if found is None or found.life.ended is not None:
        return found
    # Since when it is Ready says its condition.
    return replace(found, active=seen.active)


def _told_of_cpu(
    before: CpuActivity | None, look: CpuLook, active: datetime, found: Looked, now: datetime
) -> CpuActivity | None:
    """For the status; None where it says nothing that counts, or its end is far: an agent at work is busy anyway."""
    rests = found.asked.rests_after or timedelta()
    busy = look.busy_at if look.busy_at is not None and look.busy_at > active else None
    if now < active + rests / 2:
        return None
    told = before.busy_at if before is not None else None
    # Not each look is worth a write. What it ended by is.
    if busy is not None and told is not None and active < told <= busy < told + rests / 10 and not found.life.ended:
        busy = told
    return CpuActivity(state=look.state, busy_at=busy)


def _shows_activity(findings: Findings) -> bool:
    """Whether it can work now, and its gateway tells when it does. What was made from an earlier spec may have its
    key without that."""
    ready = conditions_of(findings)[ConditionType.READY].status is ConditionStatus.TRUE
    return ready and findings.workload.heard and not findings.outcome.spec_changed


def _looked(spec: ClaudeSandboxSpec, seen: Seen, now: datetime) -> Looked | None:
    if spec.lifecycle is None:
        return None
    kept = spec.workspace.type is WorkspaceType.PERSISTENT_VOLUME_CLAIM
    active = seen.active if spec.lifecycle.idle_timeout is not None else None
    return Looked(spec.lifecycle, life(spec.lifecycle, seen, now), active, kept)


def _written(raw: Raw, spec: ClaudeSandboxSpec, now: datetime, *, rests: bool) -> Seen:
    """What the object says of its life."""
    metadata, told = raw["metadata"], previous(raw)
    said = utc((metadata.get("annotations") or {}).get(ANNOTATION_ACTIVE_AT))
    ended = told.ended if rests else None
    # Who suspends it by hand and resumes it means what they do.
    idle = ended is not None and ended.by is End.IDLE_TIMEOUT and spec.operating_mode is OperatingMode.RUNNING
    return Seen(
        made=datetime.fromisoformat(metadata["creationTimestamp"]),
        active=_latest(now, told.last_active, said),
        idle=idle,
        ended=ended,
        busy=_latest(now, told.cpu.busy_at if told.cpu is not None else None),
    )


def previous(raw: Raw) -> LifecycleStatus:
    """What the status says; nothing where that can't be read, as of another version."""
    told: Any = (raw.get("status") or {}).get("lifecycle")
    if not told:
        return LifecycleStatus()
    try:
        return LifecycleStatus.model_validate(told)
    except ValidationError:
        return LifecycleStatus()


def last_active(raw: Raw, usage: Usage | None, state: WorkloadState, now: datetime) -> datetime | None:
    """The last sign of activity, asked for or not: an answered request, a person's word, the workload's start."""
    said = utc((raw["metadata"].get("annotations") or {}).get(ANNOTATION_ACTIVE_AT))
    told = usage_after(state, usage, None, now)
    answered = told.last_answered.time if told is not None and told.last_answered is not None else None
    started = state.workload.started_at if state.workload is not None else None
    return _latest(now, previous(raw).last_active, said, answered, started)


def _latest(now: datetime, *moments: datetime | None) -> datetime | None:
    return max((one for one in moments if one is not None and one <= now + _AHEAD), default=None)


def _ready_since(raw: Raw) -> datetime | None:
    """Since when the status says that it is Ready; None where it does not."""
    for one in (raw.get("status") or {}).get("conditions") or ():
        if one["type"] == ConditionType.READY and one["status"] == ConditionStatus.TRUE:
            return utc(one["lastTransitionTime"])
    return None
