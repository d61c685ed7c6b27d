"""Whether the operator that wrote the statuses still runs.

A status does not age by itself, and one that nobody keeps is no proof. The operator renews its Lease every few seconds.
Not everybody may read that; then a report says that it isn't known.
"""

from datetime import UTC, datetime, timedelta

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import LEASES

CLOCKS = timedelta(minutes=5)
"""By how much this machine's clock and the operator's may differ, at most, for the operator to count as running."""


async def silence(api: Api, namespace: str, now: datetime) -> tuple[str, str]:
    """Why no status counts, since its operator is silent, and what is not known of that; either may be empty."""
    called = f"Lease {namespace}/{meta.LEASE}"
    try:
        lease = await api.get(LEASES, meta.LEASE, namespace)
    except ApiError as error:
        why = "may not be read" if error.is_forbidden else "is not there" if error.is_not_found else "can't be read"
        return "", f"Whether the operator still runs is not known: its {called} {why}."
    spec = lease.get("spec") or {}
    renewed = _time(spec.get("renewTime"))
    if renewed is None:
        return "", f"Whether the operator still runs is not known: its {called} says no time."
    if now - renewed <= timedelta(seconds=_seconds(spec.get("leaseDurationSeconds"))) + CLOCKS:
        return "", ""
    return f"no operator has renewed the {called} since {renewed.strftime('%Y-%m-%dT%H:%M:%SZ')}", ""


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None
    except ValueError:
        return None


def _seconds(value: object) -> int:
    return value if type(value) is int and 0 < value < 3600 else 15
