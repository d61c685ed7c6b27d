"""What the operator reports of a Docker host: the models of `DockerHost.status`.

Every text is clipped as it goes in, so that the whole status stays as bounded as a sandbox's.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.docker_hosts.conditions import HostConditionType, HostReason
from claude_sandbox.api.docker_hosts.incident import HostIncidentStatus
from claude_sandbox.api.model import Choice, Model
from claude_sandbox.api.rules import UniqueBy
from claude_sandbox.api.status import Compliance
from claude_sandbox.api.status_fields.due import MOST_DUE, DueDate

Word = Annotated[str, Clip(64)]
Amount = Annotated[str, Clip(24)]


class HostCondition(Model):
    """As metav1.Condition."""

    type: HostConditionType
    """What the condition is about."""
    status: ConditionStatus
    """Whether it holds; Unknown where that can't be said."""
    observed_generation: int
    """The metadata.generation that the condition was judged by."""
    last_transition_time: datetime
    """When the status last changed."""
    reason: HostReason
    """Why it has this status, as one word of a closed set."""
    message: Annotated[str, Clip(384)] = ""
    """The same for people, with the remedy."""


class SecurityOptions(Model):
    """What the engine says it protects its host with."""

    seccomp: Word = ""
    """The seccomp profile that containers get by default; empty where the engine has none."""
    app_armor: bool = False
    """Whether containers get an AppArmor profile."""
    selinux: bool = False
    """Whether containers get an SELinux label."""
    rootless: bool = False
    """Whether the engine itself runs without root."""
    user_namespaces: bool = False
    """Whether users in containers are other users on the host (userns-remap)."""


class EngineStatus(Model):
    """The engine, as it last described itself."""

    id: Word = ""
    """The engine's own identifier, by which one engine under two names is noticed."""
    version: Word = ""
    """The engine's version."""
    api_version: Word = ""
    """The newest version of its API."""
    operating_system: Annotated[str, Clip(128)] = ""
    """The host's operating system."""
    kernel_version: Word = ""
    """The host's kernel."""
    architecture: Word = ""
    """The host's architecture, for example x86_64."""
    storage_driver: Word = ""
    """How the engine keeps images and containers."""
    cgroup_driver: Word = ""
    """Who makes the cgroups: cgroupfs or systemd."""
    cgroup_version: Word = ""
    """1 or 2."""
    security_options: SecurityOptions = SecurityOptions()
    """What the engine says it protects its host with."""


class Amounts(Model):
    """An amount of room for sandboxes. What is left out is not limited."""

    sandboxes: int | None = None
    """How many sandboxes."""
    cpu: Amount | None = None
    """CPU, in cores."""
    memory: Amount | None = None
    """Memory."""


class StayReason(Choice):
    """Why sandboxes stay on a host that is being drained."""

    WORKSPACE_ON_HOST = "WorkspaceOnHost"
    """Their workspace is a volume of the host."""
    HOST_NAMED = "HostNamed"
    """They name the host."""
    IN_USE = "InUse"
    """Their container runs, and their update strategy leaves it alone."""
    NO_OTHER_HOST = "NoOtherHost"
    """There is no other host that they may use."""
    NO_ROOM = "NoRoom"
    """The other hosts have no room."""
    NO_ANSWER = "NoAnswer"
    """One of the other hosts does not answer, and no other has room."""
    NO_IMAGE = "NoImage"
    """The host that would take them can't get their image."""
    REFUSED = "Refused"
    """What they ask for is refused, so nothing is done for them."""


MAX_NAMED = 3


class Staying(Model):
    """Sandboxes that stay for the same reason."""

    reason: StayReason
    """Why they stay."""
    count: int
    """How many they are."""
    sandboxes: Annotated[list[Annotated[str, Clip(127)]], Field(max_length=MAX_NAMED)]
    """The first of them, as namespace/name."""
    message: Annotated[str, Clip(192)] = ""
    """The same for people, of the first of them, with the remedy."""


class DrainStatus(Model):
    """How far the draining of a host is."""

    moved: int = 0
    """How many sandboxes were moved to other hosts since it began."""
    moving: int = 0
    """How many are leaving: being moved, two at a time, waiting for their turn, or being deleted."""
    staying: Annotated[list[Staying], Field(max_length=len(StayReason)), UniqueBy("reason")] = []
    """Those that stay, which go on running, by reason."""


class MeantNamespace(Model):
    """A namespace that `spec.allowedNamespaces.names` names."""

    name: Annotated[str, Clip(63)]
    """Its name."""
    uid: Word
    """Its UID when the operator first saw it.

    One that is deleted and made again is another: it may not use the host before its name was removed from the spec and
    added again.
    """
    replaced: bool = False
    """Whether there is another one of the name now."""


class KeptWorkspaces(Model):
    """Workspaces that no sandbox can have any more: their namespace is gone, or was made again since."""

    count: int
    """How many there are."""
    volumes: Annotated[list[Annotated[str, Clip(96)]], Field(max_length=MAX_NAMED)]
    """The first of them, by the names of their volumes on the host, whose labels tell whose they were."""
    message: Annotated[str, Clip(384)] = ""
    """What to do with them."""


class DockerHostStatus(Model):
    """What the operator last observed."""

    observed_generation: int = -1
    """The metadata.generation that this status is about; -1 until the operator has seen the host."""
    conditions: Annotated[list[HostCondition], Field(max_length=16), UniqueBy("type")] = []
    """Ready, Reconciling, Stalled, Compliant, Drained and CertificatesCurrent."""
    engine: EngineStatus | None = None
    """The engine, as it last described itself."""
    capacity: Amounts | None = None
    """How much of the host sandboxes may take together."""
    free: Amounts | None = None
    """How much of that is left."""
    sandboxes: int = 0
    """How many sandboxes are placed on the host, or on their way to it."""
    drain: DrainStatus | None = None
    """How far the draining is; only while `spec.drain` is true."""
    incident: HostIncidentStatus | None = None
    """What was on the host when it was declared to be compromised; only while it is."""
    namespaces: Annotated[list[MeantNamespace], Field(max_length=64), UniqueBy("name")] = []
    """The namespaces that the spec names, as they were when the operator first saw each."""
    kept_workspaces: KeptWorkspaces | None = None
    """Workspaces on the host that no sandbox can have any more; nothing removes them."""
    due: Annotated[list[DueDate], Field(max_length=MOST_DUE)] = []
    """Certificates of its Secret, and when they are to be exchanged, the earliest first."""
    last_contact: datetime | None = None
    """When the engine last answered, as of the last change of this status.

    It is no heartbeat: while Ready is True the engine is asked every 10 seconds and nothing is written. When the
    engine stops answering this says since when.
    """
    compliance: Compliance | None = None
    """What was measured of the host."""
