"""Backups by a sandbox's own schedule: makes the ClaudeSandboxBackups, and removes those whose snapshots went.

Theory of operation. It holds nothing: what is due follows from the ClaudeSandboxBackups that there are (`schedule.py`),
and what making one came to is learned by their store before the pass goes on. A name follows from the sandbox and the
time, so that a crash after the creation, or a second operator, makes no second one. Called by the pass over the
sandbox, and so once at a time for each; a pass is due again at the schedule's next time, and with each backup's end.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import ValidationError

from claude_sandbox.api import meta
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status_fields.backup import BackupStatus
from claude_sandbox.controller.backups.schedule import Plan, at_work, is_scheduled, manifest, plan
from claude_sandbox.controller.sandboxes.interfaces import Backed
from claude_sandbox.controller.sandboxes.store import Key, Raw, key_of
from claude_sandbox.kubernetes_api.errors import ApiError

logger = logging.getLogger(__name__)

REFUSED = 60.0
"""Seconds until it is tried again to make one that the API server refused."""
_AT_A_TIME = 10
"""Objects that one pass removes."""


class Objects(Protocol):
    """The ClaudeSandboxBackups. Raises ApiError."""

    async def known(self, namespace: str) -> str: ...

    def of(self, sandbox: Key) -> Iterable[Raw]: ...

    async def create(self, namespace: str, body: Mapping[str, Any]) -> None: ...

    async def read(self, key: Key) -> Raw: ...

    async def delete(self, raw: Raw) -> None: ...


class Schedules:
    """Of all sandboxes."""

    def __init__(self, objects: Objects, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._objects = objects
        self._clock = clock

    async def of(self, raw: Raw, spec: ClaudeSandboxSpec) -> Backed | None:
        """Do what is due; None where the spec asks for no backups."""
        if spec.backup is None:
            return None
        if why := await self._objects.known(raw["metadata"]["namespace"]):
            # One that is under way must not look like none.
            return Backed(previous(raw), why, REFUSED)
        now = self._clock()
        found = self._plan(raw, spec, now)
        problem = ""
        if found.due is not None:
            problem = await self._make(raw, spec, found.due)
        # A few with each pass: thousands at once would keep this sandbox's pass, and a worker, for minutes.
        for one in found.superfluous[:_AT_A_TIME]:
            await self._remove(one)
        if found.due is not None and not problem:
            found = self._plan(raw, spec, now)
        again = (found.next - now).total_seconds() if found.next is not None else None
        if problem:
            again = REFUSED if again is None else min(again, REFUSED)
        said = problem or found.said or ("" if found.next is not None else "The schedule has no time that ever comes.")
        return Backed(found.status, said, again, found.gone)

    async def at_work(self, raw: Raw) -> bool:
        """See Backups. Where it can't be known which there are, none is."""
        if await self._objects.known(raw["metadata"]["namespace"]):
            return False
        return at_work(raw, self._objects.of(key_of(raw)), self._clock())

    def _plan(self, raw: Raw, spec: ClaudeSandboxSpec, now: datetime) -> Plan:
        assert spec.backup is not None  # noqa: S101 - of looked for it
        return plan(raw, spec.backup, previous(raw), self._objects.of(key_of(raw)), now)

    async def _make(self, raw: Raw, spec: ClaudeSandboxSpec, at: datetime) -> str:
        """Why there is none now, where there is not."""
        assert spec.backup is not None  # noqa: S101 - of looked for it
        body = manifest(raw, spec.backup, at)
        namespace, name = raw["metadata"]["namespace"], body["metadata"]["name"]
        try:
            await self._objects.create(namespace, body)
            logger.info("backup %s/%s was made by the schedule", namespace, name)
            return ""
        except ApiError as error:
            if not error.is_already_exists:
                return f"The API server refused to make {meta.BACKUP_KIND} {name}: {error.reason}."
        try:
            # From the server: the informer may not know yet of what a former leader made a moment ago.
            if is_scheduled(await self._objects.read(Key(namespace, name)), raw):
                return ""
        except ApiError as error:
            return f"{meta.BACKUP_KIND} {name} could not be read: {error.reason}."
        return f"{meta.BACKUP_KIND} {name} is somebody else's and in the way: remove it."

    async def _remove(self, one: Raw) -> None:
        try:
            await self._objects.delete(one)
        except ApiError as error:
            logger.info("backup %s was not removed: %s", key_of(one), error.reason)


def previous(raw: Raw) -> BackupStatus:
    """What the sandbox's status says; nothing where that can't be read."""
    try:
        return BackupStatus.model_validate((raw.get("status") or {}).get("backup") or {})
    except ValidationError:
        return BackupStatus()
