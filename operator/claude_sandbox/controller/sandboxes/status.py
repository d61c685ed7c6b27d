"""The status that follows from what one reconcile found. Pure: the clock is an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.fields.budget import Budget
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import (
    ClaudeSandboxStatus,
    Compliance,
    Condition,
    CredentialsStatus,
    Endpoint,
    Heal,
    Heals,
    Placement,
    Workload,
)
from claude_sandbox.api.usage_status import Usage
from claude_sandbox.backends.base import Failure, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.blueprint.model import Clone
from claude_sandbox.controller.machinery.conditions import stamped
from claude_sandbox.controller.sandboxes import repositories
from claude_sandbox.controller.sandboxes.gateways.usage import ends_by_itself, key_refused, problem, refused_key

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN

NOTHING = WorkloadState(FALSE, Reason.NO_WORKLOAD, "There is no workload.")


@dataclass(frozen=True)
class State:
    """A condition without its times: status, reason, message."""

    status: ConditionStatus
    reason: Reason
    message: str = ""


@dataclass(frozen=True)
class Findings:
    """What a reconcile found, complete enough to say everything that a status says.

    `invalid` is set where the spec could not even be understood; then nothing else is known.
    """

    backend: BackendType = BackendType.KUBERNETES
    suspended: bool = False
    secret: str | None = None
    invalid: str | None = None
    # What the sandbox's way from one host to another waits for; empty where it is not on its way.
    moving: str = ""
    key: KeyState = field(default_factory=KeyState)
    # Whether a new generation of the key is on its way to the running workload.
    key_settling: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    workload: WorkloadState = NOTHING
    compliance: Compliance | None = None
    compliant: State = State(UNKNOWN, Reason.NOT_EVALUATED, "There is no workload to measure.")
    isolated: State = State(UNKNOWN, Reason.NO_WORKLOAD, "There is no workload to isolate.")
    # Whether what was to be measured could not be.
    unmeasured: bool = False
    # Whether the sandbox has a gateway; what that has told, and the budget by which that is judged.
    brokered: bool = False
    usage: Usage | None = None
    budget: Budget | None = None
    # What is to be cloned; None where that is not known.
    clones: tuple[Clone, ...] | None = None


def unmeasured(found: Findings, why: str) -> Findings:
    """The findings of a pass whose measurement failed: what was measured before is no evidence any more."""
    state = State(UNKNOWN, Reason.EVALUATION_FAILED, f"The controls could not be evaluated: {why}.")
    return replace(found, compliance=None, compliant=state, isolated=state, unmeasured=True)


def unclear(found: Findings, why: str) -> Findings:
    """The findings of a pass that failed before there was anything to say, with what was known until then."""
    message = f"The sandbox could not be looked at: {why}. That is tried again, later each time."
    failure = Failure(Reason.RETRYING, message, permanent=False)
    lost = WorkloadState(UNKNOWN, Reason.OBSERVATION_FAILED, message)
    return unmeasured(replace(found, outcome=Outcome(failure=failure), workload=lost), why)


def overdue(previous: Mapping[str, Any], generation: int, seconds: float, now: datetime) -> dict[str, Any] | None:
    """The status of a sandbox that was not evaluated for so long; None where it claims nothing that needs it."""
    before = previous.get("conditions") or ()
    message = f"No evaluation has come to its end for more than {seconds:.0f} s; the operator's log says why."
    lapsed = State(UNKNOWN, Reason.EVALUATION_OVERDUE, message)
    kinds = {ConditionType.COMPLIANT, ConditionType.ISOLATED}
    held = {one["type"] for one in before if one["type"] in kinds and one["status"] != UNKNOWN}
    if not held:
        return None
    stamps = stamped(Condition, before, dict.fromkeys(held, lapsed), generation, now)
    fresh = {one.type: one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in stamps}
    return {**previous, "conditions": [fresh.get(one["type"], one) for one in before]}


def conditions_of(findings: Findings) -> dict[ConditionType, State]:
    """Every condition, in the order in which they are shown."""
    stalled = _stalled(findings)
    ready = _ready(findings, stalled)
    states = {
        ConditionType.READY: ready,
        ConditionType.RECONCILING: _reconciling(findings, stalled, ready),
        ConditionType.STALLED: stalled,
        ConditionType.COMPLIANT: findings.compliant,
        ConditionType.ISOLATED: findings.isolated,
        ConditionType.CREDENTIALS: _credentials(findings),
        ConditionType.DRIFTED: _drifted(findings),
    }
    if findings.clones:
        states[ConditionType.REPOSITORIES] = State(*repositories.condition(findings.clones, findings.workload))
    return states


def compose(previous: Mapping[str, Any], generation: int, findings: Findings, now: datetime) -> dict[str, Any]:
    """The whole status as it goes over the wire. `previous` is the status that the object has now."""
    before, states = previous.get("conditions") or (), conditions_of(findings)
    status = ClaudeSandboxStatus(
        observed_generation=generation,
        conditions=stamped(Condition, before, states, generation, now),
        backend=findings.backend,
        placement=_placement(previous.get("placement")),
        workload=_workload(previous.get("workload"), findings.workload),
        endpoints=_endpoints(previous.get("endpoints"), findings.workload),
        credentials=_key(findings),
        compliance=findings.compliance,
        usage=findings.usage,
        repositories=repositories.reported(previous.get("repositories"), findings.clones, findings.workload),
        heals=_heals(previous.get("heals"), tuple(map(str, findings.outcome.healed)), now),
    )
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    if status.compliance is not None:
        # Without what says nothing: the API server's price of a write goes with the number of fields.
        compliance = dumped["compliance"]
        compliance["controls"] = [_telling(control) for control in compliance["controls"]]
    return dumped


def _telling(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _telling(value) if isinstance(value, Mapping) else value
        for key, value in fields.items()
        if value not in ("", False)
    }


# Reasons that say that not everything was written. Reconciling is `Progressing` as well while a pod starts.
_NOT_WRITTEN = frozenset(
    {
        *(Reason.RETRYING, Reason.REJECTED, Reason.CHANGED_ON_ADMISSION, Reason.PERMISSION_DENIED),
        *(Reason.FOREIGN_OBJECT, Reason.INVALID_SPEC),
    }
)
_UNFINISHED: Mapping[str, frozenset[Reason]] = {
    ConditionType.READY: frozenset({Reason.PROGRESSING}),
    ConditionType.RECONCILING: _NOT_WRITTEN | {Reason.MOVING},
    ConditionType.STALLED: _NOT_WRITTEN,
}


def past(status: Mapping[str, Any], generation: int) -> Past:
    """What the status says of earlier passes over a spec that is now of this generation."""
    conditions = status.get("conditions") or ()
    finished = bool(conditions) and not any(
        condition["reason"] in _UNFINISHED.get(condition["type"], ()) for condition in conditions
    )
    return Past(
        provisioned=finished,
        ran=bool(status.get("workload")),
        settled=finished and status.get("observedGeneration") == generation,
        endpoints={one["name"]: one["address"] for one in status.get("endpoints") or ()},
    )


def on_its_way(findings: Findings) -> bool:
    """Whether there is nothing to say but that work is going on."""
    return conditions_of(findings)[ConditionType.RECONCILING].reason is Reason.PROGRESSING


def _stalled(findings: Findings) -> State:
    outcome, key = findings.outcome, findings.key
    if findings.invalid is not None:
        return State(TRUE, Reason.INVALID_SPEC, findings.invalid)
    if outcome.foreign:
        names = ", ".join(outcome.foreign)
        message = f"Not this sandbox's own and in the way: {names}. Delete or rename it, or rename the sandbox."
        return State(TRUE, Reason.FOREIGN_OBJECT, message)
    if outcome.failure is not None and outcome.failure.permanent:
        return State(TRUE, outcome.failure.reason, outcome.failure.message)
    if key.problem is not None and not findings.suspended and outcome.failure is None:
        return State(TRUE, key.problem, key.message)
    wrong = _problem(findings)
    if wrong is not None and not ends_by_itself(findings.usage, wrong[0]):
        return State(TRUE, *wrong)
    # Of all that may be amiss it is the last: only what is there otherwise lacks nothing but a port.
    whole = findings.workload.status is TRUE and outcome.failure is None and not findings.moving
    if outcome.unpublished and whole:
        return State(TRUE, Reason.PORT_NOT_PUBLISHED, outcome.unpublished)
    return State(FALSE, Reason.NOT_STALLED)


def _ready(findings: Findings, stalled: State) -> State:
    workload = findings.workload
    if workload.status is UNKNOWN:
        return State(UNKNOWN, workload.reason, workload.message)
    if findings.moving:
        return State(FALSE, Reason.MOVING, findings.moving)
    if workload.workload is None and stalled.status is TRUE:
        return State(FALSE, stalled.reason, stalled.message)
    if findings.suspended and workload.workload is None:
        return State(FALSE, Reason.SUSPENDED, "Suspended by spec.operatingMode; the workspace is kept.")
    if workload.workload is None and findings.outcome.failure is not None:
        return State(FALSE, findings.outcome.failure.reason, findings.outcome.failure.message)
    if (wrong := _problem(findings)) is not None:
        return State(FALSE, *wrong)
    return State(workload.status, workload.reason, workload.message)


def _problem(findings: Findings) -> tuple[Reason, str] | None:
    """Why the agent can't work by what its gateway has told, where all else is as it should be."""
    if not findings.brokered or findings.workload.status is not TRUE or findings.moving:
        return None
    return problem(findings.usage, findings.key.generation, findings.budget, findings.secret)


