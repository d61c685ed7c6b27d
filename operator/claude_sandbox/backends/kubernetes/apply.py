"""Carries out a plan, stage by stage, and says what became of it.

Theory of operation. It holds nothing between passes: what it is told of goes to `seen`, the informers' stores, and to
`admission`, before the next stage begins. So the next pass never sees the state from before a write.

- A missing object is created, never applied: applying would take over an object of the same name that somebody else
  made meanwhile. AlreadyExists is looked at: it is ours, or foreign, or what an earlier sandbox left.
- What is there is applied (server-side apply) or deleted with its UID as a precondition: another object that took over
  the name is never meant, and other managers' fields stay theirs.
- An object that applying can't mend is deleted and made again. A crash between the two leaves it missing, and the next
  pass makes it; of a policy, the namespace's baseline denies all meanwhile.
- A pod that admission changed is ended at once, before a node has it, mostly, and is not made again until admission
  is found to leave it alone.

Called by the one pass at work on a sandbox, on the event loop. `backends.apply` says what holds for the stages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.apply import ForeignObjectError, Pace, Progress, StaleError, apply_stages
from claude_sandbox.backends.base import Cause, Failure, Outcome
from claude_sandbox.backends.kubernetes import drift
from claude_sandbox.backends.kubernetes.admission import PodAdmission
from claude_sandbox.backends.kubernetes.ownership import (
    is_baseline,
    is_gateways,
    is_leftover,
    is_owned,
    is_retained_claim,
)
from claude_sandbox.backends.kubernetes.plan import Plan, Step, Verb
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object

RESOURCES: dict[str, Resource] = {
    resource.kind: resource
    for resource in (
        NETWORK_POLICIES,
        PERSISTENT_VOLUME_CLAIMS,
        PODS,
        SERVICE_ACCOUNTS,
        SERVICES,
        DEPLOYMENTS,
        DISRUPTION_BUDGETS,
        ROLE_BINDINGS,
        ROLES,
    )
}

Seen = Callable[[Resource, Manifest], None]
"""Told of each object as the API server answered it, before any watch does."""

# Seconds of grace of what has to end at once. None at all would take the pod's object away before it has ended.
AT_ONCE = 1

_REPAIRS = {Verb.CREATE: "Missing", Verb.APPLY: "Drifted", Verb.DELETE: "Ended"}


class ImposedError(Exception):
    """The API server's answer to a write is not what was asked for: something in its admission changed it.

    `paths` are in what, as "Kind name: path".
    """

    def __init__(self, step: Step, paths: tuple[str, ...]) -> None:
        self.paths = tuple(f"{step.kind} {step.name}: {path}" for path in paths)
        super().__init__(", ".join(self.paths))


@dataclass
class _Progress(Progress[Step]):
    """`known`: in what admission changes what is asked for, as the plan knew; `imposed`: what else it turned out."""

    known: tuple[str, ...] = ()
    imposed: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return super().over or bool(self.imposed)

    def failed(self, step: Step, error: Exception) -> None:
        # No failure of this step: what admission changes is told apart, with the one who can mend it.
        if isinstance(error, ImposedError):
            self.imposed += (path for path in error.paths if path not in self.known)
        elif not isinstance(error, ApiError):
            # A mistake of our own ends the pass, and is logged with its place.
            raise error
        elif error.is_conflict and step.verb is Verb.APPLY:
            # What was to be applied is gone or another one by now: no failure, but a picture that is behind.
            self.stale = True
        else:
            self.failure = self.failure or failure_of(step, error)


async def carry_out(
    api: Api, plan: Plan, identity: Identity, seen: Seen, pace: Pace, admission: PodAdmission
) -> Outcome:
    """Write what the plan says. Stops after the first stage that did not wholly succeed; never raises ApiError."""
    progress = _Progress(known=plan.imposed)

    def wait(stage: tuple[Step, ...]) -> float:
        return pace() if any(step.paced for step in stage) else 0.0

    await apply_stages(plan.stages, progress, wait, lambda step: _do(api, step, identity, seen, admission))
    done = progress.done
    imposed = tuple(dict.fromkeys((*plan.imposed, *progress.imposed)))
    return Outcome(
        created=progress.named((Verb.CREATE,), Cause.PROVISION, Cause.UPDATE),
        updated=progress.named((Verb.APPLY,), Cause.UPDATE),
        removed=progress.named((Verb.DELETE,), Cause.UPDATE),
        healed=progress.healed(lambda step: _REPAIRS[step.verb]),
        foreign=(*plan.foreign, *progress.foreign),
        drifted=plan.drifted,
        spec_changed=plan.spec_changed,
        imposed=imposed,
        ended=next((_uid(step) for step in done if step.kind == "Pod" and step.verb is Verb.DELETE), None),
        key_sent=any(_sends_key(step) for step in done),
        paced=progress.paced,
        failure=progress.failure or _waiting(plan.leftover) or _told(imposed, identity),
        stale=progress.stale,
    )


def _uid(step: Step) -> str:
    assert step.live is not None  # noqa: S101 - the planner's promise
    return str(step.live["metadata"]["uid"])


def _waiting(leftover: tuple[str, ...]) -> Failure | None:
    """Nobody has to act: what is waited for comes by itself."""
    if not leftover:
        return None
    names = ", ".join(leftover)
    message = f"Waits until the garbage collector has removed what an earlier sandbox of this name had: {names}."
    return Failure(Reason.PROGRESSING, message, permanent=False)


def _told(imposed: tuple[str, ...], identity: Identity) -> Failure | None:
    """Who can act is who set up the webhook or the policy, so that the message says what that may be and what to do."""
    if not imposed:
        return None
    message = (
        "A mutating webhook or policy of the cluster changes what is asked for, which is not fought: it must leave out"
        f" namespace {identity.namespace} or pods with the label {meta.LABEL_SANDBOX}. It changes {', '.join(imposed)}."
    )
    if any(path.endswith(": spec.hostUsers") for path in imposed):
        # What it does not know an API server leaves out without a word.
        message += (
            " An API server that gives pods no users of their own (Kubernetes before 1.33, unless its feature gate"
            " UserNamespacesSupport is on) drops hostUsers: use a newer one, or remove spec.security.userNamespace."
        )
    return Failure(Reason.CHANGED_ON_ADMISSION, message, permanent=True)


def failure_of(step: Step, error: ApiError) -> Failure:
    """An API error as something that a person can act upon."""
    what = f"{step.verb.value} {step.kind} {step.name}"
    if error.is_permission_denied:
        remedy = "Grant it to the operator's ServiceAccount (manifests/rbac), or remove the feature that needs it."
        return Failure(Reason.PERMISSION_DENIED, f"The operator may not {what}: {error.message}. {remedy}", True)
    if error.is_namespace_terminating:
        return Failure(Reason.PROGRESSING, "The namespace is being deleted.", permanent=False)
    if error.is_forbidden or error.is_invalid:
        return Failure(Reason.REJECTED, f"The API server refused to {what}: {error.message}", permanent=True)
    return Failure(Reason.RETRYING, f"Could not {what}: {error}", permanent=False)


async def _do(api: Api, step: Step, identity: Identity, seen: Seen, admission: PodAdmission) -> Step | None:
    """One write; what it turned out to be, or None where it was done already."""
    resource = RESOURCES[step.kind]
    if step.verb is Verb.CREATE:
        return await _create(api, resource, step, identity, seen, admission)
    if step.verb is Verb.DELETE:
        return await _delete(api, resource, step, seen)
    return await _apply(api, resource, step, seen, admission)


async def _create(
    api: Api, resource: Resource, step: Step, identity: Identity, seen: Seen, admission: PodAdmission
) -> Step | None:
    namespace = identity.namespace
    try:
        live = await api.create(resource, step.manifest, namespace)
    except ApiError as error:
        if not error.is_already_exists:
            raise
        return await _take(api, resource, step, identity, seen, admission)
    differ = drift.pod_differences if resource is PODS else drift.DIFFER.get(step.kind, _the_same)
    paths = differ(step.manifest, live)
    admission.answered(step.manifest, paths)
    if resource is PODS:
        # Before anything else awaits: from here on a crash leaves a pod that only `recognize` finds again.
        admission.made(identity, live)
        if paths:
            # What runs would not be what is declared. It is ended before a node has it, mostly.
            seen(resource, live)
            await _delete(api, resource, replace(step, live=live, at_once=True), seen)
            raise ImposedError(step, paths)
    seen(resource, live)
    if paths:
        raise ImposedError(step, paths)
    return step


async def _take(
    api: Api, resource: Resource, step: Step, identity: Identity, seen: Seen, admission: PodAdmission
) -> Step | None:
    """An object that is there already: ours or another's."""
    namespace = identity.namespace
    # Asked of the server, not of the stores: most kinds are followed by label, and this one may have none.
    live = await api.get(resource, step.name, namespace)
    # The next pass waits for the garbage collector, by its plan.
    if is_leftover(live, identity):
        seen(resource, live)
        raise StaleError from None
    if not _is_ours(resource, live, identity):
        raise ForeignObjectError(f"{step.kind} {step.name}") from None
    # Ours after all: an earlier try of this create, the watch is behind, or its labels were taken away.
    wanted = step.manifest["metadata"]["labels"]
    paths = tuple(drift.differences(wanted, live["metadata"].get("labels"), "metadata.labels"))
    if resource is PODS and admission.ours(identity, live) is None:
        if paths:
            raise ForeignObjectError(f"{step.kind} {step.name}") from None
        seen(resource, live)
        raise StaleError from None
    if not paths:
        seen(resource, live)
        return None
    # Most kinds are followed by label: without, no watch tells of it, and only a create that meets it brings them back.
    labelled = {"metadata": {"uid": live["metadata"]["uid"], "labels": wanted}}
    seen(resource, await api.patch(resource, step.name, namespace, labelled))
    return replace(step, verb=Verb.APPLY, live=live, paths=paths)


