"""What else than a newer image may be why a sandbox does not work with it. Pure.

An image that did not work is not tried again. So it is not blamed for what somebody changed while it was tried: the
spec, or what the spec needs and the status says is missing since then. What was so before it was tried says nothing,
or one image would be tried for ever.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason

_NEEDED = frozenset(
    {
        *(Reason.SECRET_NOT_FOUND, Reason.SECRET_NOT_OPTED_IN, Reason.SECRET_KEY_MISSING),
        *(Reason.KEY_COMPROMISED, Reason.KEY_REFUSED, Reason.SERVICE_CREDENTIAL_MISSING),
        *(Reason.CONFIG_MAP_NOT_FOUND, Reason.CONFIG_MAP_REFUSED, Reason.PULL_SECRET_NOT_ALLOWED),
        *(Reason.PERMISSION_DENIED, Reason.INVALID_SPEC, Reason.FOREIGN_OBJECT, Reason.PROFILE_MISSING, Reason.NO_HOST),
    }
)
"""Reasons of Stalled and CredentialsCurrent that no image brings about."""
_TOLD = {(ConditionType.STALLED, ConditionStatus.TRUE), (ConditionType.CREDENTIALS, ConditionStatus.FALSE)}


def came_meanwhile(status: Mapping[str, Any], since: datetime) -> str:
    """What the status says is missing since then, as a reason; empty where nothing is."""
    told = (one for one in status.get("conditions") or () if (one.get("type"), one.get("status")) in _TOLD)
    found = (one for one in told if one.get("reason") in _NEEDED)
    return next((one["reason"] for one in found if datetime.fromisoformat(one["lastTransitionTime"]) >= since), "")
