"""What a sandbox is measured by."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import A_DAY, UniqueBy, matching

MOST_EXCEPTIONS = 16
_CONTROL = matching(
    "(?:PRIV|KERN|NS|FS|RES|NET|ID|SEC|IMG|TEN|OPS)-[0-9]{2}",
    "must be a control of docs/reference/controls.md, for example RES-05",
)
_DAY = matching(
    "20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])", 'must be a day as a string, for example "2027-03-31"'
)


class Level(Choice):
    """How much is asked of a sandbox; each level asks for all of the one before."""

    BASELINE = "Baseline"
    """The baseline Pod Security Standard."""
    RESTRICTED = "Restricted"
    """The restricted Pod Security Standard."""
    SANDBOX = "Sandbox"
    """What a place for an agent needs beyond that: the default of this operator."""
    HARDENED = "Hardened"
    """Hardening that has to be opted in to."""

    def asks_for(self, other: "Level") -> bool:
        """Whether what is of the level `other` is asked for at this one."""
        return _ORDER[other] <= _ORDER[self]


_ORDER = {level: place for place, level in enumerate(Level)}


class ComplianceException(Strict):
    """A control that may fail or be Unknown, until a day, without the sandbox not being Compliant for it."""

    control: Annotated[str, Field(min_length=5, max_length=7), _CONTROL]
    """The control's identifier, for example RES-05."""
    reason: Annotated[str, Field(min_length=1, max_length=256), *NO_CREDENTIAL]
    """Why."""
    owner: Annotated[str, Field(min_length=1, max_length=64), *NO_CREDENTIAL]
    """Who answers for it, for example team@example.org."""
    expires: Annotated[str, Field(min_length=10, max_length=10), _DAY, A_DAY]
    """The last day on which it holds, in UTC, for example "2027-03-31"."""


class ComplianceSpec(Strict):
    """Which controls count. All are measured and reported, whatever counts."""

    level: Level = Level.SANDBOX
    """Up to which level controls have to pass for the condition Compliant to be True.

    Baseline and Restricted are those of the Pod Security Standards, Sandbox is what a place for an agent needs, and
    Hardened what has to be opted in to: a user namespace, a hardened runtime, a bounded lifetime, a quota. What is
    enforced is the same at every level. The levels of the controls are in docs/reference/controls.md.
    """
    exceptions: Annotated[list[ComplianceException], Field(max_length=MOST_EXCEPTIONS), UniqueBy("control")] = []
    """What may fail for a while. It never counts as passed: the result stays what it is, with `exceptedUntil`, and
    Compliant has the reason ControlsExcepted. From the day after it ends, it counts again.
    """