def _the_same(_desired: Object, _live: Object) -> tuple[str, ...]:
    return ()


async def _delete(api: Api, resource: Resource, step: Step, seen: Seen) -> Step | None:
    assert step.live is not None  # noqa: S101 - the planner's promise
    metadata = step.live["metadata"]
    try:
        grace = AT_ONCE if step.at_once else None
        answer = await api.delete(resource, step.name, metadata["namespace"], uid=metadata["uid"], grace_seconds=grace)
    except ApiError as error:
        # It is gone, or another has its name: either is what was wanted of this one.
        if error.is_not_found or error.is_conflict:
            return None
        raise
    # The answer is a Status where the object is gone already.
    if answer.get("kind") == step.kind and answer["metadata"].get("deletionGracePeriodSeconds"):
        # It is still there and must not look ready until the watch says so. Without a grace period it is gone by now.
        seen(resource, answer)
    return step


async def _apply(api: Api, resource: Resource, step: Step, seen: Seen, admission: PodAdmission) -> Step:
    assert step.live is not None  # noqa: S101
    body = dict(step.manifest) | {"metadata": step.manifest["metadata"] | {"uid": step.live["metadata"]["uid"]}}
    # With its UID: an object that was deleted and made anew meanwhile is a conflict.
    live = await api.apply(resource, body)
    differ = drift.DIFFER.get(step.kind)
    if differ and differ(step.manifest, live):
        # Something that was added belongs to another manager, so that applying can't remove it.
        metadata = live["metadata"]
        await api.delete(resource, step.name, metadata["namespace"], uid=metadata["uid"])
        live = await api.create(resource, step.manifest, metadata["namespace"])
        if paths := differ(step.manifest, live):
            seen(resource, live)
            admission.answered(step.manifest, paths)
            raise ImposedError(step, paths)
    seen(resource, live)
    return step


def _is_ours(resource: Resource, live: Object, identity: Identity) -> bool:
    if live["metadata"]["name"] == meta.GATEWAY:
        return is_gateways(live)
    # It was kept for a sandbox of this name, which this one is.
    if resource is PERSISTENT_VOLUME_CLAIMS and is_retained_claim(live, identity):
        return True
    # The baseline has no owner; with one it would go with that.
    if resource is NETWORK_POLICIES and not live["metadata"].get("ownerReferences"):
        return is_baseline(live)
    return is_owned(live, identity)


def _sends_key(step: Step) -> bool:
    return step.kind == "Pod" and any(path.endswith(meta.ANNOTATION_KEY_GENERATION) for path in step.paths)
