"""What a sandbox's object says of an incident. Pure.

It is read from the object itself, and not from a spec that was understood: a sandbox whose spec is refused for
something else is quarantined all the same.
"""

from typing import Any

from pydantic import ValidationError

from claude_sandbox.api.fields.incident import IncidentState
from claude_sandbox.api.status_fields.incident import IncidentStatus
from claude_sandbox.controller.sandboxes.store import Raw, credential_named


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


def compromised_key(raw: Raw) -> tuple[str, str | None] | None:
    """The Secret whose key is compromised, and which generation of it, None for all; None where no key is.

    Once the status says which, it is that one: another Secret in the spec makes the first one's key no better, and a
    quarantine neither.
    """
    state, before = state_of(raw), previous(raw)
    if state is IncidentState.NONE:
        return None
    if before is not None and before.secret is not None:
        return before.secret, before.generation
    said = before is not None and before.state is IncidentState.KEY_COMPROMISED
    secret = credential_named(raw)
    if secret is None or not (said or state is IncidentState.KEY_COMPROMISED):
        return None
    return secret, before.generation if before is not None and said else None


def was_quarantined(raw: Raw) -> bool:
    """Whether what runs of it may have been frozen: by what the status says."""
    before = previous(raw)
    return before is not None and before.state is IncidentState.QUARANTINED
