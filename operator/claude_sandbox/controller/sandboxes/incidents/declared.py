"""What a sandbox's object says of an incident. Pure.

It is read from the object itself, and not from a spec that was understood: a sandbox whose spec is refused for
something else is quarantined all the same.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import ValidationError

from claude_sandbox.api.fields.incident import IncidentState
from claude_sandbox.api.status_fields.incident import IncidentStatus
from claude_sandbox.backends.base import KeyState
from claude_sandbox.controller.sandboxes.store import Raw, credential_named

CLOCKS = timedelta(minutes=1)
"""By how much those of the API server and of the operator may differ."""


def state_of(raw: Raw) -> IncidentState:
    """What was declared; what is no state is none, and refused with the rest of the spec."""
    declared: Any = (raw.get("spec") or {}).get("incident")
    said = declared.get("state") if isinstance(declared, dict) else None
    return IncidentState(said) if said in list(IncidentState) else IncidentState.NONE


def quarantined(raw: Raw) -> bool:
    """Whether it is to be contained."""
    return state_of(raw) is IncidentState.QUARANTINED


def previous(raw: Raw) -> IncidentStatus | None:
    """What the status says was done; None where nothing was, or that can't be read."""
    return told((raw.get("status") or {}).get("incident"))


def told(said: Any) -> IncidentStatus | None:
    """The same, of that part of a status."""
    if not said:
        return None
    try:
        return IncidentStatus.model_validate(said)
    except ValidationError:
        return None


class Mark(NamedTuple):
    """The Secret whose key is compromised, which generation of it, None for all, and since when that one is."""

    secret: str
    generation: str | None
    since: datetime | None = None


def is_the_one(key: KeyState, generation: str | None, since: datetime | None) -> bool:
    """Whether a key is the one of which an incident was declared `since`.

    What is not known on either side counts as it. A label is another generation of the Secret, and no other key.
    """
    if generation is None or key.generation in (None, generation):
        return True
    return since is not None and key.changed is not None and key.changed < since - CLOCKS


def compromised_key(raw: Raw) -> Mark | None:
    """None where no key is.

    Once the status says which, it is that one: another Secret in the spec makes the first one's key no better, and a
    quarantine neither.
    """
    state, before = state_of(raw), previous(raw)
    if state is IncidentState.NONE:
        return None
    said = before is not None and before.state is IncidentState.KEY_COMPROMISED
    if before is not None and before.secret is not None:
        # A quarantine's beginning says nothing of the key's.
        return Mark(before.secret, before.generation, before.since if said else None)
    secret = credential_named(raw)
    if secret is None or not (said or state is IncidentState.KEY_COMPROMISED):
        return None
    return Mark(secret, before.generation, before.since) if before is not None and said else Mark(secret, None)


def was_quarantined(raw: Raw) -> bool:
    """Whether what runs of it may have been frozen: by what the status says."""
    before = previous(raw)
    return before is not None and before.state is IncidentState.QUARANTINED
