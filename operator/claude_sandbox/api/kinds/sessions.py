"""Sessions in sandboxes on Docker, by the operator's channel: the models of `ClaudeSandboxSession`, and what is said
first on the connection of one. Client and operator read both with these.

The object says in which sandbox, and has the digest of a secret that only who made it knows; the connection says by the
secret that it is theirs. So the right to make the object in a namespace is what counts, and the API server decides it.
What is to be run is said on the connection and is in no object: a command may have in it what nobody else is to read.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.meta import MAX_NAME_LENGTH
from claude_sandbox.api.model import Model
from claude_sandbox.api.names import NAMESPACE
from claude_sandbox.api.rules import Transition, matching

UNUSED = 120.0
"""Seconds for which a session that nobody has used yet is good."""
LARGEST_OPENING = 64 * 1024
"""Bytes of what is said first on a connection: the command is in it."""

_NO_NUL = matching("[^\\x00]*", "must hold no NUL character")


class ClaudeSandboxSessionSpec(Strict):
    """In which sandbox, and whose the session is. It can't be changed."""

    sandbox: Annotated[
        str,
        Field(min_length=1, max_length=MAX_NAME_LENGTH),
        matching("[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", "must be the name of a ClaudeSandbox in the same namespace"),
    ]
    """The ClaudeSandbox, in the same namespace."""
    sandbox_uid: Annotated[
        str,
        Field(min_length=1, max_length=64),
        matching("[-a-zA-Z0-9]+", "must be the ClaudeSandbox's metadata.uid"),
    ]
    """Its `metadata.uid`: another sandbox of the name, made later, is not meant."""
    key_digest: Annotated[
        str,
        Field(min_length=64, max_length=64),
        matching("[0-9a-f]{64}", "must be a SHA-256 digest, as 64 lower-case hexadecimal digits"),
    ]
    """SHA-256 of the secret by which a connection shows that it is of who made this."""

    TRANSITIONS = (Transition("self == oldSelf", "can't be changed: make another session"),)


class ClaudeSandboxSessionStatus(Model):
    """What became of it."""

    observed_generation: int = -1
    """The metadata.generation that this status is about; -1 until the session is used."""
    opened_at: datetime | None = None
    """When it was used. It is good for one connection."""


class Command(Strict):
    """A command to run as the agent's user. With `tty` it has a terminal, and one output."""

    command: Annotated[list[Annotated[str, _NO_NUL]], Field(min_length=1, max_length=4096)]
    stdin: bool = False
    tty: bool = False


class Log(Strict):
    """What the agent has written: from `since` on, in seconds since 1970, and the last `tail` lines."""

    follow: bool = False
    since: Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)] | None = None
    tail: Annotated[int, Field(ge=0, le=10**9)] | None = None
    timestamps: bool = False


class Opening(Strict):
    """What a client says first on a connection: which session, its secret, and one of `run` and `log`."""

    namespace: Annotated[str, Field(min_length=1, max_length=63), NAMESPACE]
    session: Annotated[
        str,
        Field(min_length=1, max_length=253),
        matching("[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?", "must be the name of a ClaudeSandboxSession"),
    ]
    key: Annotated[str, Field(min_length=43, max_length=64), matching("[-_A-Za-z0-9]+", "must be as it was made")]
    run: Command | None = None
    log: Log | None = None


class Answer(Model):
    """What the operator says first: that it runs, or why it does not, and what may help."""

    can_end_input: bool = False
    refused: str | None = None
    remedy: str | None = None
