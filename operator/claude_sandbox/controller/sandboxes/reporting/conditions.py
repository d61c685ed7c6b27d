"""The conditions that follow from what one reconcile found. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import (
    Condition,
)
from claude_sandbox.api.status_fields.usage import Usage
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.controller.machinery.conditions import stamped
from claude_sandbox.controller.sandboxes.gateways.services import without_credential
from claude_sandbox.controller.sandboxes.gateways.usage import (
    ends_by_itself,
    key_refused,
    missing_key,
    problem,
    refused_key,
)
from claude_sandbox.controller.sandboxes.lifecycle.life import is_over
from claude_sandbox.controller.sandboxes.reporting import incident, lifecycle, lost, repositories
from claude_sandbox.controller.sandboxes.reporting.findings import Findings, State

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


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
    if findings.quarantine is not None:
        return {kind: State(*told) for kind, told in incident.conditions(findings.quarantine).items()}
    if findings.lost_with is not None:
        return {kind: State(*told) for kind, told in lost.conditions(findings.lost_with, findings.stays).items()}
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
    if findings.dates is not None:
        states[ConditionType.IMAGE_CURRENT] = State(*findings.dates.image)
        states[ConditionType.CREDENTIALS_DUE] = State(*findings.dates.key)
        if findings.dates.backup is not None:
            states[ConditionType.BACKUP_VERIFIED] = State(*findings.dates.backup)
        if findings.dates.certificate is not None:
            states[ConditionType.CERTIFICATE_DUE] = State(*findings.dates.certificate)
    if (strained := findings.workload.strained) is not None:
        said = "; ".join(findings.workload.pressure)
        states[ConditionType.STRAINED] = State(TRUE, strained, f"{said[:1].upper()}{said[1:]}.")
    if findings.clones:
        states[ConditionType.REPOSITORIES] = State(*repositories.condition(findings.clones, findings.workload))
    return states


def on_its_way(findings: Findings) -> bool:
    """Whether there is nothing to say but that work is going on. That its time is over is said at once."""
    reconciling = conditions_of(findings)[ConditionType.RECONCILING]
    return reconciling.reason is Reason.PROGRESSING and not findings.must_be_written


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
    if findings.restoring is not None and findings.restoring.failed:
        return State(TRUE, Reason.RESTORE_FAILED, findings.restoring.message)
    # Of a suspended one nothing needs the key; beside a failure it would hide what went wrong.
    if key.problem is not None and not findings.suspended and outcome.failure is None:
        return State(TRUE, key.problem, key.message)
    wrong = _problem(findings)
    if wrong is not None and not ends_by_itself(findings.usage, wrong[0]):
        return State(TRUE, *wrong)
    # Of all that may be amiss these are the last: only what is there otherwise lacks nothing but a service or a port.
    whole = findings.workload.status is TRUE and outcome.failure is None and not findings.moving
    if whole and (missing := _service_without_credential(findings)) is not None:
        return replace(missing, status=TRUE)
    if outcome.unpublished and whole:
        return State(TRUE, Reason.PORT_NOT_PUBLISHED, outcome.unpublished)
    return State(FALSE, Reason.NOT_STALLED)


def _ready(findings: Findings, stalled: State) -> State:
    workload = findings.workload
    if workload.status is UNKNOWN:
        return State(UNKNOWN, workload.reason, workload.message)
    if findings.moving:
        return State(FALSE, Reason.MOVING, findings.moving)
    # Only without a workload: what still runs, from before it stalled, is as ready as it is.
    if workload.workload is None and stalled.status is TRUE:
        return State(FALSE, stalled.reason, stalled.message)
    if findings.restoring is not None:
        return State(FALSE, Reason.RESTORING, findings.restoring.message)
    if findings.suspended and workload.workload is None:
        return State(FALSE, Reason.SUSPENDED, _why_suspended(findings))
    if workload.workload is None and findings.outcome.failure is not None:
        return State(FALSE, findings.outcome.failure.reason, findings.outcome.failure.message)
    if findings.key.problem is Reason.KEY_COMPROMISED:
        return State(FALSE, Reason.KEY_COMPROMISED, findings.key.message)
    if (wrong := _problem(findings)) is not None:
        return State(FALSE, *wrong)
    return State(workload.status, workload.reason, workload.message)


def _why_suspended(findings: Findings) -> str:
    if findings.looked is not None and is_over(findings.looked):
        return lifecycle.over(findings.looked)
    return "Suspended by spec.operatingMode; the workspace is kept."


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
    if findings.brokered and (message := missing_key(findings.usage)):
        return State(FALSE, Reason.SECRET_KEY_MISSING, message)
    if findings.brokered and (refused := refused_key(findings.usage, key.generation)) is not None:
        return State(FALSE, Reason.KEY_REFUSED, key_refused(refused, findings.secret))
    if (missing := _service_without_credential(findings)) is not None:
        return missing
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


def _service_without_credential(findings: Findings) -> State | None:
    """That a service has no credential, by what the gateway has told; None where each has, or that is not known."""
    told = findings.usage.unopened_services if findings.brokered and findings.usage is not None else None
    message = without_credential(findings.services, told or ())
    return State(FALSE, Reason.SERVICE_CREDENTIAL_MISSING, message) if message else None


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
