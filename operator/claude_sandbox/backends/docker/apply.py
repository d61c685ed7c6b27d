"""Carries out a plan, stage by stage, and says what became of it.

Theory of operation. A missing object is created, never taken over: a container's and a network's name can be had once,
and of a volume, which an engine hands out again without a word, the labels are looked at. What is there is changed by
its identifier. What each kind of step does is in `steps/`; here is what its errors mean:

- the object is gone, or not in the state any more that the step needs (404, 409): the picture was behind (StaleError);
- an image is on its way: its end makes another pass; until then one tells how far it is;
- the ports can't be published: that is told, and fails nothing else;
- all else is a failure, told with its remedy. Whether a call was carried out that got no answer, the next look shows.

Called by the one pass at work on a sandbox, on the event loop. It holds nothing between passes; `ApplyContext.results`
has what the writes were answered with, until the pass's end. A crash leaves what was written so far, in the order of
the stages: at worst containers that were made and not started, of which the next plan removes a helper first.
`backends.apply` says what holds for the stages.
"""

import re
from dataclasses import dataclass

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.apply import FOREIGN_AGAIN, Pace, Progress, StaleError, apply_stages
from claude_sandbox.backends.base import Cause, Failure, Outcome
from claude_sandbox.backends.docker.documents.profiles import asked_profile, missing_profile
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.images.pulls import ImageMissingError, ImagePendingError, ImageRefusedError
from claude_sandbox.backends.docker.keys.delivery import KeyUnavailableError
from claude_sandbox.backends.docker.model import (
    CLONER,
    CONTAINER,
    GATEWAY,
    HOLDER,
    RELAY,
    VOLUME,
    Desired,
    Plan,
    Step,
    Verb,
)
from claude_sandbox.backends.docker.steps.cloner import cloner_step
from claude_sandbox.backends.docker.steps.containers import container_step
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.steps.gateway import gateway_step
from claude_sandbox.backends.docker.steps.holder import holder_step
from claude_sandbox.backends.docker.steps.networks import network_step
from claude_sandbox.backends.docker.steps.relay import relay_step
from claude_sandbox.backends.docker.steps.volumes import UnenforcedSizeError, volume_step

# Seconds until it is told how far a pull is; its end is told at once.
PULL_AGAIN = 10.0
# Seconds until a port is tried again that the engine refused to publish: somebody else may have given it up.
PORTS_AGAIN = 30.0
# In an engine's messages; of an endpoint, which is another one at each try.
_IDENTIFIER = re.compile(r" \([0-9a-f]{64}\)")

_CONFINED = (CONTAINER, CLONER)
"""Kinds of containers that are held to the profile that a sandbox asks for."""
_REPAIRS = {Verb.CREATE: "Missing", Verb.DELIVER: "Missing", Verb.REMOVE: "Ended", Verb.START: "Ended"}


@dataclass
class _Progress(Progress[Step]):
    """`profile`: of AppArmor, that the sandbox's containers ask for; empty where they ask for none. `unpublished`: why
    declared ports are not published; it fails nothing else."""

    profile: str = ""
    unpublished: str = ""

    def failed(self, step: Step, error: Exception) -> None:
        if isinstance(error, ImagePendingError):
            self.paced = PULL_AGAIN
        elif isinstance(error, ImageRefusedError):
            self.failure = Failure(Reason.IMAGE_NOT_ALLOWED, str(error), permanent=True)
        elif isinstance(error, UnenforcedSizeError):
            self.failure = Failure(Reason.REJECTED, str(error), permanent=True)
        elif not isinstance(error, EngineError | ImageMissingError | KeyUnavailableError):
            raise error
        elif why := _unpublished(step, error):
            self.unpublished, self.paced = why, PORTS_AGAIN
        else:
            self.failure = self.failure or failure_of(step, error, self.profile)


async def carry_out(context: ApplyContext, desired: Desired, wanted: Plan, pace: Pace) -> Outcome:
    """Do what the plan says. Stops after the first stage that did not wholly succeed; never raises EngineError."""
    progress = _Progress(profile=asked_profile(desired.documents.container))
    await apply_stages(
        wanted.stages,
        progress,
        lambda stage: _wait(context, stage, pace),
        lambda step: _do(context, desired, step),
    )
    # The plan did the rest around it. That somebody else takes his object away, no event tells: it carries no label of
    # ours.
    if wanted.foreign and progress.paced is None:
        progress.paced = FOREIGN_AGAIN
    done = progress.done
    return Outcome(
        created=(
            *progress.named((Verb.CREATE,), Cause.PROVISION, Cause.UPDATE),
            # What an earlier pass had only begun to make.
            *progress.named((Verb.REPLACE,), Cause.PROVISION),
        ),
        updated=progress.named((Verb.UPDATE, Verb.REPLACE, Verb.DELIVER), Cause.UPDATE),
        removed=progress.named((Verb.REMOVE,), Cause.UPDATE),
        healed=progress.healed(lambda step: step.reason or _REPAIRS.get(step.verb, "Drifted")),
        foreign=(*wanted.foreign, *progress.foreign),
        drifted=wanted.drifted,
        spec_changed=wanted.spec_changed,
        ended=next((_uid(step) for step in done if _ends(step)), None),
        key_sent=any(step.verb is Verb.DELIVER for step in done),
        paced=progress.paced,
        failure=progress.failure,
        unpublished=progress.unpublished,
        stale=progress.stale,
    )


