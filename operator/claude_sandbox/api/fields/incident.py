"""That something bad happened to a sandbox, as a person declares it."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice


class IncidentState(Choice):
    """What a sandbox is taken for."""

    NONE = "None"
    KEY_COMPROMISED = "KeyCompromised"
    QUARANTINED = "Quarantined"


class Incident(Strict):
    """What happened, and with it what is done, from whatever state the sandbox is in.

    Who may change a ClaudeSandbox may declare an incident. To lift one, or to delete a sandbox that has one, takes the
    verb `lift` on claudesandboxes/incident, where the policy of manifests/incidents is installed.
    """

    state: IncidentState
    """KeyCompromised: the Secret's present key is not used any more by any sandbox of the namespace. It ends by itself
    when another key is in the Secret.

    Quarantined: no way in or out, and nothing of it goes on; what it was is kept as evidence. Lifted, it gets a new
    workload: the one that was quarantined never goes on."""
    note: Annotated[str, Field(max_length=512), *NO_CREDENTIAL] | None = None
    """Why, for whoever looks at it later. It is readable by everyone who may read the sandbox."""
