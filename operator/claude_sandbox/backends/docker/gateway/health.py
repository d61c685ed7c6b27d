"""What a live gateway says of itself, by the outcomes of its health check that the engine keeps. Pure."""

import json

from claude_sandbox.backends.docker import health
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.gateway_reports import MAX_TEXT, Report, read_document


def said_revision(live: Object) -> str | None:
    """The revision that it said last that it follows; None where it has said nothing yet."""
    revision = _said(live).get("revision")
    return revision if isinstance(revision, str) else None


def said_report(live: Object) -> Report | None:
    """What it said last of the sandbox; None where it has said nothing yet."""
    return read_document(_said(live).get("report"))


def _said(live: Object) -> Object:
    """What the last check printed; empty where that can't be understood."""
    log = ((live.get("State") or {}).get("Health") or {}).get("Log") or ()
    text = str(log[-1].get("Output") or "") if log else ""
    try:
        found = json.loads(text) if len(text) <= MAX_TEXT else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def works(live: Object) -> bool:
    """Whether it runs, and has not failed its check for good."""
    return running(live) and not (live.get("State") or {}).get("Paused") and health.status(live) != "unhealthy"
