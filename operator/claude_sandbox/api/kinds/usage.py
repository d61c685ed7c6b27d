"""What the gateway of a namespace writes down of one sandbox: the model of `ClaudeSandboxUsage.spec`.

A kind of its own, so that who writes accounts needs a right on nothing else. The object is called as the sandbox's UID,
and is the sandbox's, so that it goes with it. There are no rules: the gateway alone writes it, and reads it strictly.

A second object, UID-report, has what the gateway reports to the operator: it has a label, by which the operator follows
these alone. An account may be written fifty times a second.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.model import Model

MAX_ACCOUNT = 1 << 20
"""In characters: more than an account can have, and less than an object of the API server may."""


MAX_REPORT = 4096
"""In characters, of one pod."""


class ClaudeSandboxUsageSpec(Model):
    """What a sandbox has used. `account` is what counts; the rest tells people of it, as it was when it was written."""

    account: Annotated[str, Field(max_length=MAX_ACCOUNT)] | None = None
    """The account, a JSON document of the gateway's own. Without it nothing has been used yet.

    As one text, so that no version of this definition takes a part of it away. To count anew, delete the object.
    """
    sandbox: Annotated[str, Field(max_length=253)] | None = None
    """The ClaudeSandbox's name."""
    window_began: datetime | None = None
    """When the window of its budget began, or without a window the first request."""
    cost_usd: Annotated[str, Field(max_length=32)] | None = Field(default=None, alias="costUSD")
    """What the window's requests have cost, in USD."""
    output_tokens: int | None = None
    """What the model has written in the window, in tokens."""
    requests: int | None = None
    """How many requests were counted, ever since."""
    under_way: int | None = None
    """How many requests hold a part of the budget at the moment."""
    reports: dict[str, Annotated[str, Field(max_length=MAX_REPORT)]] | None = Field(default=None, max_length=16)
    """Of an object with the label claudesandbox.dev/component: report, and of no other: what each pod of the gateway
    reports of the sandbox, by the pod's name. The operator makes status.usage of it."""
