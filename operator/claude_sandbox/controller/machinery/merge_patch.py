"""The difference of two documents as a JSON merge patch (RFC 7396). Pure."""

from collections.abc import Mapping
from typing import Any


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What makes `old` into `new`; empty where they are equal. Lists are replaced whole."""
    # In a merge patch null removes.
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        before = old.get(key)
        if before == value:
            continue
        patch[key] = merge_patch(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return patch


def merged(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is with the patch (RFC 7386)."""
    result = dict(document)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            before = result.get(name)
            result[name] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def without_times(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without the times of its evidence: what has to differ for a write to be worth it."""
    compliance = status.get("compliance")
    if compliance is None:
        return dict(status)
    controls = [
        control | {"evidence": _timeless(control["evidence"])} if "evidence" in control else control
        for control in compliance.get("controls") or ()
    ]
    passed = [_timeless(one) for one in compliance.get("passed") or ()]
    return dict(status) | {"compliance": {"summary": compliance["summary"], "passed": passed, "controls": controls}}


def _timeless(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in evidence.items() if key != "observedAt"}
