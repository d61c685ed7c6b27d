"""What the loop needs of what is around it: a backend, hosts, and a way to report. Types alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import Compliance
from claude_sandbox.backends.base import Failure, Healed, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes.store import Key, Raw

Judgement = tuple[ConditionStatus, Reason, str]
"""What a condition says: status, reason, message."""


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

    async def forget(self, namespace: str, name: str, *, last: bool) -> None:
        """The sandbox is gone. `last`: no other is left in its namespace."""


@dataclass(frozen=True)
class Moving:
    """A sandbox is on its way from one host to another, and that is not done yet. To be looked at again in seconds."""

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


class Reporter(Protocol):
    """Where a status and what is worth telling a person go."""

    async def write_status(self, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
        """Merge the patch into the status; the object as it is now, or None where it is gone."""

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event."""

    def observe(self, key: Key, status: Mapping[str, Any] | None, healed: tuple[Healed, ...]) -> None:
        """The status for the metrics; None where the sandbox is gone."""
