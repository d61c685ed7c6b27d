"""Fills the workspace of a new sandbox from a backup, before its agent first starts.

Theory of operation. While `of` answers with a Restoring, the pass that asks gives the sandbox what it needs and no
workload. A helper fills the workspace, which has to be empty; when it has ended, that is written into the sandbox's
status first, then the helper is taken away, and then `finishedAt` is written. With the status the sandbox goes on as
any other, and nothing is restored again. A crash at any moment leaves a helper, whose end is then found, or a
half-filled workspace with the helper's own mark, which the next helper takes further. Who sees no helper reads the
sandbox once more before one begins: another process may have led until a moment ago, and what it wrote last is not seen
yet. Held is how often a helper was lost, and when the next may begin: later each time, and after MOST_ATTEMPTS never,
unless nobody is there who would ask again. A crash begins that count anew. Called by the pass over the sandbox, and so
once at a time.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from claude_sandbox.api.fields.work.restore import RestoreFrom
from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status_fields.recovery import RecoveryStatus
from claude_sandbox.api.status_fields.restore import RestoreState, RestoreStatus
from claude_sandbox.api.validate import InvalidSpec, parse_backup_spec
from claude_sandbox.backends.backups import Helper, Helpers, NotNowError, Wanted
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.backups.choice import is_of
from claude_sandbox.controller.backups.progress import progress_of
from claude_sandbox.controller.backups.status import MOST_ATTEMPTS, written
from claude_sandbox.controller.machinery.redaction import redact
from claude_sandbox.controller.sandboxes.interfaces import Restoring
from claude_sandbox.controller.sandboxes.store import Key, Raw

logger = logging.getLogger(__name__)

AT_WORK, WAITING = 2.0, 15.0
_LONGEST = 300.0
"""Seconds until a helper that was lost is begun anew, at most."""
_MOST_COUNTED = 1000

Source = tuple[str, BackupTarget, str, str]
"""Snapshot, target, and the Secret with the password and which of its keys that is."""

_PASSES = frozenset(
    {"TargetUnreachable", "CredentialsRefused", "WrongPassword", "RepositoryBusy", "TargetFull", "RepositoryNotFound"}
)
"""Why a restore failed that may be possible later: of a sandbox that leaves a compromised host it is tried again. The
passwords that were there are to be changed, so for a while they may be wrong."""
_REMOVED = "Remove spec.restoreFrom to have the sandbox start with its workspace as it is, or make another sandbox."
_MADE_ANEW = "Delete the sandbox, and make it anew, with spec.restoreFrom of another backup."

AsStored = Callable[[Raw], Awaitable[Raw | None]]
"""A sandbox as the server has it now; None where it is gone. Raises ApiError."""
Write = Callable[[Raw, Mapping[str, Any]], Awaitable[Raw | None]]
"""Merges into a sandbox's status, and has that known."""