def _reconciling(findings: Findings, stalled: State, ready: State) -> State:
    failure = findings.outcome.failure
    if findings.moving:
        return State(TRUE, Reason.MOVING, findings.moving)
    if stalled.status is TRUE:
        return State(FALSE, stalled.reason, "Waits for the cause of Stalled to be removed.")
    if failure is not None:
        waits = ready.reason is Reason.PROGRESSING
        return State(TRUE, Reason.PROGRESSING if waits else Reason.RETRYING, failure.message)
    if ready.status is TRUE or ready.reason is Reason.SUSPENDED:
        return State(FALSE, Reason.UP_TO_DATE)
    if (wrong := _problem(findings)) is not None:
        # It ends by itself, and nothing is written until then.
        return State(TRUE, *wrong)
    return State(TRUE, Reason.PROGRESSING, ready.message)


def _credentials(findings: Findings) -> State:
    key, workload = findings.key, findings.workload
    if findings.moving:
        return State(UNKNOWN, Reason.NO_WORKLOAD, findings.moving)
    if key.problem is not None:
        return State(FALSE, key.problem, key.message)
    if workload.workload is None:
        return _of_none(workload, "No workload has the key mounted.")
    if findings.brokered and (refused := refused_key(findings.usage, key.generation)) is not None:
        return State(FALSE, Reason.KEY_REFUSED, key_refused(refused, findings.secret))
    if key.generation is None:
        if findings.backend is BackendType.DOCKER:
            return State(UNKNOWN, Reason.KEY_NOT_OBSERVED, "The operator may not look at Secrets.")
        message = "The operator may not look at Secrets; the kubelet brings a new key by itself, within 2 minutes."
        return State(UNKNOWN, Reason.KEY_NOT_OBSERVED, message)
    if findings.key_settling or key.generation != workload.key_generation:
        return State(UNKNOWN, Reason.KEY_UPDATING, f"Generation {key.generation} of the key is being mounted.")
    if findings.brokered:
        return _used(key.generation, findings.usage)
    if findings.backend is BackendType.DOCKER:
        return State(TRUE, Reason.KEY_MOUNTED, f"Generation {key.generation} of the key is in the container.")
    # Who may not read Secrets can't compare; the kubelet tells nobody which version it has mounted.
    message = f"The kubelet was told of generation {key.generation} of the key; what it mounts is not read back."
    return State(TRUE, Reason.KEY_MOUNTED, message)


