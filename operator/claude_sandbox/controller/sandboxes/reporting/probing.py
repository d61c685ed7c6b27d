"""What is not said while a sandbox is probed for the first time by this process. Pure.

An operator that starts anew knows of no probe of before, and has every sandbox probed within minutes. Until then a
status that says what a probe proved, could not prove or could reach stays as it is, if nothing else about the sandbox
is another: it would be taken back and said again, for each sandbox, at each start.
"""

from collections.abc import Mapping
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.compliance.reports.isolation import PROBED
from claude_sandbox.controller.machinery.merge_patch import without_times

_SOURCES = (EvidenceSource.NETWORK_PROBE, EvidenceSource.KERNEL_PROBE)


def may_wait(previous: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Whether all that `status` has to say, after `previous`, is that the first probe is under way."""
    before, now = _isolated(previous), _isolated(status)
    told = before.get("reason") in (Reason.NOT_PROBED, Reason.DESTINATION_REACHED)
    probed = told or before.get("status") == ConditionStatus.TRUE
    if not probed or now.get("reason") != Reason.PROBE_UNDER_WAY:
        return False
    return without_times(_without_probe(previous)) == without_times(_without_probe(status))


def _isolated(status: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = status.get("conditions") or ()
    return next((one for one in conditions if one["type"] == ConditionType.ISOLATED), {})


def _without_probe(status: Mapping[str, Any]) -> dict[str, Any]:
    """The status without what a probe decides."""
    compliance = status.get("compliance") or {}
    groups, controls = compliance.get("passed") or (), compliance.get("controls") or ()
    return {
        **status,
        "conditions": [
            _stripped(one) for one in status.get("conditions") or () if one["type"] != ConditionType.ISOLATED
        ],
        "compliance": {
            "summary": {},
            "passed": [one for one in groups if one["source"] not in _SOURCES],
            "controls": [one for one in controls if one["id"] not in PROBED],
        },
    }


def _stripped(condition: Mapping[str, Any]) -> Mapping[str, Any]:
    """`Compliant` counts what a probe decides as soon as it has, so what it says of it stays, too."""
    if condition["type"] != ConditionType.COMPLIANT:
        return condition
    return {"type": condition["type"]}
