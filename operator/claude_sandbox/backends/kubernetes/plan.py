"""What has to be written so that the live objects become the desired ones. Pure.

The order is the fail-closed one: what denies first, what the workload needs next, the workload last.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from claude_sandbox.api import meta
from claude_sandbox.api.spec import UpdateStrategyType
from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.kubernetes import drift, objects
from claude_sandbox.backends.kubernetes.ownership import is_baseline, is_leftover, is_owned, is_retained_claim
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.kubernetes_api.unstructured import Object, annotations, terminating

# How old a sandbox is, in seconds, when what an earlier one of its name left is no longer left to the garbage
# collector. That takes a moment, or as long as the earlier pod has to end; and longer where very much is deleted.
LEFTOVER_PATIENCE = 120.0


class Verb(Enum):
    """What is done to an object."""

    CREATE = "create"
    APPLY = "apply"
    DELETE = "delete"


@dataclass(frozen=True)
class Step:
    """One write. `live` is what it was decided upon; its UID guards the write."""

    verb: Verb
    cause: Cause
    manifest: Object
    live: Object | None = None
    paths: tuple[str, ...] = ()
    # Repeated without bound it would be harmful: a workload that fails or drifts again at once.
    paced: bool = False
    # Of a deletion: with no more than a second's grace.
    at_once: bool = False

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])


@dataclass(frozen=True)
class Desired:
    """The objects of a sandbox; None for those that it should not have."""

    identity: Identity
    baseline: Object
    account: Object
    policy: Object
    service: Object | None
    claim: Object | None
    home: Object | None
    # The pod as it would be made now; whether there should be none, and whether what a new one needs is there.
    pod: Object
    suspended: bool
    may_start: bool
    update: UpdateStrategyType
    # Whether the key may certainly not be used any more: then nothing may run that has it.
    withdrawn: bool = False
    # Whether what runs gives way to its new image, whatever `update` says.
    exchanged: bool = False


@dataclass(frozen=True)
class Observed:
    """The live objects under the sandbox's names, whoever made them; None for those that don't exist."""

    baseline: Object | None = None
    account: Object | None = None
    policy: Object | None = None
    service: Object | None = None
    claim: Object | None = None
    home: Object | None = None
    pod: Object | None = None
    # Whether the pod is not one that the operator made, whatever owner it names.
    pod_is_foreign: bool = False
    # What the pod was made from, and whether what can be changed of it was changed since; None where that is not known.
    made_from: str | None = None
    changed_since: bool = False
    # For each object, the paths in which the cluster's admission changes it; by kind.
    imposed: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Stages, each of which needs the one before it; the steps of a stage don't need each other."""

    stages: tuple[tuple[Step, ...], ...] = ()
    # Objects under our names that are not ours, as "Kind name"; and those that are about to be collected.
    foreign: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    # In what the running pod is not the desired one.
    drifted: tuple[str, ...] = ()
    spec_changed: bool = False
    # In what the cluster's admission changes what is asked for, as "Kind name: path".
    imposed: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for stage in self.stages for step in stage)


def desire(
    blueprint: Blueprint,
    key_generation: str | None,
    may_start: bool,
    update: UpdateStrategyType,
    gateway: objects.Endpoint | None = None,
    *,
    image_volumes: bool = False,
) -> Desired:
    """The objects that the blueprint asks for. `may_start`: whether the key that a new pod needs is there, and the
    gateway that it is to know of. `image_volumes`: as `objects.pod`."""
    return Desired(
        identity=blueprint.identity,
        baseline=objects.baseline_policy(blueprint.identity.namespace),
        account=objects.service_account(blueprint),
        policy=objects.network_policy(blueprint),
        service=objects.service(blueprint),
        claim=objects.claim(blueprint),
        home=objects.home_claim(blueprint),
        pod=objects.pod(blueprint, key_generation, gateway, image_volumes=image_volumes),
        suspended=not blueprint.running,
        may_start=may_start,
        update=update,
        exchanged=blueprint.exchanged,
    )