def _used(generation: str, usage: Usage | None) -> State:
    """Of a key that the gateway has: what was done with it."""
    answered = usage.last_answered if usage is not None else None
    if answered is None:
        message = f"Generation {generation} of the key is with the gateway; no request was answered with it yet."
        return State(TRUE, Reason.KEY_MOUNTED, message)
    if answered.generation == generation:
        message = f"The last request that the provider took was made with generation {generation} of the key."
        return State(TRUE, Reason.KEY_USED, message)
    message = (
        f"Generation {generation} of the key is with the gateway; the last request that the provider took was"
        f" made with generation {answered.generation}."
    )
    return State(UNKNOWN, Reason.KEY_NOT_USED_YET, message)


def _of_none(workload: WorkloadState, message: str) -> State:
    """Where no workload is known: that there is none, or why that can't be said."""
    if workload.status is UNKNOWN:
        return State(UNKNOWN, workload.reason, workload.message)
    return State(UNKNOWN, Reason.NO_WORKLOAD, message)


def _drifted(findings: Findings) -> State:
    outcome, workload = findings.outcome, findings.workload
    if findings.moving:
        return State(UNKNOWN, Reason.NO_WORKLOAD, findings.moving)
    if workload.workload is None:
        return _of_none(workload, "There is no workload that could have drifted.")
    what = {BackendType.KUBERNETES: "pod", BackendType.DOCKER: "container"}[findings.backend]
    remedy = f"Delete the {what} to get a new one, or set spec.updateStrategy.type: Recreate."
    if outcome.spec_changed:
        since = f" It was changed since as well: {', '.join(outcome.drifted[:10])}." if outcome.drifted else ""
        return State(TRUE, Reason.SPEC_CHANGED, f"The {what} was made from an earlier spec. {remedy}{since}")
    if outcome.drifted:
        paths = ", ".join(outcome.drifted[:10])
        if outcome.imposed:
            message = f"The cluster's admission changed the {what}: {paths}. What to do is said in Stalled."
            return State(TRUE, Reason.CHANGED_ON_ADMISSION, message)
        return State(TRUE, Reason.POD_DRIFTED, f"The live {what} is not the desired one: {paths}. {remedy}")
    return State(FALSE, Reason.IN_SYNC)


