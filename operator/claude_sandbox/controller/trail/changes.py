"""What of a change of an object is recorded. Pure.

A spec's values are not recorded, only where it changed: nobody knows what a user writes into a field. Exceptions and
incidents are: who writes them means them to be read.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from claude_sandbox.kubernetes_api.unstructured import WRITER, last_writers
from claude_sandbox.trail.records import Kind

Data = dict[str, Any]
Found = Iterator[tuple[Kind, Data]]

MAX_PATHS = 32
_DEPTH = 2
_NOT_TOLD = frozenset({"Reconciling"})
"""Conditions that change with each pass, and say nothing that others don't."""


def of_status(before: Mapping[str, Any], after: Mapping[str, Any]) -> Found:
    """What a status says that it did not say before."""
    if (data := _workload(_part(before, "workload"), _part(after, "workload"))) is not None:
        yield Kind.WORKLOAD_CHANGED, data
    if (data := _credential(_part(before, "credentials"), _part(after, "credentials"))) is not None:
        yield Kind.CREDENTIAL_CHANGED, data
    if (data := _results(before.get("compliance"), after.get("compliance"))) is not None:
        yield Kind.RESULTS_CHANGED, data
    if changed := _conditions(before.get("conditions") or (), after.get("conditions") or ()):
        yield Kind.CONDITION_CHANGED, {"conditions": changed}
    if (data := _incident(_part(before, "incident"), _part(after, "incident"))) is not None:
        yield Kind.INCIDENT, data
    if denied := _denied(_part(before, "usage"), _part(after, "usage")):
        yield Kind.DENIED, {"denied": denied}


def of_spec(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Data:
    """Which generation of a spec there is now, who wrote it, and where it differs, as far as that is known."""
    metadata = after["metadata"]
    data: Data = {"generation": metadata.get("generation", 0)}
    if before is not None:
        data |= {
            "before": before["metadata"].get("generation", 0),
            "changed": paths(_part(before, "spec"), _part(after, "spec")),
        }
    return data | {"by": author(metadata)}


def author(metadata: Mapping[str, Any]) -> Data:
    """Who wrote an object last, as its managedFields tell: the name that the client gave itself.

    They tell seconds. Of several that wrote in the same one nobody knows which was last, so all of them are named.
    """
    last = last_writers(metadata)
    found = {name: ", ".join(sorted({one[name] for one in last if name in one})) for name in WRITER}
    return {name: said for name, said in found.items() if said}


def of_exceptions(before: Mapping[str, Any], after: Mapping[str, Any]) -> Data | None:
    """The exceptions of a spec that came and went; None where none did."""
    old, new = _exceptions(before), _exceptions(after)
    added, removed = [one for one in new if one not in old], [one for one in old if one not in new]
    return {"added": added, "removed": removed} if added or removed else None


def of_incident(before: Mapping[str, Any], after: Mapping[str, Any]) -> Data | None:
    """That an incident was declared or lifted in a spec; None where none was."""
    old, new = (str(_part(one, "incident").get("state") or "None") for one in (before, after))
    if old == new:
        return None
    note = _part(after, "incident").get("note")
    return {"before": old, "after": new, **({"note": note} if note else {})}


def paths(before: Any, after: Any, at: str = "spec", depth: int = 0) -> list[str]:
    """Where two documents differ: some of the paths, if there are many."""
    if isinstance(before, Mapping) and isinstance(after, Mapping) and depth < _DEPTH:
        found: list[str] = []
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name) and len(found) < MAX_PATHS:
                found += paths(before.get(name), after.get(name), f"{at}.{str(name)[:64]}", depth + 1)
        return found[:MAX_PATHS]
    return [at] if before != after else []


def _workload(before: Mapping[str, Any], after: Mapping[str, Any]) -> Data | None:
    if before.get("uid") == after.get("uid"):
        return None
    told = {name: after[name] for name in ("uid", "name", "node", "host", "image") if name in after}
    return {"before": before.get("uid"), "after": told or None}


def _credential(before: Mapping[str, Any], after: Mapping[str, Any]) -> Data | None:
    """Generations alone: they are versions of the Secret's object."""
    fields = ("secret", "mountedGeneration")
    old, new = ({name: one.get(name) for name in fields} for one in (before, after))
    return None if old == new else {"before": old if before else None, "after": new if after else None}


def _incident(before: Mapping[str, Any], after: Mapping[str, Any]) -> Data | None:
    """What was done, and the checksum of the evidence: signed, it can be told from any other."""
    return None if before == after else {"before": dict(before) or None, "after": dict(after) or None}


def _results(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Data | None:
    if after is None:
        return None if before is None else {"measured": False}
    new = results(after)
    if before is None:
        by_result: dict[str, list[str]] = {}
        for control, result in new.items():
            by_result.setdefault(result, []).append(control)
        return {"measured": True, "results": by_result}
    old = results(before)
    details = {one["id"]: one for one in after.get("controls") or ()}
    changes = [
        {"control": control, "before": old.get(control), "after": new.get(control), **_detail(details.get(control))}
        for control in sorted({*old, *new})
        if old.get(control) != new.get(control)
    ]
    return {"changes": changes} if changes else None


def results(compliance: Mapping[str, Any]) -> dict[str, str]:
    """Each control's result."""
    passed = {control: "Pass" for one in compliance.get("passed") or () for control in one["controls"]}
    return passed | {one["id"]: one["result"] for one in compliance.get("controls") or ()}


def _detail(control: Mapping[str, Any] | None) -> Data:
    if control is None:
        return {}
    evidence = control.get("evidence") or {}
    found = {
        "required": bool(control.get("required")),
        "message": control.get("message"),
        "source": evidence.get("source"),
        "value": evidence.get("value"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _conditions(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Data]:
    old = {one["type"]: one["status"] for one in before}
    return [
        {
            "type": one["type"],
            "before": old.get(one["type"]),
            "after": one["status"],
            "reason": one.get("reason"),
            "message": one.get("message", ""),
        }
        for one in after
        if one["type"] not in _NOT_TOLD and old.get(one["type"]) != one["status"]
    ]


def _denied(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Data]:
    old = [(one.get("what"), one.get("entry")) for one in before.get("denied") or ()]
    new = [(one.get("what"), one.get("entry")) for one in after.get("denied") or ()]
    return [{"what": what, "entry": entry} for what, entry in new if (what, entry) not in old]


def _exceptions(spec: Mapping[str, Any]) -> list[Data]:
    found = _part(spec, "compliance").get("exceptions")
    return [dict(one) for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}
