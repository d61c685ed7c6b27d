"""Which repository was where, and who may make a new one, by what ClaudeSandboxBackups and sandboxes say. Pure.

What was in a target is remembered by the statuses of the backups that are in it, and by those of sandboxes with a
schedule. Where all of these are gone, nothing is known any more, and what is there is taken as it is.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.controller.backups.status import ended_at, is_over
from claude_sandbox.controller.sandboxes.store import Raw

_MAKING = timedelta(hours=1)
"""For so long one that was begun may be about to make the repository."""
_NEVER = datetime.min.replace(tzinfo=UTC)


def known(sandbox: Raw, backups: Iterable[Raw], replaced: str | None = None) -> dict[str, str]:
    """The repository that was last seen at each location, but for the one that is replaced.

    `backups`: those of the sandbox's namespace.
    """
    # `completedAt` comes only when the helper is gone: until then the condition says when it ended.
    statuses = [one.get("status") or {} for one in backups]
    told = [(status, status.get("completedAt") or ended_at(status)) for status in statuses]
    scheduled = (sandbox.get("status") or {}).get("backup") or {}
    told.append((scheduled, scheduled.get("lastVerified")))
    seen = [
        (utc(when) or _NEVER, str(status["location"]), str(status["repository"]))
        for status, when in told
        if status.get("location") and status.get("repository")
    ]
    # Of several for one place the last in time remains.
    newest = {location: repository for _, location, repository in sorted(seen)}
    return {location: repository for location, repository in newest.items() if repository != replaced}


def is_being_made(raw: Raw, backups: Iterable[Raw], beginning: Collection[str], now: datetime) -> bool:
    """Whether another backup of the namespace may be about to make the repository on the same server.

    On a volume or a host the helpers keep each other out. `beginning`: UIDs of those that are being begun.
    """
    place = _place(raw)
    if place is None:
        return False
    same = [one for one in backups if _place(one) == place]
    if any((one.get("status") or {}).get("repository") for one in same):
        return False
    others = [one for one in same if one["metadata"]["uid"] != raw["metadata"]["uid"]]
    return any(one["metadata"]["uid"] in beginning or _is_at_work(one.get("status") or {}, now) for one in others)


def _place(raw: Raw) -> Mapping[str, Any] | None:
    """Where on which server; None of what is on none."""
    target = (raw.get("spec") or {}).get("target") or {}
    found = {name: target[name] for name in ("s3", "sftp") if target.get(name)}
    return found or None


def _is_at_work(status: Mapping[str, Any], now: datetime) -> bool:
    began = utc(status.get("startedAt"))
    return began is not None and now - began < _MAKING and not is_over(status)
