"""What a live gateway says of itself, by the outcomes of its health check that the engine keeps. Pure."""

import json
from functools import lru_cache

from claude_sandbox.backends.docker.documents import health
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.gateway_reports import MAX_TEXT, Report, read_document

_REMEMBERED = 1024
"""Outputs that are not read again: one is looked at in each pass, and there is a new one every 30 seconds."""


def said_revision(live: Object) -> str | None:
    """The revision that it said last that it follows; None where it has said nothing yet."""
    return _said(live)[0]


def said_report(live: Object) -> Report | None:
    """What it said last of the sandbox; None where it has said nothing yet."""
    return _said(live)[1]


def _said(live: Object) -> tuple[str | None, Report | None]:
    log = ((live.get("State") or {}).get("Health") or {}).get("Log") or ()
    text = str(log[-1].get("Output") or "") if log else ""
    return _read(text) if len(text) <= MAX_TEXT else (None, None)


@lru_cache(_REMEMBERED)
def _read(text: str) -> tuple[str | None, Report | None]:
    """What a check has printed: the revision and the report, each as far as it can be understood."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(found, dict):
        return None, None
    revision = found.get("revision")
    return revision if isinstance(revision, str) else None, read_document(found.get("report"))


def works(live: Object) -> bool:
    """Whether it runs, and has not failed its check for good."""
    return running(live) and not (live.get("State") or {}).get("Paused") and health.status(live) != "unhealthy"
