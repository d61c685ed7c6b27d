"""The status that follows from what one reconcile found. Pure: the clock is an argument."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.fields.incident import IncidentState
from claude_sandbox.api.status import (
    ClaudeSandboxStatus,
    Condition,
    CredentialsStatus,
    Endpoint,
    Heal,
    Heals,
    Placement,
    Workload,
)
from claude_sandbox.api.status_fields.backup import BackupStatus
from claude_sandbox.api.status_fields.image import ImageStatus
from claude_sandbox.api.status_fields.incident import IncidentStatus, LostKey
from claude_sandbox.api.status_fields.lifecycle import LifecycleStatus
from claude_sandbox.api.status_fields.recovery import RecoveryStatus
from claude_sandbox.api.status_fields.restore import RestoreStatus
from claude_sandbox.backends.base import Past, WorkloadState
from claude_sandbox.controller.images.gate import image_status
from claude_sandbox.controller.machinery.conditions import stamped
from claude_sandbox.controller.sandboxes.incidents import declared
from claude_sandbox.controller.sandboxes.reporting import incident, lifecycle, repositories
from claude_sandbox.controller.sandboxes.reporting.conditions import conditions_of
from claude_sandbox.controller.sandboxes.reporting.findings import Findings


def compose(previous: Mapping[str, Any], generation: int, findings: Findings, now: datetime) -> dict[str, Any]:
    """The whole status as it goes over the wire. `previous` is the status that the object has now."""
    before, states = previous.get("conditions") or (), conditions_of(findings)
    status = ClaudeSandboxStatus(
        observed_generation=generation,
        conditions=stamped(Condition, before, states, generation, now),
        backend=findings.backend,
        placement=_placement(previous.get("placement")),
        workload=_workload(previous.get("workload"), findings),
        endpoints=_endpoints(previous.get("endpoints"), findings.workload),
        credentials=_key(previous.get("credentials"), findings),
        compliance=findings.compliance,
        usage=findings.usage,
        lifecycle=_lifecycle(previous.get("lifecycle"), findings),
        incident=_incident(previous.get("incident"), findings),
        lost_key=_lost_key(previous.get("lostKey"), findings),
        repositories=repositories.reported(previous.get("repositories"), findings.clones, findings.workload),
        restoring=findings.restoring.progress if findings.restoring is not None else None,
        restore=_restore(previous.get("restore")),
        recovery=_recovery(previous.get("recovery")),
        image=_image(previous.get("image"), findings),
        backup=_backup(previous.get("backup"), findings),
        due=list(findings.dates.due) or None if findings.dates is not None else None,
        heals=_heals(previous.get("heals"), tuple(map(str, findings.outcome.healed)), now),
        workspaces=_workspaces(previous.get("workspaces"), findings),
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


def _key(previous: Mapping[str, Any] | None, findings: Findings) -> CredentialsStatus | None:
    if findings.lost_with is not None and previous:
        # What it had there is what is lost.
        return CredentialsStatus.model_validate(previous)
    if findings.secret is None:
        return None
    mounted = findings.workload.key_generation
    return CredentialsStatus(secret=findings.secret, generation=findings.key.generation, mounted_generation=mounted)


def _workload(previous: Mapping[str, Any] | None, findings: Findings) -> Workload | None:
    """What runs, or where nobody can tell what ran when somebody could."""
    if findings.quarantine is not None:
        return incident.kept_workload(previous, findings.quarantine)
    found = findings.workload
    unknown = found.status is ConditionStatus.UNKNOWN or findings.lost_with is not None
    if found.workload is None and unknown and previous:
        return Workload.model_validate(previous)
    return found.workload


def _endpoints(previous: Sequence[Mapping[str, Any]] | None, found: WorkloadState) -> list[Endpoint] | None:
    """Where declared ports are published, or where nobody can tell, were when somebody could."""
    if found.status is ConditionStatus.UNKNOWN and previous:
        return [Endpoint.model_validate(one) for one in previous]
    return [Endpoint(name=name, address=address) for name, address in found.endpoints] or None


def _lifecycle(previous: Mapping[str, Any] | None, findings: Findings) -> LifecycleStatus | None:
    """Where it is in its life, or where that was not asked for in this pass, was before."""
    if findings.looked_at:
        return lifecycle.reported(findings.looked, findings.usage)
    return LifecycleStatus.model_validate(previous) if previous else None


def _backup(previous: Mapping[str, Any] | None, findings: Findings) -> BackupStatus | None:
    """What its backups came to, or where that was not asked for in this pass, had come to before."""
    if findings.backed is not None:
        return findings.backed.status
    return BackupStatus.model_validate(previous) if previous and not findings.looked_at else None


def _incident(previous: Mapping[str, Any] | None, findings: Findings) -> IncidentStatus | None:
    """What was done about one. Only a pass that has looked after that lets go of it: it says what may be frozen."""
    if findings.quarantine is not None:
        return findings.quarantine.status
    before = declared.told(previous) if not findings.lifted else None
    if findings.incident is not None or before is None:
        return findings.incident
    looked = findings.looked_at and before.state is not IncidentState.QUARANTINED
    return None if looked else before


def _lost_key(previous: Mapping[str, Any] | None, findings: Findings) -> LostKey | None:
    """That its key was on a compromised host. Only a pass that has looked lets go of it: the gateway reads it here."""
    if findings.looked_at or findings.lost_key is not None or not previous:
        return findings.lost_key
    return LostKey.model_validate(previous)


def _placement(previous: Mapping[str, Any] | None) -> Placement | None:
    """What was chosen stays chosen."""
    return Placement.model_validate(previous) if previous else None


def _image(previous: Mapping[str, Any] | None, findings: Findings) -> ImageStatus | None:
    """What the image stands for, or where that was not asked for in this pass, did before."""
    if findings.admission is not None:
        return findings.admission.status
    before = image_status(previous)
    # What does not run can't be seen to work: it begins anew where it runs again.
    tries = before is not None and (before.rolling is not None or before.canary is not None)
    abandoned = tries and findings.suspended
    nothing = {"rolling": None, "replaces": None, "canary": None}
    return before.model_copy(update=nothing) if before and abandoned else before


def _restore(previous: Mapping[str, Any] | None) -> RestoreStatus | None:
    """It is written when it is over, and stays said."""
    return RestoreStatus.model_validate(previous) if previous else None


def _recovery(previous: Mapping[str, Any] | None) -> RecoveryStatus | None:
    """It is written with the placement, and stays said: by it the workspace is filled."""
    return RecoveryStatus.model_validate(previous) if previous else None


def _workspaces(previous: int | None, findings: Findings) -> int | None:
    """The highest number there was; it stays said when that one is removed, since no number is to be used twice."""
    highest = max(previous or 1, findings.outcome.workspaces)
    return highest if highest > 1 else None


def _heals(previous: Mapping[str, Any] | None, healed: tuple[str, ...], now: datetime) -> Heals | None:
    before = Heals.model_validate(previous) if previous else None
    if not healed:
        return before
    count = (before.count if before else 0) + len(healed)
    return Heals(count=count, last=Heal(what="; ".join(healed), at=now))
