"""What a sandbox's own settings for Claude Code may say: they are put below the pins, in the same managed settings.

A setting is taken where it can give nobody the key or the conversation: by the reasons in `waived.py`. So one that the
next release brings is refused until somebody has decided about it. What of a value Claude Code does not understand it
ignores, and heeds the rest (seen with each of the settings); but it ignores the whole file, pins and all, where that is
too large or no JSON (seen). So what is given here is bounded, and written anew from what was understood.
"""

import json
import re
from typing import Any

from claude_sandbox.claudecode import pinned, waived

MEMORY = "claudeMd"
"""The managed setting with instructions."""
ALLOWED = frozenset(
    name
    for reason in (waived.NARROWS, waived.RUNS_IF_MANAGED, waived.MAY_DO, waived.MANNER)
    for name in waived.SETTINGS[reason].split()
)
"""Settings that may be given."""

_ELSEWHERE = {
    "env": "write variables into spec.env",
    MEMORY: "write instructions into what spec.claudeCode.memory names",
}
_DEEPEST = 32
"""Objects and lists in each other, far more than any setting has."""


class RefusedError(ValueError):
    """What was given can't be used; the message says why and what to do, and repeats no value."""


def settings(text: str) -> dict[str, Any]:
    """The settings in a settings.json. Raises RefusedError."""
    found = _object(text)
    found.pop("$schema", None)
    pins = pinned.managed_settings("")
    for name in sorted(found):
        if name in _ELSEWHERE:
            raise RefusedError(f"has the setting {name}: {_ELSEWHERE[name]}, and remove it")
        if name in pins:
            raise RefusedError(f"has the setting {name}, which is the operator's to say: remove it")
        if name not in ALLOWED:
            what = name if re.fullmatch(r"\w{1,64}", name, re.ASCII) else "that has another name than settings have"
            raise RefusedError(f"has a setting that is not among those that may be given ({what}): remove it")
    return found


def memory(text: str) -> str:
    """The instructions in a CLAUDE.md. Raises RefusedError."""
    if not text.strip():
        raise RefusedError("is empty: write instructions, or remove spec.claudeCode.memory")
    return text


def _object(text: str) -> dict[str, Any]:
    """As JSON that can be written again just so. Raises RefusedError."""
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        raise RefusedError("is no JSON: look at it with `python3 -m json.tool`") from None
    if not isinstance(found, dict):
        raise RefusedError("is no object of JSON: write {…}")
    if _depth(found) > _DEEPEST:
        raise RefusedError(f"has more than {_DEEPEST} objects and lists in each other: make it flatter")
    return found


def _depth(value: object) -> int:
    deepest, left = 0, [(value, 0)]
    while left:
        one, depth = left.pop()
        deepest = max(deepest, depth)
        inside = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        left += [(item, depth + 1) for item in inside]
    return deepest
