"""What was done about an incident: the models of `ClaudeSandbox.status.incident`."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.fields.incident import IncidentState
from claude_sandbox.api.model import Choice, Model

MOST_USERS = 16
"""How many users of a compromised key are named."""
MOST_MISSING = 16
"""How many things that could not be kept are named."""


class Checkpoint(Model):
    """What was in the memory of a quarantined sandbox's agent: a tar archive of CRIU's files, encrypted by age."""

    place: Annotated[str, Clip(160)]
    """Where: on a Docker host the container, never started, and the path in it."""
    sha256: Annotated[str, Clip(64)]
    """Of what is kept, encrypted as it is."""
    size: int
    """In bytes."""
    recipient: Annotated[str, Clip(64)]
    """The public key that it is encrypted to; who has the private one can open it."""


class KeptEvidence(Model):
    """A tar archive with what was kept of a quarantined sandbox, and SHA256SUMS of the files in it.

    Its own checksum is here, apart from where it is: whoever changes the archive can't change this.
    """

    at: datetime
    """When it was kept."""
    place: Annotated[str, Clip(160)]
    """Where: on a Docker host the container, never started, and the path in it."""
    sha256: Annotated[str, Clip(64)]
    """Of the archive."""
    files: int
    """How many files are in it."""
    size: int
    """In bytes."""
    missing: Annotated[list[Annotated[str, Clip(120)]], Field(max_length=MOST_MISSING)] = []
    """What could not be kept, each with the reason."""
    checkpoint: Checkpoint | None = None
    """The memory of its agent, where the operator has a recipient to encrypt it to."""


class KeyUser(Model):
    """A sandbox that used the compromised key, and how much of the model it had used when that was declared."""

    name: Annotated[str, Clip(63)]
    """The sandbox's."""
    last_used: datetime | None = None
    """When the provider took its last request, where its gateway told that."""
    requests: int | None = None
    """How many it has taken."""
    cost_usd: Annotated[str, Clip(24)] | None = Field(default=None, alias="costUSD")
    """What they have cost, in USD."""
    requests_since: int | None = None
    """How many more its gateway told of before another key was there: what was on its way at that time, and what it had
    not told yet, up to a minute's."""
    cost_usd_since: Annotated[str, Clip(24)] | None = Field(default=None, alias="costUSDSince")
    """What these have cost, in USD."""


class RevocationState(Choice):
    """Whether a compromised key was revoked where it is from."""

    REVOKED = "Revoked"
    FAILED = "Failed"


class Revocation(Model):
    """What the operator's hook for revocations said of a compromised key."""

    state: RevocationState
    """Revoked: the hook says that it is done. Failed: it was not, and is tried again."""
    at: datetime
    """Since when it is so."""
    message: Annotated[str, Clip(120)] = ""
    """Why it was not done."""


class LostKey(Model):
    """A key that was on a Docker host that is compromised. The gateway does not use it any more, nor does anything
    else; it ends when another one is in the Secret."""

    host: Annotated[str, Clip(63)]
    """The DockerHost."""
    secret: Annotated[str, Clip(253)]
    """The Secret."""
    generation: Annotated[str, Clip(64)] | None = None
    """Which version of the Secret was there; without one, all are taken for known to others."""
    since: datetime | None = None
    """Since when the host counts as compromised."""


class IncidentStatus(Model):
    """An incident that was declared, and how far what is done about it is."""

    state: IncidentState
    """What was declared."""
    since: datetime
    """When the operator saw it first."""
    contained_at: datetime | None = None
    """When nothing of the sandbox could go on any more, of one that is quarantined."""
    contained_within: Annotated[str, Clip(16)] | None = None
    """How long that took from `since`, for example 0.12s."""
    evidence: KeptEvidence | None = None
    """What was kept."""
    secret: Annotated[str, Clip(253)] | None = None
    """Of a compromised key: the Secret that it is in, also when the sandbox names another one since, or is quarantined
    since."""
    generation: Annotated[str, Clip(64)] | None = None
    """Of a compromised key: the Secret's generation that is not used any more, where the operator may look at it."""
    users: Annotated[list[KeyUser], Field(max_length=MOST_USERS)] | None = None
    """Of a compromised key: the namespace's sandboxes that used it, as it was at `since`."""
    revocation: Revocation | None = None
    """Of a compromised key: whether it was revoked where it is from, where the operator has a hook for that."""
    ended_at: datetime | None = None
    """Of a compromised key: when another generation was seen, with which it is over."""
