"""How the agent authenticates to the Claude API."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.credentials.leaks import NO_CREDENTIAL
from claude_sandbox.api.fields.strict import Strict


class SecretKeyRef(Strict):
    """A key of a Secret in the sandbox's own namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_NAME]
    """The Secret's name. It has to be in the sandbox's own namespace."""
    key: Annotated[str, Field(min_length=1, max_length=253), *NO_CREDENTIAL, names.SECRET_KEY] = "api-key"
    """Which of the Secret's keys holds the Claude API key."""


class Credentials(Strict):
    """How the agent authenticates to the Claude API."""

    api_key_secret_ref: SecretKeyRef
    """The Claude API key, in a Secret that opted in.

    A Secret opts in by its type `claudesandbox.dev/api-key`, or by the label `claudesandbox.dev/api-key: "true"`.
    """