def plan(desired: Desired, observed: Observed, past: Past) -> Plan:
    """What to write, and why: what is missing or different may be lost, changed, or asked for for the first time."""
    missing = Cause.HEAL if past.provisioned else Cause.PROVISION
    differs = Cause.HEAL if past.settled else Cause.UPDATE
    later = differs if past.provisioned else missing
    in_the_way = _in_the_way(observed, desired.identity, keeps_home=desired.home is not None)
    first = _child(desired.baseline, observed.baseline, (missing, Cause.HEAL), drift.policy_differences)
    then = (
        *_child(desired.account, observed.account, (missing, differs), drift.account_differences),
        *_child(desired.policy, observed.policy, (missing, differs), drift.policy_differences),
        *_child(desired.claim, observed.claim, (missing, differs), drift.claim_differences),
        # What a spec may ask for later: then it was not lost.
        *_child(desired.home, observed.home, (later, differs), drift.claim_differences),
        *_service(desired, observed.service, (later, differs)),
    )
    # What is not ours is neither changed nor deleted; a person has to decide about it.
    taken = _named(in_the_way)
    first, then = (tuple(s for s in stage if f"{s.kind} {s.name}" not in taken) for stage in (first, then))
    first, then = (tuple(s for s in stage if not _is_imposed(s, observed)) for stage in (first, then))
    imposed = tuple(_imposed(desired, observed))
    drifted: tuple[str, ...] = ()
    spec_changed = False
    last: tuple[Step, ...] = ()
    if observed.pod is None:
        # Nothing starts beside what is somebody else's: a policy under our name may let anything through.
        if desired.may_start and not desired.suspended and not in_the_way and not imposed:
            last = (Step(Verb.CREATE, Cause.HEAL if past.ran and past.settled else Cause.PROVISION, desired.pod),)
    elif is_owned(observed.pod, desired.identity) and not observed.pod_is_foreign:
        made_from = _hash(observed.pod) if observed.made_from is None else observed.made_from
        spec_changed = _hash(desired.pod) != made_from
        drifted = _drifted(desired, observed, observed.pod, spec_changed)
        last = _live_pod(desired, observed, drifted, spec_changed, differs)
    stages = tuple(stage for stage in (first, then, last) if stage)
    waits = past.age < LEFTOVER_PATIENCE
    leftover = tuple(live for live in in_the_way if waits and is_leftover(live, desired.identity))
    foreign = tuple(live for live in in_the_way if live not in leftover)
    return Plan(stages, _named(foreign), _named(leftover), drifted, spec_changed, imposed)


def _drifted(desired: Desired, observed: Observed, pod: Object, spec_changed: bool) -> tuple[str, ...]:
    """In what the pod is no longer what it was made from; without the spec of then, only that it is so."""
    if not spec_changed:
        return drift.pod_differences(desired.pod, pod)
    return ("spec, since the pod was made",) if observed.changed_since else ()


def _imposed(desired: Desired, observed: Observed) -> Iterable[str]:
    """What admission changes of what is there or would be made now."""
    for wanted in (desired.baseline, desired.account, desired.policy, desired.service, desired.pod):
        if wanted is not None:
            name = f"{wanted['kind']} {wanted['metadata']['name']}"
            yield from (f"{name}: {path}" for path in sorted(observed.imposed.get(name, ())))


def _is_imposed(step: Step, observed: Observed) -> bool:
    """Whether the write would only undo what admission does again at once."""
    return step.verb is Verb.APPLY and set(step.paths) <= observed.imposed.get(f"{step.kind} {step.name}", frozenset())


def _child(
    desired: Object | None,
    live: Object | None,
    causes: tuple[Cause, Cause],
    differ: Callable[[Object, Object], tuple[str, ...]],
) -> tuple[Step, ...]:
    missing, differs = causes
    if desired is None:
        return ()
    if live is None:
        return (Step(Verb.CREATE, missing, desired),)
    # Made anew when it is gone: until then the name is taken.
    if terminating(live):
        return ()
    paths = differ(desired, live)
    return (Step(Verb.APPLY, differs, desired, live, paths),) if paths else ()