class Restores:
    """Of all sandboxes. `backup_of`: a backup as last seen; `under_way`: UIDs of those that are not over."""

    def __init__(
        self,
        helpers_of: Callable[[Raw], tuple[Helpers, Identity]],
        backup_of: Callable[[Key], Raw | None],
        under_way: Callable[[str], frozenset[str]],
        as_stored: AsStored,
        write: Write,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC).replace(microsecond=0),
    ) -> None:
        self._helpers_of = helpers_of
        self._backup_of = backup_of
        self._under_way = under_way
        self._as_stored = as_stored
        self._write = write
        self._clock = clock
        self._lost: dict[str, tuple[int, datetime]] = {}
        """How often a helper was lost, and when the next may begin, by the sandbox's UID."""

    def is_due(self, raw: Raw, spec: ClaudeSandboxSpec) -> bool:
        """Whether the sandbox begins with a backup that was not restored yet."""
        before = (raw.get("status") or {}).get("restore") or {}
        asked = spec.restore_from is not None or _recovery(raw) is not None
        return asked and not _is_done(before)

    async def of(self, raw: Raw, spec: ClaudeSandboxSpec) -> Restoring | None:
        """What keeps the agent from starting; None where nothing does, since it was restored or nothing is to be."""
        before = (raw.get("status") or {}).get("restore") or {}
        if not self.is_due(raw, spec):
            return None
        recovery = _recovery(raw)
        failed = before.get("state") == RestoreState.FAILED
        if failed and before.get("finishedAt"):
            return Restoring(str(before.get("message") or ""), failed=True)
        try:
            helpers, identity = self._helpers_of(raw)
            source = (
                self._source(identity, spec.restore_from) if recovery is None else self._left(raw, identity, recovery)
            )
            wanted = self._wanted(identity, source, home=spec.workspace.keep_home is not None)
            # Its end is written, so what is left is the helper: a crash came in between.
            if before.get("state"):
                return await self._tidy(raw, helpers, wanted, Restoring(str(before.get("message") or ""), failed, 0.0))
            # Looked for before one is started: the operator may have ended while it went on.
            helper = await helpers.look(wanted)
            if helper is None:
                _, begins = self._lost.get(wanted.uid, (0, self._clock()))
                if (wait := (begins - self._clock()).total_seconds()) > 0:
                    return Restoring("What restores the workspace was lost, and is begun anew.", again=wait)
                live = await self._as_stored(raw)
                if live is None:
                    return Restoring("The sandbox is gone.", again=AT_WORK)
                if ((live.get("status") or {}).get("restore") or {}).get("state"):
                    return await self.of(live, spec)
                await helpers.start(wanted)
                return Restoring("The workspace is being restored.", again=AT_WORK)
            if not helper.ended:
                said = (raw.get("status") or {}).get("restoring")
                found = await progress_of(helpers, wanted, said, self._clock())
                return Restoring("The workspace is being restored.", again=AT_WORK, progress=found)
            return await self._end(raw, helpers, wanted, helper)
        except NotNowError as error:
            return Restoring(f"The workspace can't be restored yet: {error}", again=_again(error))

    async def _end(self, raw: Raw, helpers: Helpers, wanted: Wanted, helper: Helper) -> Restoring:
        # Killed, or its machine gone: the workspace may be half filled, which its own mark tells the next one.
        recovers, result = _recovery(raw) is not None, helper.result
        if result is None:
            logger.warning("the restore of %s: its helper was lost (%s)", wanted.name, helper.message)
            lost, again = self._count(wanted.uid)
            if lost < MOST_ATTEMPTS or recovers:
                await helpers.remove(wanted)
                message = f"What restores the workspace was lost ({helper.message}) and is begun anew."
                return Restoring(message, again=again)
            # What kills it each time is in the backup, or is the room that it has.
            result = {"reason": "HelperLost", "message": f"it was begun {lost} times; at last {helper.message}"}
        reason = result.get("reason")
        if recovers and reason in _PASSES:
            # Nobody asked for it at this moment, so nobody is there who would ask again.
            await helpers.remove(wanted)
            message = redact(str(result.get("message") or "restic failed, and said nothing"))
            return Restoring(f"The workspace can't be restored yet ({reason}): {message}.", again=WAITING)
        self._lost.pop(wanted.uid, None)
        status = _status(result, _MADE_ANEW if recovers else _REMOVED)
        live = await self._write(raw, {"restore": status.model_dump(mode="json", by_alias=True, exclude_none=True)})
        # The next pass begins with what was written.
        found = Restoring(status.message, failed=status.state is RestoreState.FAILED, again=0.0)
        return found if live is None else await self._tidy(live, helpers, wanted, found)

    def _count(self, uid: str) -> tuple[int, float]:
        """How often it was lost by now, and seconds until the next may begin."""
        # Of sandboxes that went meanwhile nobody tells.
        if len(self._lost) > _MOST_COUNTED:
            self._lost.clear()
        lost = self._lost.get(uid, (0, self._clock()))[0] + 1
        again = min(AT_WORK * 2 ** min(lost - 1, 20), _LONGEST)
        self._lost[uid] = lost, self._clock() + timedelta(seconds=again)
        return lost, again

    async def _tidy(self, raw: Raw, helpers: Helpers, wanted: Wanted, found: Restoring) -> Restoring:
        """Take away the helper whose end is written; last of all that this was done."""
        await helpers.remove(wanted)
        await self._write(raw, {"restore": {"finishedAt": written(self._clock())}})
        return found

    def _wanted(self, sandbox: Identity, source: Source, *, home: bool) -> Wanted:
        snapshot, target, secret, key = source
        order: dict[str, Any] = {
            "action": "restore", "sandbox": sandbox.name, "uid": sandbox.uid, "snapshot": snapshot,
        }  # fmt: skip
        if home:
            order["parts"] = ["workspace", "home"]
        return Wanted(
            sandbox.namespace, sandbox.name, sandbox.uid, sandbox, target, secret, key, order,
            self._under_way(sandbox.namespace), restores=True, home=home,
        )  # fmt: skip

    def _left(self, raw: Raw, sandbox: Identity, recovery: RecoveryStatus) -> Source:
        """The snapshot with which it leaves a compromised host, by what was found then. Raises NotNowError."""
        found = self._source(sandbox, RestoreFrom(backup_name=recovery.backup))
        # Whoever wrote the status: what is another sandbox's is not brought here.
        own = is_of(raw, self._backup_of(Key(sandbox.namespace, recovery.backup)) or {})
        if found[0] != recovery.snapshot or not own:
            message = f"ClaudeSandboxBackup {recovery.backup} is another than when the sandbox left its host."
            raise NotNowError(BackupReason.TARGET_NOT_FOUND, f"{message} {_MADE_ANEW}")
        return found

    def _source(self, sandbox: Identity, asked: RestoreFrom | None) -> Source:
        """Raises NotNowError where the backup is not there, or not yet."""
        assert asked is not None  # noqa: S101 - it is due
        if asked.backup_name is None:
            assert asked.target is not None  # noqa: S101 - the rules see to it
            assert asked.password_secret_ref is not None  # noqa: S101
            return str(asked.snapshot), asked.target, asked.password_secret_ref.name, asked.password_secret_ref.key
        where = f"ClaudeSandboxBackup {sandbox.namespace}/{asked.backup_name}"
        raw = self._backup_of(Key(sandbox.namespace, asked.backup_name))
        snapshot = ((raw or {}).get("status") or {}).get("snapshot")
        if raw is None or not snapshot:
            what = f"There is no {where}." if raw is None else f"{where} has no snapshot yet."
            raise NotNowError(BackupReason.TARGET_NOT_FOUND, what)
        try:
            spec = parse_backup_spec(raw)
        except InvalidSpec as error:
            raise NotNowError(BackupReason.TARGET_NOT_FOUND, f"{where} is refused: {error}") from None
        return str(snapshot), spec.target, spec.password_secret_ref.name, spec.password_secret_ref.key


