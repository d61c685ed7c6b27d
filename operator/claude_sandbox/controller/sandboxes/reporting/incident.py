"""What is said of an incident: in the conditions, in the status, and as Events. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.status import Workload
from claude_sandbox.api.status_fields.incident import IncidentStatus
from claude_sandbox.controller.sandboxes.incidents.quarantine import Quarantine

Told = tuple[ConditionStatus, Reason, str]
_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_LIFT = "`claude-sandbox incident lift` ends it, for who may."


def conditions(found: Quarantine) -> dict[ConditionType, Told]:
    """All of a sandbox in quarantine. What is not looked at meanwhile is Unknown."""
    unknown = (_UNKNOWN, Reason.QUARANTINED, "Nothing is measured of a sandbox in quarantine.")
    contained = contained_of(found)
    stalled = found.failure is not None and found.failure.permanent
    working = contained[0] is not _TRUE or (found.status.evidence is None and not found.containment.vanished)
    why = found.failure.message if found.failure is not None else "Evidence is being kept."
    reconciling = (_TRUE, Reason.RETRYING, why if contained[0] is _TRUE else contained[2])
    return {
        ConditionType.READY: (_FALSE, Reason.QUARANTINED, _ready(found, contained)),
        ConditionType.RECONCILING: reconciling if working and not stalled else (_FALSE, Reason.QUARANTINED, ""),
        ConditionType.STALLED: (_TRUE, Reason.QUARANTINED, why) if stalled else (_FALSE, Reason.NOT_STALLED, ""),
        ConditionType.COMPLIANT: unknown,
        ConditionType.ISOLATED: unknown,
        ConditionType.CREDENTIALS: unknown,
        ConditionType.DRIFTED: unknown,
        ConditionType.CONTAINED: contained,
    }


def contained_of(found: Quarantine) -> Told:
    """The condition Contained."""
    if found.containment.status is _UNKNOWN:
        return _UNKNOWN, Reason.OBSERVATION_FAILED, f"{found.containment.message}. That is tried again."
    if found.containment.status is _FALSE:
        return _FALSE, Reason.NOT_CONTAINED, f"{found.containment.message}. That is tried again."
    within = f" It took {found.status.contained_within}." if found.status.contained_within else ""
    return _TRUE, Reason.QUARANTINED, f"Nothing of it goes on: {found.containment.message}.{within}"


def _ready(found: Quarantine, contained: Told) -> str:
    if contained[0] is not _TRUE:
        return f"In quarantine by spec.incident, and not contained: {contained[2]}"
    if found.status.evidence is not None:
        kept = f"evidence is kept in {found.status.evidence.place}"
    else:
        kept = "there was nothing to keep" if found.containment.vanished else "no evidence is kept yet"
    return f"In quarantine by spec.incident; {kept}. {_LIFT}"


def kept_workload(previous: Mapping[str, Any] | None, found: Quarantine) -> Workload | None:
    """What ran, and is there still, frozen."""
    if found.containment.vanished or not previous:
        return None
    try:
        return Workload.model_validate(previous)
    except ValidationError:
        return None


def events(before: IncidentStatus | None, found: Quarantine) -> list[tuple[str, str, bool]]:
    """Reason, message and whether it is a warning: what is new since the status was written last."""
    told = []
    if found.containment.did:
        told.append(("Contained", f"{'; '.join(found.containment.did)}.", True))
    status = found.status
    if status.contained_at is not None and (before is None or before.contained_at is None):
        told.append(("Quarantined", f"{contained_of(found)[2]}", True))
    if (kept := status.evidence) is not None and (before is None or before.evidence is None):
        lacks = f" Not kept: {'; '.join(kept.missing)}." if kept.missing else ""
        memory = f" Memory in {kept.checkpoint.place}, sha256 {kept.checkpoint.sha256}." if kept.checkpoint else ""
        told.append(
            ("EvidenceKept", f"{kept.files} files in {kept.place}, sha256 {kept.sha256}.{memory}{lacks}", False)
        )
    return told