def _wait(context: ApplyContext, stage: tuple[Step, ...], pace: Pace) -> float:
    """Seconds until a stage may be carried out."""
    if any(step.paced for step in stage):
        own = {
            RELAY: context.pace_relay,
            GATEWAY: context.pace_gateway,
            CLONER: context.pace_cloner,
            HOLDER: context.pace_holder,
        }
        wait = next((own[step.kind] for step in stage if step.kind in own), pace)()
        if wait > 0:
            return wait
    # Asked last: to ask counts as done, and a stage that waits for something else does nothing.
    return context.pace_key() if any(step.brings_key for step in stage) else 0.0


def _unpublished(step: Step, error: EngineError | ImageMissingError | KeyUnavailableError) -> str:
    """Why declared ports are not published, as something that a person can act upon; empty where it is not that."""
    if step.kind != RELAY or isinstance(error, KeyUnavailableError):
        return ""
    # A silence says nothing of ports: it fails the pass, as that of any other step.
    if isinstance(error, EngineError) and error.is_unreachable:
        return ""
    if isinstance(error, ImageMissingError):
        return f"No port of spec.network.ports is published, for want of the relay's image (--relay-image): {error}"
    said = _IDENTIFIER.sub("", error.message)
    return (
        f"No port of spec.network.ports is published: the Docker host answers: {said}. Where a port is taken,"
        " write another hostPort or leave it out; it is tried again."
    )


def failure_of(step: Step, error: EngineError | ImageMissingError | KeyUnavailableError, profile: str = "") -> Failure:
    """What went wrong, as something that a person can act upon. `profile`: as `_Progress` has it."""
    what = f"{step.verb.value} {step.kind} {step.name}"
    if isinstance(error, ImageMissingError):
        return Failure(Reason.IMAGE_PULL_FAILED, str(error), permanent=False)
    if isinstance(error, KeyUnavailableError):
        return Failure(error.reason, str(error), permanent=error.reason is not Reason.RETRYING)
    # Before what its status says: engines answer 400 or 500, as runc's words happen to read.
    if step.kind in _CONFINED and (missing := missing_profile(step.name, profile, error.message)):
        return Failure(Reason.PROFILE_MISSING, missing, permanent=True)
    if error.is_invalid:
        return Failure(Reason.REJECTED, f"The Docker host refused to {what}: {error.message}", permanent=True)
    if "address pool" in error.message or "fully subnetted" in error.message:
        remedy = "Give it more with `default-address-pools` in its daemon.json."
        return Failure(Reason.RETRYING, f"The Docker host has no addresses left for a network. {remedy}", False)
    return Failure(Reason.RETRYING, f"Could not {what}: {error}", permanent=False)


async def _do(context: ApplyContext, desired: Desired, step: Step) -> Step:
    try:
        await _by_kind(context, desired, step)
    except EngineError as error:
        # What it was decided upon is gone, or no longer as it was: a container can't be unpaused that is not paused.
        # A volume that somebody else's container has mounted stays as it is, and that has to be said.
        behind = error.is_conflict and not (step.kind == VOLUME and step.verb is Verb.REPLACE)
        if behind or (error.is_not_found and not error.is_image_missing):
            raise StaleError from None
        raise
    return step


async def _by_kind(context: ApplyContext, desired: Desired, step: Step) -> None:
    match step.kind:
        case "Network":
            await network_step(context, desired, step)
        case "Gateway":
            await gateway_step(context, desired, step)
        case "Cloner":
            await cloner_step(context, desired, step)
        case "Holder":
            await holder_step(context, desired, step)
        case "Relay":
            await relay_step(context, desired, step)
        case "Volume" if step.verb is not Verb.DELIVER:
            await volume_step(context, desired, step)
        case _:
            await container_step(context, desired, step)


def _ends(step: Step) -> bool:
    # What is removed to provision are helpers and companions of an earlier pass, in which nobody worked.
    return step.kind == CONTAINER and step.verb is Verb.REMOVE and step.cause is not Cause.PROVISION


def _uid(step: Step) -> str:
    assert step.live is not None  # noqa: S101 - the planner's promise
    return str(step.live["Id"])
