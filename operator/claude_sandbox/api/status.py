"""What the operator reports: the models of `ClaudeSandbox.status`.

Every text is clipped as it goes in, so that the whole status is no larger than MAX_STATUS, with all controls failing.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.model import Choice, Model
from claude_sandbox.api.rules import UniqueBy
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status_fields.backup import BackupStatus
from claude_sandbox.api.status_fields.due import MOST_DUE, DueDate
from claude_sandbox.api.status_fields.image import ImageStatus
from claude_sandbox.api.status_fields.incident import IncidentStatus, LostKey
from claude_sandbox.api.status_fields.lifecycle import LifecycleStatus
from claude_sandbox.api.status_fields.progress import Progress
from claude_sandbox.api.status_fields.recovery import RecoveryStatus
from claude_sandbox.api.status_fields.restore import RestoreStatus
from claude_sandbox.api.status_fields.usage import Usage

MAX_STATUS = 64 * 1024
"""In bytes, as JSON."""
MAX_CONTROLS = 64

Identifier = Annotated[str, Clip(8)]
Title = Annotated[str, Clip(48)]
Value = Annotated[str, Clip(56)]
Message = Annotated[str, Clip(116)]
Remedy = Annotated[str, Clip(108)]
Name = Annotated[str, Clip(253)]
HostName = Annotated[str, Clip(63)]


class Condition(Model):
    """As metav1.Condition."""

    type: ConditionType
    """What the condition is about."""
    status: ConditionStatus
    """Whether it holds; Unknown where that can't be said."""
    observed_generation: int
    """The metadata.generation that the condition was judged by."""
    last_transition_time: datetime
    """When the status last changed."""
    reason: Reason
    """Why it has this status, as one word of a closed set."""
    message: Annotated[str, Clip(384)] = ""
    """The same for people, with the remedy."""


class Result(Choice):
    """The outcome of a control. What could not be verified is Unknown, never Pass."""

    PASS = "Pass"
    FAIL = "Fail"
    UNKNOWN = "Unknown"
    NOT_APPLICABLE = "NotApplicable"


class Severity(Choice):
    """How bad a failure is."""

    CRITICAL = "Critical"
    HIGH = "High"
    MEDIUM = "Medium"
    LOW = "Low"


class EvidenceSource(Choice):
    """Where a reading comes from. Issue order is trust order: what the sandbox can't forge first."""

    LIVE_OBJECT = "LiveObject"
    INSPECT = "Inspect"
    HOST_PROC = "HostProc"
    EXEC_PROBE = "ExecProbe"
    NETWORK_PROBE = "NetworkProbe"
    KERNEL_PROBE = "KernelProbe"
    ACCESS_REVIEW = "AccessReview"


class EvidenceStatus(Model):
    """What a result rests on."""

    source: EvidenceSource
    """Where the reading comes from."""
    observed_at: datetime | None = None
    """When it was taken, where that is more than a minute before `compliance.evaluatedAt`."""
    value: Value = ""
    """What was read."""


class Passed(Model):
    """Controls that pass, and what that rests on."""

    source: EvidenceSource
    """Where the readings come from."""
    observed_at: datetime | None = None
    """When the oldest was taken, where that is more than a minute before `compliance.evaluatedAt`."""
    controls: Annotated[list[Identifier], Field(max_length=MAX_CONTROLS)]
    """The controls' identifiers, in the catalogue's order."""


class ControlStatus(Model):
    """The result of one control that does not pass."""

    id: Identifier
    """The control's identifier in the catalogue, for example PRIV-01."""
    title: Title
    """What has to be true."""
    result: Result
    """Pass, Fail, Unknown (not verified) or NotApplicable."""
    severity: Severity
    """How bad a failure is."""
    required: bool = False
    """Whether the condition `Compliant` depends on it."""
    excepted_until: Annotated[str, Clip(10)] | None = None
    """The last day on which an exception of spec.compliance.exceptions keeps `Compliant` from depending on it."""
    evidence: EvidenceStatus | None = None
    """What the result rests on."""
    message: Message = ""
    """Why the result is what it is."""
    remedy: Remedy = ""
    """What to do about it."""


class Summary(Model):
    """How many of the controls have each result."""

    pass_: int = Field(alias="pass")
    """Controls that hold."""
    fail: int
    """Controls that don't."""
    unknown: int
    """Controls that could not be verified."""
    not_applicable: int
    """Controls that don't concern this sandbox."""
    required: Identifier
    """Of the required controls, how many pass: passed/required, for example 33/33."""


class Compliance(Model):
    """What was measured. Every control of the catalogue is in one of `passed` and `controls`.

    The API server's price of a write goes with the number of fields that are stored, so what passes is only named.
    """

    summary: Summary
    """Counts of the results."""
    evaluated_at: datetime
    """When the controls were last evaluated with a different outcome."""
    passed: Annotated[list[Passed], Field(max_length=len(EvidenceSource)), UniqueBy("source")] = []
    """The controls that pass, by the source of their evidence."""
    controls: Annotated[list[ControlStatus], Field(max_length=MAX_CONTROLS)] = []
    """Every control that does not pass, with its result, in the catalogue's order."""


class Placement(Model):
    """The Docker host that was chosen. It stays chosen, whatever becomes of the workload: the workspace is there.

    Only where an administrator drains the host is another chosen, for a sandbox without files that could be lost; and
    where the host is compromised, for one that declares spec.backup.whenHostCompromised.
    """

    host: HostName
    """The DockerHost's name."""
    engine_id: Annotated[str, Clip(64)]
    """The identifier of its engine: the DockerHost may come to stand for another machine, without the workspace."""


