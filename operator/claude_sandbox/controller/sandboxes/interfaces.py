"""What the loop needs of what is around it: a backend, hosts, and a way to report. Types alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import Compliance
from claude_sandbox.api.status_fields.backup import BackupStatus
from claude_sandbox.api.status_fields.incident import LostKey
from claude_sandbox.api.status_fields.progress import Progress
from claude_sandbox.backends.base import Failure, Healed, KeyState, Outcome, Past, Trial, WorkloadState
from claude_sandbox.backends.containment import Containment, Kept
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.compliance.reports.isolation import Judgement
from claude_sandbox.controller.images.gate import Admission
from claude_sandbox.controller.images.updates import NO_WORK, Work
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes.store import Key, Raw


class Backend(Protocol):
    """What the loop needs of a backend. No method raises for what the outside world does."""

    async def key(self, identity: Identity, secret: str, key: str) -> KeyState:
        """What is known of the Secret that the sandbox names."""

    async def ensure(self, blueprint: Blueprint, key: KeyState, spec: ClaudeSandboxSpec, past: Past) -> Outcome:
        """Observe, plan and apply."""

    async def state(self, identity: Identity) -> WorkloadState:
        """Whether the workload can be worked with now."""

    async def measure(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, Judgement, Judgement]:
        """The controls' results, the Compliant and the IsolationVerified condition."""

    async def contain(self, identity: Identity, since: datetime, more: Mapping[str, bytes] | None) -> Containment:
        """No way in or out, and nothing goes on. To be called until it says that it is so, and then now and again.

        Where what it was is lost with that, it keeps that first, with `more` files; None: nothing is to be kept.
        """

    async def keep_evidence(self, identity: Identity, since: datetime, more: Mapping[str, bytes]) -> Kept:
        """Keep what a sandbox was that is contained since then, with `more` files."""

    async def release(self, identity: Identity) -> Failure | None:
        """Remove what was contained, without its going on; why that can't be done, where it can't."""

    async def tried(self, identity: Identity) -> Trial:
        """What is seen of an image that is tried beside the workload."""

    async def try_beside(self, canary: Blueprint, spec: ClaudeSandboxSpec, seconds: float) -> Trial:
        """Have the canary's image tried for so many seconds; a trial of another image ends."""

    async def end_trial(self, identity: Identity) -> bool:
        """Whether nothing of a trial is left."""

    async def forget(self, namespace: str, name: str, *, last: bool) -> None:
        """The sandbox is gone. `last`: no other is left in its namespace."""


@dataclass(frozen=True)
class Moving:
    """A sandbox is on its way from one host to another, and that is not done yet. To be looked at again in seconds."""

    message: str
    again: float


@dataclass(frozen=True)
class Stays:
    """A sandbox is still on a compromised host, and why. To be looked at again in seconds."""

    message: str
    again: float


class HostedSandboxes(Protocol):
    """What sandboxes need around the loop that run on hosts of their own. Raises ApiError."""

    async def fresh(self, raw: Raw) -> Raw | None:
        """The sandbox, read anew where it may be on another host than is known here; None where it is gone."""

    def waits(self, raw: Raw) -> bool:
        """Whether nothing can be said of the sandbox yet; it is looked at again when that has changed."""

    def backend(self, raw: Raw) -> Backend | None:
        """Of the host that was chosen; None before."""

    def lost_with(self, raw: Raw) -> str | None:
        """The compromised host that the sandbox is on; None where it is on none."""

    async def leave(self, raw: Raw, identity: Identity, spec: ClaudeSandboxSpec) -> Raw | Stays | None:
        """Have it begin anew on another host than the compromised one that it is on: the sandbox as it is then.

        Or why it stays, or None where it is gone.
        """

    def judged(self, namespace: str, secret: str, key: KeyState) -> tuple[KeyState, LostKey | None]:
        """The state of a key, which may not be used where it was on a compromised host: then on which."""

    def no_room_beside(self, raw: Raw) -> str:
        """Why its host has no room for what is tried beside it; empty where it has."""

    async def namespace_of(self, raw: Raw) -> str | Failure | None:
        """The UID of the sandbox's namespace, why it can't be told, or None where the sandbox is gone."""

    async def settle(self, raw: Raw, blueprint: Blueprint, spec: ClaudeSandboxSpec) -> Raw | Failure | Moving | None:
        """Choose the host: the sandbox as it is then.

        Or why there is no host, what the way to another one waits for, or None where the sandbox is gone.
        """

    async def finish(self, raw: Raw) -> Result:
        """Remove what a sandbox that is being deleted has, then let it go."""

    async def forget(self, namespace: str, name: str) -> None:
        """The sandbox is gone."""


@dataclass(frozen=True)
class Restoring:
    """The workspace is not filled yet, so that no agent may start. `failed`: and won't be, until somebody acts.
    `again`: seconds until it is worth another look. `progress`: how far it is.
    """

    message: str
    failed: bool = False
    again: float | None = None
    progress: Progress | None = None


class ImagePolicies(Protocol):
    """Says which images may run."""

    def admitted(
        self, raw: Raw, spec: ClaudeSandboxSpec, blueprint: Blueprint, now: datetime, work: Work = NO_WORK
    ) -> Admission:
        """What may run of a sandbox that is to run. `work`: what runs of one whose image is exchanged by itself."""


class Restoration(Protocol):
    """Fills workspaces from backups."""

    def is_due(self, raw: Raw, spec: ClaudeSandboxSpec) -> bool:
        """Whether the sandbox begins with a backup that was not restored yet."""

    async def of(self, raw: Raw, spec: ClaudeSandboxSpec) -> Restoring | None:
        """What keeps the agent from starting; None where nothing does."""


@dataclass(frozen=True)
class Backed:
    """The backups of a sandbox that are made by its schedule. `said`: what is amiss with them, for people; empty where
    nothing is. `again`: seconds until it is worth another look. `gone`: whether they are not there any more.
    """

    status: BackupStatus
    said: str = ""
    again: float | None = None
    gone: bool = False


class Backups(Protocol):
    """Has sandboxes backed up by their schedules."""

    async def of(self, raw: Raw, spec: ClaudeSandboxSpec) -> Backed | None:
        """Do what is due; None where the spec asks for no backups."""

    async def at_work(self, raw: Raw) -> bool:
        """Whether the sandbox is being backed up, be it by hand."""


class Reporter(Protocol):
    """Where a status and what is worth telling a person go."""

    async def write_status(self, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
        """Merge the patch into the status; the object as it is now, or None where it is gone."""

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event."""

    def observe(self, key: Key, status: Mapping[str, Any] | None, healed: tuple[Healed, ...]) -> None:
        """The status for the metrics; None where the sandbox is gone."""
