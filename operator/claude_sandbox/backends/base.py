"""What the reconcile loop and a backend tell each other, and what backends have in common. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Workload
from claude_sandbox.backends.gateway_reports import Report


@dataclass(frozen=True)
class KeyState:
    """What is known of the Secret that a sandbox names, without ever having seen its data.

    `problem` says why a workload can't start with it. `generation` is None where the operator may not look. Not
    `followed`: no watch tells when that changes, so it has to be looked at again; `again` says in how many seconds,
    where that is not left to the loop. `withdrawn`: it is certain that the key may not be used (any more), so what runs
    with it has to end; a problem that may be the operator's own, as a permission that it lost, is none of these.
    """

    generation: str | None = None
    problem: Reason | None = None
    message: str = ""
    followed: bool = True
    withdrawn: bool = False
    again: float | None = None
    # When the Secret's data was written last, as far as the API server tells.
    changed: datetime | None = None


@dataclass(frozen=True)
class Failure:
    """Why not everything could be written. `permanent`: trying again alone won't help, a person has to act."""

    reason: Reason
    message: str
    permanent: bool


def set_aside(second: str) -> Failure:
    """That a sandbox does not say which workspace it has, and would get one that was set aside for `second`."""
    message = (
        f"The first workspace of a sandbox of this name was set aside: there is another, {second}. Write which one it"
        " is to have into spec.workspace.instance; a number that was never used begins with an empty one."
    )
    return Failure(Reason.FOREIGN_OBJECT, message, permanent=True)


@dataclass(frozen=True)
class Past:
    """What was done for a sandbox before. Tells a loss from a first time, and drift from a new wish.

    `provisioned`: its objects were all made once. `ran`: it had a workload when last looked at. `settled`: this very
    spec was carried out. `age`: for how many seconds there has been the sandbox.
    """

    provisioned: bool
    ran: bool
    settled: bool
    age: float = 0.0
    # Where declared ports were published when last looked at, by their names: ADDRESS:PORT of a Docker host.
    endpoints: Mapping[str, str] = field(default_factory=dict)


class Cause(Enum):
    """Why a step is needed: for a first time, because something drifted, or because of another wish."""

    PROVISION = "provision"
    HEAL = "heal"
    UPDATE = "update"


@dataclass(frozen=True)
class Healed:
    """Something that had drifted or vanished and was put back. `reason` is one of those in `_HOW`."""

    kind: str
    name: str
    reason: str
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        paths = f" ({', '.join(self.paths[:5])})" if self.paths else ""
        return f"{self.kind} {self.name} {_HOW[self.reason]}{paths}"


_HOW = {
    "Missing": "made again",
    "Drifted": "put back",
    "Ended": "replaced",
    "OutOfMemory": "started again after it needed more memory than spec.resources.memory",
    "Unhealthy": "restarted after Claude Code did not answer in it any more",
}


@dataclass(frozen=True)
class Outcome:
    """What one pass of observe, plan and apply did and found. Objects are named "Kind name"."""

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    healed: tuple[Healed, ...] = ()
    foreign: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()
    spec_changed: bool = False
    # In what the cluster's admission changes what is asked for, as "Kind name: path".
    imposed: tuple[str, ...] = ()
    # The UID of the workload that was told to end, for another one or for none.
    ended: str | None = None
    # Whether the running workload was told of a new generation of its key.
    key_sent: bool = False
    # Whether the sandbox itself turned out to be gone; then nothing was done.
    gone: bool = False
    # Seconds until what has to wait is due: the replacement of a workload that keeps failing, or another look at an
    # object in the way that no watch shows.
    paced: float | None = None
    failure: Failure | None = None
    # Why a declared port can't be published, with the remedy; nothing else waits for it.
    unpublished: str = ""
    # Whether what was seen turned out to be behind, so that not everything could be done; another look is due.
    stale: bool = False
    # The highest number of a workspace that is there; 1 where there is no second one, or nobody looked.
    workspaces: int = 1

    @property
    def wrote(self) -> bool:
        """Whether anything was written."""
        return bool(self.created or self.updated or self.removed or self.healed)


@dataclass(frozen=True)
class Cloning:
    """What became of the repositories that a workload was made with.

    `wished`: path below the workspace and URL of each. `outcomes`: of each "Cloned COMMIT", "Kept", "Other" or
    "Failed REASON", as what clones them said last; None as long as it has said nothing. `done`: it ended well, and the
    agent was let in. `waits`: why it has not begun, or can't; empty where it is at work.
    """

    wished: tuple[tuple[str, str], ...]
    outcomes: tuple[str, ...] | None = None
    done: bool = False
    waits: str = ""


@dataclass(frozen=True)
class Trial:
    """What is seen of another image that is tried beside a sandbox's workload. Without a `uid` it is not there.

    `ready`: Claude Code answers in it. `failed`: why it does not work with that image, for certain; `no_room`: why
    there is no room for it; `message`: what it is at, a clause. Not `seen`: nobody could be asked.
    """

    uid: str = ""
    ready: bool = False
    failed: str = ""
    no_room: str = ""
    message: str = ""
    seen: bool = True


@dataclass(frozen=True)
class CpuUse:
    """How much CPU time the agent's container has used since it was started, as the kernel told it at some moment.

    `container`: which one; another one, or the same started anew, begins at 0 again.
    """

    cpu_seconds: float
    container: str
    at: datetime


@dataclass(frozen=True)
class WorkloadState:
    """Whether the workload can be worked with now, and what runs."""

    status: ConditionStatus
    reason: Reason
    message: str
    workload: Workload | None = None
    key_generation: str | None = None
    # Where declared ports are published: their names and ADDRESS:PORT.
    endpoints: tuple[tuple[str, str], ...] = ()
    # Seconds after which it is worth another look although nothing may have told of a change.
    again: float | None = None
    # What it ran out of, each a clause with its remedy; said in the message too.
    pressure: tuple[str, ...] = ()
    # When the image was made that runs; None where nothing tells.
    image_made: datetime | None = None
    # The gravest of `pressure`.
    strained: Reason | None = None
    # What its gateways report of it; None where it has none, or they have said nothing yet.
    report: Report | None = None
    # Whether they can be heard now, so that what they don't report did not happen.
    heard: bool = False
    # Of one that was made with repositories.
    cloning: Cloning | None = None
    # When the certificate of its namespace's gateway ends, were it not renewed until then; None where it is not known.
    certificate_ends: datetime | None = None
    # None where nothing tells it: on Kubernetes the agents on the nodes do, as `cpu_microseconds` of a container, and
    # on Docker the kernel of an engine's machine that is the operator's too.
    cpu: CpuUse | None = None