class Endpoint(Model):
    """Where a declared port can be connected to."""

    name: Annotated[str, Clip(15)]
    """The port's name in spec.network.ports."""
    address: Annotated[str, Clip(48)]
    """The Docker host's address and port, for example 127.0.0.1:49153."""


class Workload(Model):
    """What runs now."""

    name: Name
    """The pod's or the container's name."""
    uid: Annotated[str, Clip(64)]
    """The pod's UID or the container's identifier. On Kubernetes, a pod that has another one is not the sandbox's."""
    revision: Annotated[str, Clip(64)] | None = None
    """On Kubernetes, what the pod was made from, and a fingerprint of what can be changed of it while it runs."""
    node: Name | None = None
    """The node it runs on."""
    host: HostName | None = None
    """The DockerHost it runs on."""
    sessions: Annotated[str, Clip(320)] | None = None
    """On Docker, where the operator lets people work in it: `NAMESPACE/NAME:PORT` of a Service, to be reached by the
    API server's proxy, or `https://HOST:PORT`, whose certificate is of the API server's authority. Not there where it
    does not."""
    image: Annotated[str, Clip(384)] | None = None
    """The image that runs, with its digest where the container runtime reports one."""
    started_at: datetime | None = None
    """When its container started."""
    addresses: Annotated[list[Annotated[str, Clip(64)]], Field(max_length=4)] | None = None
    """The pod's addresses, where it has a gateway, which knows it by them."""


class CredentialsStatus(Model):
    """Which generation of the key is mounted. Never a byte of the key.

    A generation is the Secret's resourceVersion: it changes with every write to the Secret.
    """

    secret: Name
    """The Secret's name."""
    generation: Annotated[str, Clip(64)] | None = None
    """The Secret's current generation, where the operator may look at Secrets."""
    mounted_generation: Annotated[str, Clip(64)] | None = None
    """The generation that the workload was last told to mount."""


class RepositoryStatus(Model):
    """A repository that was cloned into the workspace, or was there before."""

    path: Annotated[str, Clip(64)]
    """Where it is, below /workspace."""
    url: Annotated[str, Clip(128)]
    """What it was cloned from."""
    commit: Annotated[str, Clip(64)] | None = None
    """The commit that was checked out then; none where it was there before."""


class Heal(Model):
    """The last thing that was put back."""

    what: Annotated[str, Clip(256)]
    """What it was."""
    at: datetime
    """When."""


class Heals(Model):
    """How often something that drifted or vanished was put back."""

    count: int = 0
    """How often, since the sandbox was made."""
    last: Heal | None = None
    """The last time."""


class ClaudeSandboxStatus(Model):
    """What the operator last observed."""

    observed_generation: int = -1
    """The metadata.generation that this status is about; -1 until the operator has seen the sandbox."""
    conditions: Annotated[list[Condition], Field(max_length=16), UniqueBy("type")] = []
    """Ready, Reconciling, Stalled, Compliant, IsolationVerified, CredentialsCurrent and Drifted; RepositoriesReady
    where there are any; Contained while it is quarantined; Strained while something is short; CertificateDue while its
    gateway's certificate should have been renewed; ImageCurrent and CredentialsDue once it was looked at."""
    backend: BackendType | None = None
    """What runs the sandbox."""
    placement: Placement | None = None
    """The Docker host that was chosen; only on backend type Docker."""
    workload: Workload | None = None
    """What runs now."""
    endpoints: Annotated[list[Endpoint], Field(max_length=32), UniqueBy("name")] | None = None
    """Where the declared ports are published; only on backend type Docker."""
    credentials: CredentialsStatus | None = None
    """Which generation of the key is mounted."""
    compliance: Compliance | None = None
    """What was measured."""
    usage: Usage | None = None
    """What the sandbox has used, as its gateway counts it; only of a sandbox with a gateway."""
    lifecycle: LifecycleStatus | None = None
    """What is known of the sandbox's time; only where spec.lifecycle says something of it."""
    incident: IncidentStatus | None = None
    """What was done about an incident; only while there is one."""
    lost_key: LostKey | None = None
    """That its key was on a Docker host that is compromised; only until another one is in the Secret."""
    repositories: Annotated[list[RepositoryStatus], Field(max_length=16), UniqueBy("path")] | None = None
    """What was cloned into the workspace."""
    restoring: Progress | None = None
    """How far the restore is; only while one is at work. On Kubernetes only where the operator may read pods' logs."""
    restore: RestoreStatus | None = None
    """What became of spec.restoreFrom, or of the backup that `recovery` names."""
    recovery: RecoveryStatus | None = None
    """That it left a Docker host that was compromised, and began anew with a backup."""
    image: ImageStatus | None = None
    """Which digest spec.image stands for; only where a ClaudeImagePolicy or spec.updatePolicy asks for
    that.
    """
    backup: BackupStatus | None = None
    """What became of spec.backup."""
    due: Annotated[list[DueDate], Field(max_length=MOST_DUE)] | None = None
    """What is due at which time, the earliest first: image, key, backup, exceptions, the sandbox's own end."""
    heals: Heals | None = None
    """How often something was put back."""
    workspaces: int | None = None
    """The highest number of a workspace (spec.workspace.instance) that there was of a sandbox of this name, where that
    is more than the first: a higher one was never used."""
