"""The environment variables of a sandbox."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.credentials.leaks import (
    NAME_IS_FREE,
    NAME_IS_NO_CREDENTIAL,
    NO_CREDENTIAL,
    NO_CREDENTIAL_IN_HEADERS,
)
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.rules import Rule, literal
from claude_sandbox.claudecode import pinned

MAX_VALUE = 4096
"""Characters of a value."""

# Upper-case; names are compared without regard to case, since programs read proxies in either.
_DECIDED = sorted({name.upper() for name in pinned.environment()} - set(pinned.CHOICES) | set(pinned.TRUSTS))
_NAME_IS_UNDECIDED = Rule(
    f"!(self.upperAscii() in [{', '.join(literal(name) for name in _DECIDED)}])",
    lambda name: name.upper() not in _DECIDED,
    "is not for a sandbox to set: Claude Code's managed settings decide where its requests and its key go, by what way"
    " and whom it believes, whatever is set here: leave it out; an administrator gives the gateways a company's proxy"
    " and authority (`claude-sandbox install --gateway-settings`)",
)


class EnvVar(Strict):
    """A literal environment variable. Credentials don't belong here."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=128),
        names.ENV_NAME,
        NAME_IS_NO_CREDENTIAL,
        *NAME_IS_FREE,
        _NAME_IS_UNDECIDED,
    ]
    """The variable's name. Names of credentials, those that the operator sets itself, and those that managed settings
    decide about (proxies, certificates, where requests go), are refused."""
    value: Annotated[str, Field(max_length=MAX_VALUE), *NO_CREDENTIAL] = ""
    """The variable's value. What looks like a credential is refused."""

    RULES = (NO_CREDENTIAL_IN_HEADERS,)
