"""What was read of one Docker Engine and its host, and how the operator reaches it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from claude_sandbox.api.docker_hosts.endpoints import Scheme
from claude_sandbox.compliance.evidence.readings import Object, Reading, Unread


@dataclass(frozen=True)
class EngineDocuments:
    """What the engine said of itself at one time."""

    info: Object
    """As GET /info answers, which `docker info` prints."""
    version: Object
    """As GET /version answers, which `docker version` prints."""
    bridge: Object | None
    """The document of the default network `bridge`; None where the engine has none."""


@dataclass(frozen=True)
class HostEvidence:
    """Everything that is known about a Docker host at `now`."""

    scheme: Scheme
    """How the operator reaches the engine."""
    mutual_tls: bool
    """Whether, by tcp, both sides show a certificate."""
    engine: Reading[EngineDocuments] | Unread
    now: datetime
    max_age: timedelta
    """A reading older than this is stale, and makes results Unknown."""
