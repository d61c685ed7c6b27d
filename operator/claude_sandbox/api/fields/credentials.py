"""How the agent authenticates to the Claude API."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice


class SecretKeyRef(Strict):
    """A key of a Secret in the sandbox's own namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_NAME]
    """The Secret's name. It has to be in the sandbox's own namespace."""
    key: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_KEY] = "api-key"
    """Which of the Secret's keys holds the Claude API key."""


class Delivery(Choice):
    """Who holds the key."""

    MOUNTED = "Mounted"
    BROKERED = "Brokered"


class Credentials(Strict):
    """How the agent authenticates to the Claude API."""

    api_key_secret_ref: SecretKeyRef
    """The Claude API key, in a Secret that opted in.

    A Secret opts in by its type `claudesandbox.dev/api-key`, or by the label `claudesandbox.dev/api-key: "true"`.
    """
    delivery: Delivery | None = None
    """Who holds the key. Mounted: the sandbox itself, in a file in memory. Brokered: a gateway beside it, its only way
    out, which adds the key to its requests to the Claude API.

    With Brokered the sandbox has a placeholder that is worth nothing elsewhere. It is for backend type Docker.
    Default: Mounted.
    """

    @property
    def brokered(self) -> bool:
        """Whether the sandbox never holds the key."""
        return self.delivery is Delivery.BROKERED
