"""What was found of something before it runs, and the time and trust that its evidence has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from claude_sandbox.api.spec import Level, Profile
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.blueprint.model import Image
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.pods.undeclared import Declarations
from claude_sandbox.compliance.reports.findings import Finding

SOURCE = "Manifest"
"""What reports call the source of such evidence: what is written, of which nothing runs yet."""
AGELESS = timedelta.max


@dataclass(frozen=True)
class Judged:
    """One target: what it is, where it is written, and the outcome of each control."""

    target: Mapping[str, str]
    file: str
    line: int
    findings: tuple[Finding, ...]
    note: str = ""
    at: tuple[str | int, ...] = ()
    """Where in the file the pod's template or the service is, by the number of the part and keys; empty: nowhere."""


@dataclass(frozen=True)
class Standard:
    """What things are judged against, beside what is written."""

    declared: Declared
    """Of containers, and the profile and registries of pods."""
    declarations: Declarations
    """Of pods that no ClaudeSandbox declares."""
    now: datetime
    profile: Profile | None = None
    """None: what the ClaudeSandbox says, and that of `declared` where there is none."""
    level: Level | None = None
    """The same of the level."""
    plain_images: frozenset[str] = frozenset()
    image: Image | None = None
    """What sandboxes run that name no image; None where that is not known."""
    opened: tuple[Any, ...] = ()
    """The private networks that the operator's administrator lets sandboxes into."""
    whole: bool = False
    """Whether the files hold every NetworkPolicy and Service of their namespaces."""

    def read(self, value: Any) -> Reading[Any]:
        """As evidence. That it is from a file, who reports it says (`SOURCE`)."""
        return Reading(value, EvidenceSource.LIVE_OBJECT, self.now)


def unsourced(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The same without a source: none of those that a status knows is a file."""
    return tuple(replace(one, source=None, observed_at=None) for one in findings)
