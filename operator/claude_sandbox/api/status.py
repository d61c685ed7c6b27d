"""What the operator reports: the models of `ClaudeSandbox.status`."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.spec import BackendType, Model


class Condition(Model):
    """As metav1.Condition."""

    type: ConditionType
    status: ConditionStatus
    observed_generation: int
    last_transition_time: datetime
    reason: Reason
    message: str = ""


class Result(StrEnum):
    """The outcome of a control. What could not be verified is Unknown, never Pass."""

    PASS = "Pass"
    FAIL = "Fail"
    UNKNOWN = "Unknown"
    NOT_APPLICABLE = "NotApplicable"


class Severity(StrEnum):
    """How bad a failure is."""

    CRITICAL = "Critical"
    HIGH = "High"
    MEDIUM = "Medium"
    LOW = "Low"


class EvidenceSource(StrEnum):
    """Where a reading comes from. Issue order is trust order: what the sandbox can't forge first."""

    LIVE_OBJECT = "LiveObject"
    INSPECT = "Inspect"
    HOST_PROC = "HostProc"
    EXEC_PROBE = "ExecProbe"
    NETWORK_PROBE = "NetworkProbe"
    ACCESS_REVIEW = "AccessReview"


class EvidenceStatus(Model):
    """What a result rests on."""

    source: EvidenceSource
    observed_at: datetime
    value: str = ""


class ControlStatus(Model):
    """One control's result."""

    id: str
    title: str
    result: Result
    severity: Severity
    required: bool
    evidence: EvidenceStatus | None = None
    message: str = ""
    remedy: str = ""


class Summary(Model):
    """How many of the controls have each result; `required` counts as passed/required, for example 33/33."""

    pass_: int = Field(alias="pass")
    fail: int
    unknown: int
    not_applicable: int
    required: str


class Compliance(Model):
    """What was measured."""

    summary: Summary
    evaluated_at: datetime
    controls: list[ControlStatus] = Field(max_length=100)


class Workload(Model):
    """What runs now."""

    name: str
    uid: str
    node: str | None = None
    image: str | None = None
    started_at: datetime | None = None


class CredentialsStatus(Model):
    """Which generation of the key is mounted. Never a byte of the key.

    A generation is the Secret's resourceVersion: it changes with every write to the Secret.
    """

    secret: str
    generation: str | None = None
    mounted_generation: str | None = None


class Heal(Model):
    """The last thing that was put back."""

    what: str
    at: datetime


class Heals(Model):
    """How often something that drifted or vanished was put back."""

    count: int = 0
    last: Heal | None = None


class ClaudeSandboxStatus(Model):
    """What the operator last observed."""

    observed_generation: int = -1
    conditions: list[Condition] = []
    backend: BackendType | None = None
    workload: Workload | None = None
    credentials: CredentialsStatus | None = None
    compliance: Compliance | None = None
    heals: Heals | None = None