def _key(findings: Findings) -> CredentialsStatus | None:
    if findings.secret is None:
        return None
    mounted = findings.workload.key_generation
    return CredentialsStatus(secret=findings.secret, generation=findings.key.generation, mounted_generation=mounted)


def _workload(previous: Mapping[str, Any] | None, found: WorkloadState) -> Workload | None:
    """What runs, or where nobody can tell what ran when somebody could."""
    if found.workload is None and found.status is UNKNOWN and previous:
        return Workload.model_validate(previous)
    return found.workload


def _endpoints(previous: Sequence[Mapping[str, Any]] | None, found: WorkloadState) -> list[Endpoint] | None:
    """Where declared ports are published, or where nobody can tell, were when somebody could."""
    if found.status is UNKNOWN and previous:
        return [Endpoint.model_validate(one) for one in previous]
    return [Endpoint(name=name, address=address) for name, address in found.endpoints] or None


def _placement(previous: Mapping[str, Any] | None) -> Placement | None:
    """What was chosen stays chosen."""
    return Placement.model_validate(previous) if previous else None


def _heals(previous: Mapping[str, Any] | None, healed: tuple[str, ...], now: datetime) -> Heals | None:
    before = Heals.model_validate(previous) if previous else None
    if not healed:
        return before
    count = (before.count if before else 0) + len(healed)
    return Heals(count=count, last=Heal(what="; ".join(healed), at=now))
