"""What one reconcile found of a sandbox, from which all is said of it. Pure."""

from dataclasses import dataclass, field, replace

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.fields.budget import Budget
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import (
    Compliance,
)
from claude_sandbox.api.status_fields.incident import IncidentStatus, LostKey
from claude_sandbox.api.status_fields.usage import Usage
from claude_sandbox.backends.base import Failure, KeyState, Outcome, WorkloadState
from claude_sandbox.blueprint.model import Clone, GatewayService
from claude_sandbox.controller.images.gate import Admission
from claude_sandbox.controller.sandboxes.incidents.quarantine import Quarantine
from claude_sandbox.controller.sandboxes.interfaces import Backed, Restoring
from claude_sandbox.controller.sandboxes.lifecycle.cpu import UNTOLD, CpuLook
from claude_sandbox.controller.sandboxes.lifecycle.life import Looked, is_over
from claude_sandbox.controller.sandboxes.reporting.dates import Dates

FALSE, UNKNOWN = ConditionStatus.FALSE, ConditionStatus.UNKNOWN


NOTHING = WorkloadState(FALSE, Reason.NO_WORKLOAD, "There is no workload.")
LIFTED = WorkloadState(FALSE, Reason.PROGRESSING, "What was in quarantine is gone, and another workload is being made.")


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
    # Whether it is to have no workload, by its operatingMode or its lifecycle.
    suspended: bool = False
    # Where it is in its life, where the spec bounds that. Not `looked_at`: what the status says of it stays said.
    looked: Looked | None = None
    looked_at: bool = True
    secret: str | None = None
    invalid: str | None = None
    # What the sandbox's way from one host to another waits for; empty where it is not on its way.
    moving: str = ""
    # What the workspace's restore waits for, before there may be a workload.
    restoring: Restoring | None = None
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
    # Services that the gateway adds credentials for.
    services: tuple[GatewayService, ...] = ()
    # What is to be cloned; None where that is not known.
    clones: tuple[Clone, ...] | None = None
    # Of one in quarantine, of which nothing else is said.
    quarantine: Quarantine | None = None
    # Whether it was, and nothing is left of that.
    lifted: bool = False
    # What is to be said of its compromised key.
    incident: IncidentStatus | None = None
    # What may run of it by the policies for images; None where that was not asked for.
    admission: Admission | None = None
    # The compromised Docker host that it is on, of which nothing else is said, and why it is still there though it asks
    # to leave; and on which its key was.
    lost_with: str | None = None
    stays: str = ""
    lost_key: LostKey | None = None
    # What its CPU did lately, of one that may become idle.
    cpu: CpuLook = UNTOLD
    # Its backups; None where its spec asks for none, or it is too early for any.
    backed: Backed | None = None
    # What is due when; None where that was not asked for.
    dates: Dates | None = None

    @property
    def must_be_written(self) -> bool:
        """Whether something goes by it that is written now."""
        exchanging = self.admission is not None and self.admission.turned
        return is_over(self.looked) or self.lifted or exchanging


def unmeasured(found: Findings, why: str) -> Findings:
    """The findings of a pass whose measurement failed: what was measured before is no evidence any more."""
    state = State(UNKNOWN, Reason.EVALUATION_FAILED, f"The controls could not be evaluated: {why}.")
    return replace(found, compliance=None, compliant=state, isolated=state, unmeasured=True)


def refused_image(admission: Admission | None, workload: WorkloadState) -> Failure | None:
    """Why nothing is made of the sandbox's image. Of what runs, and was found to be signed, a silence is no news."""
    if admission is None or (admission.before and workload.workload is not None):
        return None
    return admission.failure


def unclear(found: Findings, why: str) -> Findings:
    """The findings of a pass that failed before there was anything to say, with what was known until then."""
    message = f"The sandbox could not be looked at: {why}. That is tried again, later each time."
    failure = Failure(Reason.RETRYING, message, permanent=False)
    lost = WorkloadState(UNKNOWN, Reason.OBSERVATION_FAILED, message)
    return unmeasured(replace(found, outcome=Outcome(failure=failure), workload=lost), why)
