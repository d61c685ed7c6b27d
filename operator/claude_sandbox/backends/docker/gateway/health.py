"""What a live gateway says of itself, by the outcomes of its health check that the engine keeps. Pure."""

import json

from claude_sandbox.backends.docker import health
from claude_sandbox.backends.docker.engine.documents import Object, running


def said_revision(live: Object) -> str | None:
    """The revision that it said last that it follows; None where it has said nothing yet."""
    log = ((live.get("State") or {}).get("Health") or {}).get("Log") or ()
    if not log:
        return None
    try:
        found = json.loads(str(log[-1].get("Output") or ""))
    except ValueError:
        return None
    revision = found.get("revision") if isinstance(found, dict) else None
    return revision if isinstance(revision, str) else None


def works(live: Object) -> bool:
    """Whether it runs, and has not failed its check for good."""
    return running(live) and not (live.get("State") or {}).get("Paused") and health.status(live) != "unhealthy"
