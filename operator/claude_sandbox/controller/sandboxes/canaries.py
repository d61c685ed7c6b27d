"""A newer image that is tried beside a sandbox's workload: looked at, begun and ended by the sandbox's passes.

Theory of operation. It holds nothing. That an image is tried, the status says, and what is made of it follows from
that: a pass looks at it before it asks what may run, begins it where the answer says so and it is not there, and ends
it where the answer says so no more. So the status says it before anything is made, and says that it is over after it
was ended; a crash in between has it looked at, or made, once more. Called by the one pass at work on a sandbox.
"""

from dataclasses import replace
from datetime import datetime

from claude_sandbox.api.fields.update_policy import Canary, UpdatePolicy
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status_fields.image import ImageCanary, ImageStatus
from claude_sandbox.backends.base import Trial
from claude_sandbox.blueprint.canary import canary_of
from claude_sandbox.blueprint.model import Blueprint, Image
from claude_sandbox.controller.images.canaries import seconds_of, under_way
from claude_sandbox.controller.images.gate import Admission, image_status
from claude_sandbox.controller.images.updates import Work
from claude_sandbox.controller.sandboxes.interfaces import Backend, HostedSandboxes, ImagePolicies
from claude_sandbox.controller.sandboxes.store import Raw, on_docker

_AGAIN = 5.0
"""Seconds until what could not be ended is tried again."""
_NOT_SEEN = Trial(seen=False)


async def admitted(
    images: ImagePolicies,
    hosted: HostedSandboxes | None,
    raw: Raw,
    desired: tuple[Backend, Blueprint, ClaudeSandboxSpec],
    now: datetime,
    work: Work,
) -> Admission:
    """What may run of a sandbox that is to run, with what is seen of an image that is tried beside it."""
    backend, blueprint, spec = desired
    status = _status(raw)
    before = under_way(status)
    if before is None:
        return images.admitted(raw, spec, blueprint, now, work)
    seen = await backend.tried(blueprint.identity)
    is_missing = seen.seen and not seen.uid
    # What is not there says nothing before it was to be made.
    found = images.admitted(raw, spec, blueprint, now, replace(work, trial=_NOT_SEEN if is_missing else seen))
    if found.tries is not None and is_missing:
        trial = await _begun(hosted, raw, desired, found.tries)
        found = images.admitted(raw, spec, blueprint, now, replace(work, trial=trial))
    if _goes_on(before, found.status) or await backend.end_trial(blueprint.identity):
        return found
    # Nothing of it is said before it is so.
    return replace(found, status=status, turned=False, again=_AGAIN, held=True)


async def ended(raw: Raw, backend: Backend, blueprint: Blueprint) -> Admission | None:
    """End what is tried of a sandbox that is to have no workload; what is to be said of that. None: nothing."""
    status = _status(raw)
    if status is None or under_way(status) is None:
        return None
    if not await backend.end_trial(blueprint.identity):
        return Admission(blueprint.image, status, again=_AGAIN)
    return Admission(blueprint.image, status.model_copy(update={"canary": None}), turned=True)


def is_exchanged(admission: Admission | None, raw: Raw) -> bool:
    """Whether the workload that was seen last gives way to one of another image."""
    status = admission.status if admission is not None else None
    seen = ((raw.get("status") or {}).get("workload") or {}).get("uid")
    return status is not None and seen is not None and status.replaces == seen


async def _begun(
    hosted: HostedSandboxes | None, raw: Raw, desired: tuple[Backend, Blueprint, ClaudeSandboxSpec], image: Image
) -> Trial:
    backend, blueprint, spec = desired
    room = hosted.no_room_beside(raw) if hosted is not None and on_docker(raw) else ""
    if room:
        return Trial(no_room=room)
    asked = spec.update_policy or UpdatePolicy()
    seconds = seconds_of(asked)
    canary = canary_of(blueprint, image, seconds, command=asked.canary is Canary.COMMAND)
    return await backend.try_beside(canary, spec, seconds)


def _goes_on(before: ImageCanary, now: ImageStatus | None) -> bool:
    canary = under_way(now)
    return canary is not None and canary.to == before.to


def _status(raw: Raw) -> ImageStatus | None:
    return image_status((raw.get("status") or {}).get("image"))
