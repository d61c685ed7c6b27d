"""Deleting a ClaudeSandbox whose time is over: what is to be deleted is found by looking, each time.

It is deleted as it was seen, by UID and resourceVersion: whoever gave it more time a moment ago keeps it. Nothing of it
runs any more while a backup of it is at work, with whose end it is looked at again: the workspace, and what says of the
backup that it is whole, would else go. Held is which are waiting for that; a crash has them asked for once more.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import Failure, Outcome, WorkloadState
from claude_sandbox.controller.sandboxes.interfaces import Backups, Reporter
from claude_sandbox.controller.sandboxes.lifecycle.life import Looked
from claude_sandbox.controller.sandboxes.lifecycle.look import previous
from claude_sandbox.controller.sandboxes.reporting.lifecycle import over
from claude_sandbox.controller.sandboxes.store import Raw, Sandboxes, on_docker
from claude_sandbox.kubernetes_api.errors import ApiError

Delete = Callable[[Raw], Awaitable[Raw]]
"""Delete this version of a sandbox; what is left of it, or a Status. Raises ApiError."""

AGAIN = 1.0
"""Seconds until a sandbox that turned out to be another version is looked at again, should no watch tell of it."""


def rests(state: WorkloadState) -> bool:
    """Whether nothing of it runs any more, or soon."""
    return state.workload is None or state.reason is Reason.POD_TERMINATING


class Deletions:
    """Of one operator. Without `delete` it deletes nothing."""

    def __init__(
        self, sandboxes: Sandboxes, reporter: Reporter, delete: Delete | None, backups: Backups | None = None
    ) -> None:
        self._sandboxes = sandboxes
        self._reporter = reporter
        self._delete = delete
        self._backups = backups
        self._waiting: set[str] = set()
        """UIDs of those that are being backed up."""

    def begins(self, raw: Raw, looked: Looked | None, workload: WorkloadState, now: datetime) -> bool:
        """Whether it is to go with the next pass."""
        return raw["metadata"]["uid"] not in self._waiting and self.due(raw, looked, workload, now)

    def due(self, raw: Raw, looked: Looked | None, workload: WorkloadState, now: datetime) -> bool:
        """Whether it is to go now: its time is over by the clock, it asks for that, and nothing of it runs.

        Somebody else's finalizer may hold a sandbox for ever, and its pod must not go on meanwhile. What one has on
        Docker is removed before it goes, whoever else holds it.
        """
        ended = looked.life.ended if looked is not None and looked.asked.deletes else None
        if self._delete is None or ended is None or ended.at > now:
            return False
        return on_docker(raw) or rests(workload)

    async def of(self, raw: Raw, looked: Looked | None, workload: WorkloadState, now: datetime) -> Outcome | None:
        """What came of deleting a sandbox; None where it is not to go, or not yet. Raises ApiError."""
        if not self.due(raw, looked, workload, now):
            return None
        assert self._delete is not None  # noqa: S101 - it is due
        assert looked is not None  # noqa: S101 - it is due
        if self._backups is not None and await self._backups.at_work(raw):
            self._waiting.add(raw["metadata"]["uid"])
            return None
        self._waiting.discard(raw["metadata"]["uid"])
        # Said here where no status will say it: the object goes with its status. Who had its end reported heard of it
        # then.
        if previous(raw).ended is None:
            self._reporter.tell(raw, "Ended", over(looked), warning=True)
        try:
            left = await self._delete(raw)
        except ApiError as error:
            return _undeleted(error, looked)
        if not (left.get("metadata") or {}).get("deletionTimestamp"):
            return Outcome(gone=True)
        # It is learned with that, so its watch tells nothing new of it.
        self._sandboxes.learn(left)
        return Outcome(stale=True, paced=0.0)


def _undeleted(error: ApiError, looked: Looked) -> Outcome:
    """Raises the error where trying again may help."""
    if error.is_not_found:
        return Outcome(gone=True)
    # Somebody wrote it meanwhile, perhaps to give it more time: the next pass decides by what is there then.
    if error.is_conflict:
        return Outcome(stale=True, paced=AGAIN)
    if not error.is_forbidden:
        raise error
    message = (
        f"{over(looked)} The operator may not delete ClaudeSandboxes: give its account the role of"
        " manifests/rbac/roles, or set spec.lifecycle.shutdownPolicy to Suspend."
    )
    return Outcome(failure=Failure(Reason.PERMISSION_DENIED, message, permanent=True))
