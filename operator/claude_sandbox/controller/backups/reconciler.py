"""One look at one backup: is there a helper, what does it say, has one to begin.

Theory of operation. It holds which backups were deleted a moment ago, which are being begun, and how often a helper
could not be taken away whose host was silent, and nothing else: of a repository on a server elsewhere that is still to
be made, one helper at a time begins. What was done is in the backup's status, and what is being done at the helper,
which goes on without the operator. A helper that ended without a word (killed, its machine gone) is begun anew,
MOST_ATTEMPTS times at most. What is over is written first, then the helper is taken away, and then `completedAt` is
written, without which the next process takes the helper away. So who sees no helper reads the backup once more before
one begins: of one that another process had made a moment ago, be it that this one leads only now, the end is in there,
whatever the watch told until then. And each write goes by what it was decided upon: of two processes that both lead for
a moment, one would put "at work" over the other's end, and what is not over is begun once more. That of a backup that
was deleted while no operator ran goes with its owner, or by the sandbox's next backup. Called by the workers of one
queue; of one backup there is one look at a time.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.api.kinds.backups import OVER, BackupReason, ClaudeSandboxBackupSpec
from claude_sandbox.api.validate import InvalidSpec, parse_backup_spec
from claude_sandbox.backends.backups import Helper, Helpers, NotNowError, Wanted
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.backups import status as report
from claude_sandbox.controller.backups.choice import with_lists
from claude_sandbox.controller.backups.progress import progress_of
from claude_sandbox.controller.backups.repositories import is_being_made, known
from claude_sandbox.controller.backups.status import MOST_ATTEMPTS, State
from claude_sandbox.controller.machinery.merge_patch import merge_patch
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes.store import Key, Raw
from claude_sandbox.kubernetes_api.errors import ApiError

logger = logging.getLogger(__name__)

AT_WORK = 2.0
WAITING = 15.0
"""Seconds until the next look: at a helper, and at what is missing, which no watch tells of."""
MOST_CONFLICTS = 5
"""So often a status is composed anew that somebody else wrote meanwhile: two that lead write every AT_WORK seconds."""
MOST_TRIES = 8
"""So often it is tried to take away the helper of a backup that is over: its host may be gone for good."""


class Reporting(Protocol):
    """Where findings go; and what the server has of a backup now. Raises ApiError; of a write `as_seen` a conflict,
    where the backup is another than the one that was given."""

    async def write_status(self, raw: Raw, patch: Mapping[str, Any], *, as_seen: bool = False) -> Raw | None: ...

    async def as_stored(self, raw: Raw) -> Raw | None: ...

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None: ...


class BackupReconciler:
    """Looks at backups. `backup_of`, `backups_in` and `sandbox_of` are what was last seen; `helpers_of` the
    side a sandbox is on, and who it is there; `manifest_of` the sandbox as it is kept with its workspace. These raise
    NotNowError.
    """

    def __init__(
        self,
        backup_of: Callable[[Key], Raw | None],
        backups_in: Callable[[str], Sequence[Raw]],
        sandbox_of: Callable[[Key], Raw | None],
        helpers_of: Callable[[Raw], tuple[Helpers, Identity]],
        manifest_of: Callable[[Raw], Awaitable[Mapping[str, Any]]],
        reporting: Reporting,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC).replace(microsecond=0),
    ) -> None:
        self.gone: dict[Key, Raw] = {}
        """Backups that were deleted, whose helpers are still to be taken away."""
        self._beginning: set[str] = set()
        """UIDs of backups that are being begun, which is not in their status yet."""
        self._tries: dict[str, int] = {}
        """How often it was tried to take away the helper of a backup that is over, by its UID."""
        self._backup_of = backup_of
        self._backups_in = backups_in
        self._sandbox_of = sandbox_of
        self._helpers_of = helpers_of
        self._manifest_of = manifest_of
        self._reporting = reporting
        self._clock = clock

    async def __call__(self, key: Key) -> Result:
        """One look. Raises ApiError where the status could not be written."""
        # Before the one that has its name by now, should there be another: their helpers are told apart by UID.
        if (gone := self.gone.pop(key, None)) is not None:
            await self._forget(gone)
        raw = self._backup_of(key)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return Result()
        if report.is_over(raw.get("status") or {}):
            return await self._tidy(raw)
        try:
            spec = parse_backup_spec(raw)
        except InvalidSpec as error:
            await self._write(raw, report.waits(BackupReason.INVALID_SPEC, str(error)))
            return Result()
        try:
            return await self._look(raw, spec)
        except NotNowError as error:
            return await self._refused(raw, error)

    async def _refused(self, raw: Raw, error: NotNowError) -> Result:
        """It waits; or it is over, where what is asked for can't be had."""
        written = await self._write(raw, report.waits(error.reason, str(error)))
        if written is None or error.reason not in OVER:
            return Result(requeue_after=WAITING)
        self._reporting.tell(written, error.reason, str(error), warning=True)
        return await self._tidy(written)

    async def _forget(self, raw: Raw) -> None:
        """Take away the helper of a backup that was deleted. What can't be now, the sandbox's next backup does."""
        self._tries.pop(raw["metadata"]["uid"], None)
        try:
            spec = parse_backup_spec(raw)
            sandbox = self._sandbox_of(Key(raw["metadata"]["namespace"], spec.sandbox_name))
            if sandbox is not None and not report.is_over(raw.get("status") or {}):
                helpers, identity = self._helpers_of(sandbox)
                await helpers.remove(self._wanted(raw, spec, identity))
        except (InvalidSpec, NotNowError) as error:
            logger.info("the helper of a deleted backup was not taken away: %s", error)

    async def _tidy(self, raw: Raw) -> Result:
        """Take away the helper of a backup that is over. Last of all that this was done: who comes after a crash knows
        by that whether there may be a helper yet."""
        before, uid = raw.get("status") or {}, raw["metadata"]["uid"]
        if "completedAt" in before or not report.may_have_helper(before):
            return Result()
        try:
            spec = parse_backup_spec(raw)
            sandbox = self._sandbox_of(Key(raw["metadata"]["namespace"], spec.sandbox_name))
            if sandbox is not None:
                helpers, identity = self._helpers_of(sandbox)
                await helpers.remove(self._wanted(raw, spec, identity))
        except InvalidSpec as error:
            logger.info("the helper of backup %s stays: %s", raw["metadata"]["name"], error)
        except NotNowError as error:
            self._tries[uid] = self._tries.get(uid, 0) + 1
            if self._tries[uid] < MOST_TRIES:
                # A process that has just begun has not heard of any host yet.
                return Result(requeue_after=WAITING)
            logger.info("the helper of backup %s stays for now: %s", raw["metadata"]["name"], error)
        self._tries.pop(uid, None)
        await self._reporting.write_status(
            raw, {"completedAt": report.ended_at(before) or report.written(self._clock())}
        )
        return Result()

    async def _look(self, raw: Raw, spec: ClaudeSandboxBackupSpec) -> Result:
        namespace = raw["metadata"]["namespace"]
        sandbox = self._sandbox_of(Key(namespace, spec.sandbox_name))
        if sandbox is None or sandbox["metadata"].get("deletionTimestamp"):
            raise NotNowError(
                BackupReason.SANDBOX_NOT_FOUND, f"There is no ClaudeSandbox {namespace}/{spec.sandbox_name}."
            )
        if ((sandbox.get("spec") or {}).get("workspace") or {}).get("type") == "EmptyDir":
            message = "The workspace is an EmptyDir, which ends with the workload: there is nothing to keep."
            await self._write(raw, report.waits(BackupReason.NOTHING_TO_KEEP, message))
            return Result()
        if spec.include_home and not ((sandbox.get("spec") or {}).get("workspace") or {}).get("keepHome"):
            message = "The sandbox keeps no home (spec.workspace.keepHome): make another backup, without includeHome."
            await self._write(raw, report.waits(BackupReason.NOTHING_TO_KEEP, message))
            return Result()
        helpers, identity = self._helpers_of(sandbox)
        wanted = self._wanted(raw, spec, identity)
        helper = await helpers.look(wanted)
        if helper is None or helper.is_prepared:
            return await self._begin(raw, sandbox, helpers, wanted, spec, helper)
        if not helper.ended:
            status = raw.get("status") or {}
            found = await progress_of(helpers, wanted, status.get("progress"), self._clock())
            await self._write(raw, _at_work(helper), progress=found, **_moment(helper))
            return Result(requeue_after=AT_WORK)
        return await self._end(raw, helpers, wanted, helper)

    async def _begin(
        self, raw: Raw, sandbox: Raw, helpers: Helpers, wanted: Wanted, spec: ClaudeSandboxBackupSpec,
        prepared: Helper | None,
    ) -> Result:  # fmt: skip
        """`prepared`: what was made before the helper; it is of the same attempt, unless one read it already."""
        live = await self._reporting.as_stored(raw)
        if live is None or report.is_over(live.get("status") or {}):
            return Result(requeue_after=AT_WORK)
        raw, status = live, live.get("status") or {}
        attempts = int(status.get("attempts") or 0)
        goes_on = prepared is not None and not _was_read(status, prepared)
        # A helper that is killed each time, for want of memory say, is not begun for ever.
        if attempts >= MOST_ATTEMPTS and not goes_on:
            message = f"What makes the backup ended {attempts} times before it was done. Make another backup."
            lost = await self._write(raw, report.waits(BackupReason.HELPER_LOST, message))
            # What it was to read may be there yet.
            return Result() if lost is None else await self._tidy(lost)
        # Read now, from the API server: what was last seen has lost what the operator does not need.
        manifest = orjson.dumps(await self._manifest_of(sandbox), option=orjson.OPT_INDENT_2).decode()
        kept = spec.retention.kept if spec.retention is not None else {}
        order = {**wanted.order, "files": {"manifest.json": manifest}, "keep": kept}
        backups = self._backups_in(wanted.namespace)
        repositories, lists = known(sandbox, backups, spec.replaces_repository), with_lists(sandbox, backups)
        if is_being_made(raw, backups, self._beginning, self._clock()):
            message = "Another backup makes the repository: this one begins when that is done."
            raise NotNowError(BackupReason.HELPER_NOT_STARTED, message)
        self._beginning.add(wanted.uid)
        try:
            location = await helpers.start(replace(wanted, order=order, repositories=repositories, lists=lists))
            began = {} if status.get("startedAt") else {"started_at": self._clock()}
            # After it was begun: nothing counts that was refused. A crash in between begins nothing twice.
            begun = Helper(message="it has begun", moment=None if prepared is None else prepared.moment)
            number = max(attempts, 1) if goes_on else attempts + 1
            await self._write(raw, _at_work(begun), attempts=number, location=location, **began, **_moment(begun))
        finally:
            self._beginning.discard(wanted.uid)
        return Result(requeue_after=AT_WORK)

    async def _end(self, raw: Raw, helpers: Helpers, wanted: Wanted, helper: Helper) -> Result:
        if helper.result is None:
            message = f"What makes the backup was lost ({helper.message}), and is begun anew."
            logger.warning("backup %s/%s: %s", wanted.namespace, wanted.name, message)
            await helpers.remove(wanted)
            self._reporting.tell(raw, BackupReason.HELPER_LOST, message, warning=True)
            attempts = int((raw.get("status") or {}).get("attempts") or 0)
            # Later each time: what killed it may last.
            return Result(requeue_after=AT_WORK * 2**attempts)
        complete, more = report.of_result(helper.result)
        # A crash came after it was started and before that was written.
        began = {} if (raw.get("status") or {}).get("startedAt") else {"started_at": self._clock(), "attempts": 1}
        # First of all: the helper is the only other place that knows how it ended.
        written = await self._write(raw, complete, **began, **_moment(helper), **more)
        if written is None:
            return Result()
        stored = complete.status is ConditionStatus.TRUE
        verified = more.get("verified")
        good = stored and isinstance(verified, State) and verified.status is ConditionStatus.TRUE
        told = verified if stored and isinstance(verified, State) else complete
        self._reporting.tell(raw, "BackupVerified" if good else told.reason, told.message, warning=not good)
        return await self._tidy(written)

    def _wanted(self, raw: Raw, spec: ClaudeSandboxBackupSpec, identity: Identity) -> Wanted:
        return _wanted(raw, spec, identity, report.under_way(self._backups_in(identity.namespace)))

    async def _write(self, raw: Raw, complete: State, **more: Any) -> Raw | None:
        """Where it says something new; the backup as it is then, None where it is gone, or another process ended it."""
        conflicts = 0
        while True:
            previous = raw.get("status") or {}
            status = report.composed(previous, raw["metadata"]["generation"], complete, self._clock(), **more)
            if not (patch := merge_patch(previous, status)):
                return raw
            try:
                return await self._reporting.write_status(raw, patch, as_seen=True)
            except ApiError as error:
                conflicts += 1
                if not error.is_conflict or conflicts == MOST_CONFLICTS:
                    raise
            live = await self._reporting.as_stored(raw)
            if live is None or report.is_over(live.get("status") or {}):
                return None
            raw = live


def _wanted(raw: Raw, spec: ClaudeSandboxBackupSpec, sandbox: Identity, others: frozenset[str]) -> Wanted:
    metadata, secret = raw["metadata"], spec.password_secret_ref
    order: dict[str, Any] = {"action": "backup", "sandbox": sandbox.name, "uid": sandbox.uid}
    if spec.include_home:
        order["parts"] = ["workspace", "home"]
    return Wanted(
        metadata["namespace"], metadata["name"], metadata["uid"], sandbox, spec.target, secret.name, secret.key, order,
        others, home=spec.include_home, volume_snapshot=spec.volume_snapshot,
    )  # fmt: skip


def _moment(helper: Helper) -> dict[str, Any]:
    return {} if helper.moment is None else {"volume_snapshot_at": helper.moment}


def _was_read(status: Mapping[str, Any], prepared: Helper) -> bool:
    """Whether a helper began with it that is gone. The moment is written then; of a snapshot every driver tells one."""
    return prepared.moment is not None and utc(status.get("volumeSnapshotAt")) == prepared.moment


def _at_work(helper: Helper) -> State:
    return State(ConditionStatus.FALSE, BackupReason.RUNNING, f"The backup is being made: {helper.message}.")
