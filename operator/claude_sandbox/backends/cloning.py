"""What the program that clones repositories says at its end, on every backend. Pure.

It runs before the agent, but on a workspace that an agent of an earlier life may have filled: what it says is shown,
clipped, and decides nothing but what is said of the repositories.
"""

import json
from typing import Any

_MOST = 16
_LONGEST = 1500
_KINDS = ("Cloned", "Kept", "Other", "Failed")


def outcomes_of(text: str) -> tuple[str, ...] | None:
    """What is in the program's last words; None where that is nothing that can be read."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, list) or len(told) > _MOST:
        return None
    known = tuple(one[:_LONGEST] for one in told if isinstance(one, str) and one.partition(" ")[0] in _KINDS)
    # All or nothing: with one left out, the others would be said of the wrong repositories, which go by their order.
    return known if len(known) == len(told) else None


def wished(text: Any, workspace: str) -> tuple[tuple[str, str], ...]:
    """Path below the workspace and URL of each repository that the program was told to clone."""
    try:
        told = json.loads(text)
        return tuple((str(one["path"]).removeprefix(f"{workspace}/"), str(one["url"])) for one in told)
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()