def _service(desired: Desired, live: Object | None, causes: tuple[Cause, Cause]) -> tuple[Step, ...]:
    # The one child that a spec may cease to ask for, and that may still lead to the pod.
    if desired.service is None and live is not None and is_owned(live, desired.identity):
        gone = _reference("v1", "Service", live)
        return (Step(Verb.DELETE, Cause.UPDATE, gone, live),)
    return _child(desired.service, live, causes, drift.service_differences)


def _live_pod(
    desired: Desired, observed: Observed, drifted: tuple[str, ...], spec_changed: bool, differs: Cause
) -> tuple[Step, ...]:
    pod = observed.pod
    assert pod is not None  # noqa: S101 - the caller's promise
    imposed = observed.imposed.get(f"Pod {desired.pod['metadata']['name']}", frozenset())
    if terminating(pod):
        return ()
    gone = _reference("v1", "Pod", pod)
    if desired.suspended or desired.withdrawn:
        # The kubelet goes on mounting whatever the Secret that the pod names holds by now.
        return (Step(Verb.DELETE, Cause.UPDATE, gone, pod, at_once=desired.withdrawn),)
    # `restartPolicy: Always` restarts containers, and not a pod that was evicted or that its node refused.
    if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return (Step(Verb.DELETE, Cause.HEAL, gone, pod, ("status.phase",), paced=True),)
    if desired.exchanged and spec_changed:
        # Who asks for it tries each image once.
        return (Step(Verb.DELETE, Cause.UPDATE, gone, pod, drifted),)
    if desired.update is UpdateStrategyType.RECREATE and (spec_changed or not set(drifted) <= imposed):
        cause = Cause.UPDATE if spec_changed else Cause.HEAL
        return (Step(Verb.DELETE, cause, gone, pod, drifted, paced=True),)
    paths = drift.metadata_differences(desired.pod, pod)
    if set(paths) <= imposed:
        return ()
    # What it is told in place: a new key, and the settings of a new wish.
    settings = (meta.ANNOTATION_MANAGED_SETTINGS, meta.ANNOTATION_FILE) if differs is Cause.UPDATE else ()
    told = all(any(one in path for one in (meta.ANNOTATION_KEY_GENERATION, *settings)) for path in paths)
    cause = Cause.UPDATE if told else Cause.HEAL
    return (Step(Verb.APPLY, cause, _metadata_only(desired.pod, pod), pod, paths),)


def _reference(version: str, kind: str, live: Object) -> Object:
    name, namespace = live["metadata"]["name"], live["metadata"]["namespace"]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def _metadata_only(desired: Object, live: Object) -> Object:
    """The managed settings are those of now, also in a pod that is otherwise of an earlier spec: they are a guard."""
    metadata = dict(desired["metadata"])
    kept = {key: value for key, value in annotations(live).items() if key == meta.ANNOTATION_SPEC_HASH}
    metadata["annotations"] = metadata["annotations"] | kept
    return {"apiVersion": desired["apiVersion"], "kind": desired["kind"], "metadata": metadata}


def _hash(pod: Object) -> str | None:
    value = annotations(pod).get(meta.ANNOTATION_SPEC_HASH)
    return str(value) if value else None


def _in_the_way(observed: Observed, identity: Identity, *, keeps_home: bool) -> tuple[Object, ...]:
    """The objects under the sandbox's names that are not its own."""
    owned = (observed.account, observed.policy, observed.service, observed.pod)
    found = [live for live in owned if live and not is_owned(live, identity)]
    if observed.pod_is_foreign and observed.pod and observed.pod not in found:
        found.append(observed.pod)
    for claim in (observed.claim, observed.home if keeps_home else None):
        if claim and not (is_owned(claim, identity) or is_retained_claim(claim, identity)):
            found.append(claim)
    if observed.baseline and not is_baseline(observed.baseline):
        found.append(observed.baseline)
    return tuple(found)


def _named(objects: Iterable[Object]) -> tuple[str, ...]:
    return tuple(f"{live['kind']} {live['metadata']['name']}" for live in objects)
