"""That a Docker host is compromised, as an administrator declares it, and what was there by then."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.clip import Clip
from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.lifecycle import TIME, utc
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice, Model
from claude_sandbox.api.rules import A_DAY
from claude_sandbox.api.status_fields.incident import Revocation

MOST_SECRETS = 100
"""How many of the keys that were on a host are named."""
MOST_RAN = 100
"""How many of the sandboxes that were on a host are named."""


class HostIncidentState(Choice):
    """What a host is taken for."""

    NONE = "None"
    HOST_COMPROMISED = "HostCompromised"


class HostIncident(Strict):
    """What happened, and with it what is done, from whatever state the host is in.

    To lift it, or to delete a DockerHost that has one, takes the verb `lift` on dockerhosts/incident, where the policy
    of manifests/incidents is installed.
    """

    state: HostIncidentState
    """HostCompromised: somebody else may be root on the host. Nothing is placed there, and nothing is asked of its
    engine or given to it. The keys that were there are used no more by any sandbox that shares their Secrets, each
    until another one is in the Secret. Its sandboxes say so; status.incident has what was there and what to do."""
    note: Annotated[str, Field(max_length=512), *NO_CREDENTIAL] | None = None
    """Why, for whoever looks at it later. It is readable by everyone who may read the DockerHost."""
    since: Annotated[str, Field(min_length=20, max_length=20), TIME, A_DAY] | None = None
    """Since when it may have been so, in UTC, for example "2027-03-31T18:00:00Z". Sandboxes that leave the host begin
    with no backup that was made later. Without it, since it was declared."""

    @property
    def suspected(self) -> datetime | None:
        """Since when it may have been so; None where nobody said."""
        return utc(self.since)


class HostSecretUse(Choice):
    """What a Secret that was on a host is for."""

    MODEL = "Model"
    """The key of the model's provider. It is used no more, until another one is in the Secret."""
    OTHER = "Other"
    """Of a repository or a service. Nothing stops its use: change it."""


class LostSecret(Model):
    """A Secret of which something was on the host."""

    namespace: Annotated[str, Clip(63)]
    """Its namespace."""
    name: Annotated[str, Clip(253)]
    """Its name."""
    use: HostSecretUse
    """What it is for."""
    generation: Annotated[str, Clip(64)] | None = None
    """Which version of it was there, where that is known. Without one, all are taken for known to others."""
    revocation: Revocation | None = None
    """Of use Model: whether it was revoked where it is from, where the operator has a hook for that."""


class HostIncidentStatus(Model):
    """What was on the host when it was declared to be compromised, and what has to be done."""

    state: HostIncidentState
    """What was declared."""
    since: datetime
    """When the operator saw it first."""
    engine_id: Annotated[str, Clip(64)] | None = None
    """The identifier of its engine, where that was known: no sandbox leaves for it by another name."""
    sandboxes: int = 0
    """How many sandboxes were there."""
    ran: Annotated[list[Annotated[str, Clip(127)]], Field(max_length=MOST_RAN)] = []
    """The first of them, as namespace/name."""
    secrets: Annotated[list[LostSecret], Field(max_length=MOST_SECRETS)] = []
    """Whose keys were there."""
    more_secrets: int = 0
    """How many others there were. Their use is stopped as well, as long as a sandbox that is there names them."""
    steps: Annotated[list[Annotated[str, Clip(320)]], Field(max_length=8)] = []
    """What is left for a person, in this order."""