def _is_done(before: Mapping[str, Any]) -> bool:
    return before.get("state") == RestoreState.RESTORED and bool(before.get("finishedAt"))


def _again(error: NotNowError) -> float:
    # Its own pass makes the workspace.
    return AT_WORK if error.reason is BackupReason.WORKSPACE_NOT_THERE else WAITING


def _recovery(raw: Raw) -> RecoveryStatus | None:
    """With what it begins that left a compromised host; None where it left none."""
    found = (raw.get("status") or {}).get("recovery")
    return RecoveryStatus.model_validate(found) if found else None


def _status(result: Mapping[str, Any], remedy: str) -> RestoreStatus:
    snapshot = str(result.get("snapshot") or "") or None
    if result.get("outcome") == "Done":
        files, different = int(result.get("files") or 0), int(result.get("different") or 0)
        more = f"; {different} differ from what was backed up" if different else ""
        return RestoreStatus(
            state=RestoreState.RESTORED, snapshot=snapshot, files=files, different=different,
            message=f"{files} files were restored from snapshot {(snapshot or '')[:8]}{more}.",
        )  # fmt: skip
    message = redact(str(result.get("message") or "restic failed, and said nothing"))
    told = f"The workspace was not restored ({result.get('reason')}): {message}. {remedy}"
    return RestoreStatus(state=RestoreState.FAILED, message=told)
