"""Writing reports of sandboxes as objects: which kind the cluster serves, who is looked at, what is written.

Theory of operation. Holds the kind that the cluster was found to serve (None until then), an informer of the objects of
that kind that are ours, a queue of sandboxes to look at, since when the status of one is behind, and what went wrong
with one last. Nothing of it is needed after a crash: the next process finds the kind, lists, and looks at each sandbox.

Always true:
- An object is made for a sandbox that is there, owned by it, and never taken over: one of its name that is somebody
  else's, or that an earlier sandbox had, is left alone and said in an Event. The garbage collector alone removes them.
- It says what the sandbox's status says, never more: `claude_sandbox.report` reads both alike.
- Nothing is written where what is there says it already. What somebody else changes or deletes comes back.
- No pass of a sandbox waits for it, and a status that changes often is looked at once in `SETTLE`.

The store of sandboxes calls `sandbox` with each change, on the event loop. `run` finds the kind and follows it, on each
replica; `work` writes, on the one that leads. Once found, the kind is kept until the process ends. Where it is served
no more, the informer can't read, and nothing is written until it can.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.machinery.workers import Result, run_workers
from claude_sandbox.controller.metrics.evidence import ReportsWritten
from claude_sandbox.controller.policy_reports import objects
from claude_sandbox.controller.sandboxes.store import Key, Raw
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.informers.informer import Informer, Timings
from claude_sandbox.kubernetes_api.resources import OPEN_REPORTS, POLICY_REPORTS, Resource

logger = logging.getLogger(__name__)

KINDS = {"OpenReports": (OPEN_REPORTS,), "PolicyReports": (POLICY_REPORTS,), "Auto": (OPEN_REPORTS, POLICY_REPORTS)}
"""What may be chosen: of several kinds the first that is served."""
WORKERS = 4
LOOK_EVERY = 60.0
"""Seconds between two looks at whether the cluster serves a kind by now, or lets it be read."""
SETTLE = 2.0
"""Seconds in which changes of a status are gathered."""
GRACE = 60.0
"""For how many seconds a status may be behind its spec, or not there yet, before a report says that."""

PATIENCE = 6
"""Tries, some seconds in all, before a person is told that a name is taken."""

Tell = Callable[[Raw, str, str], None]
"""Says something about a sandbox: the reason and the message of an Event."""


class PolicyReports:
    """Everything that one process holds of these reports. Built inside a running event loop."""

    def __init__(
        self,
        api: Api,
        chosen: str,
        namespaces: Sequence[str],
        keys: Callable[[], Iterable[Key]],
        sandbox_of: Callable[[Key], Raw | None],
        tell: Tell,
        pace: Timings,
    ) -> None:
        self._api = api
        self._wanted = KINDS[chosen]
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._keys = keys
        self._sandbox_of = sandbox_of
        self._tell = tell
        self._pace = pace
        self.resource: Resource | None = None
        self.queue: WorkQueue[Key] = WorkQueue()
        self._informers: dict[str | None, Informer] = {}
        self._behind_since: dict[Key, float] = {}
        self._trouble: dict[Key, str] = {}
        self.told = ReportsWritten()

    def sandbox(self, key: Key, raw: Raw | None) -> None:
        """A sandbox came, changed, or went."""
        if raw is None:
            self._behind_since.pop(key, None)
            self._trouble.pop(key, None)
        elif self.resource is not None:
            self.queue.add_after(key, SETTLE)

    def missing(self) -> int:
        """How many sandboxes have no report, or an old one, for what went wrong last, or may not be read."""
        return len(self._trouble.keys() | {key for key in self._keys() if self._is_unread(key)})

    def _is_unread(self, key: Key) -> bool:
        informer = self._informer_of(key)
        return informer is not None and not informer.readable

    def _informer_of(self, key: Key) -> Informer | None:
        return self._informers.get(key.namespace) or self._informers.get(None)

    async def run(self) -> None:
        """Find out what the cluster serves, and follow it, until cancelled."""
        self.resource = await self._found()
        logger.info("reports of sandboxes are written as %s", self.resource)
        self._informers = {scope: self._informer(self.resource, scope) for scope in self._scopes}
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run())
            # Whoever came before the kind was found was not queued.
            for key in self._keys():
                self.queue.add_after(key, SETTLE)

    async def work(self) -> None:
        """Write until `stop`. Only the replica that leads does."""
        await run_workers(self.queue, WORKERS, self._reconcile)

    def stop(self) -> None:
        """Hand out no more work."""
        self.queue.shutdown()

    async def _found(self) -> Resource:
        told = False
        while True:
            for resource in self._wanted:
                try:
                    if await served(self._api, resource):
                        return resource
                except ApiError as error:
                    logger.warning("whether the cluster serves %s is not known: %s", resource, error)
                    # The next is not asked for: it would be kept, though this one may be served.
                    break
            else:
                if not told:
                    kinds = " or ".join(map(str, self._wanted))
                    logger.info("the cluster does not serve %s: no report is written yet", kinds)
                    told = True
            await asyncio.sleep(LOOK_EVERY)

    def _informer(self, resource: Resource, scope: str | None) -> Informer:
        return Informer(
            self._api,
            resource,
            namespace=scope,
            # Those of others are not held: one that has the name shows when ours is to be made.
            label_selector=f"{meta.LABEL_MANAGED_BY}={meta.MANAGED_BY}",
            transform=objects.kept,
            on_change=self._changed,
            pace=self._pace,
        )

    def _changed(self, before: Obj | None, now: Obj | None) -> None:
        """Somebody else made, changed or deleted one."""
        live = now or before
        assert live is not None  # noqa: S101 - one of them is there
        for owner in live["metadata"].get("ownerReferences") or ():
            if owner.get("kind") == meta.KIND:
                self.queue.add_after(Key(live["metadata"]["namespace"], str(owner.get("name"))), SETTLE)

    async def _reconcile(self, key: Key) -> Result | None:
        raw = self._sandbox_of(key)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        informer = self._informer_of(key)
        # By what it does not show every report would be missing, and be made.
        if informer is None or not informer.synced.is_set() or not informer.readable:
            return Result(requeue_after=LOOK_EVERY)
        if (wait := self._until_said(key, raw)) > 0:
            return Result(requeue_after=wait)
        body = objects.wanted(raw, informer.resource, datetime.now(UTC))
        live = informer.store.get(key.namespace, body["metadata"]["name"])
        if live is not None and objects.is_of(live, raw) and live.get(objects.DIGEST) == objects.digest(body):
            self._trouble.pop(key, None)
            return None
        try:
            informer.learn(await self._written(raw, body, live, informer.resource))
        except ApiError as error:
            return self._failed(key, raw, body["metadata"]["name"], error)
        except _ForeignError as error:
            return self._refused(key, raw, str(error))
        self._trouble.pop(key, None)
        self.told.written += 1
        return None

    async def _written(self, raw: Raw, body: Obj, live: Obj | None, resource: Resource) -> Obj:
        """Raises ApiError, _ForeignError."""
        if live is None:
            return await self._api.create(resource, body, body["metadata"]["namespace"])
        if not objects.is_of(live, raw):
            raise _ForeignError("belongs to another object of that name")
        # Applied to this very object: deleted meanwhile, it is a conflict and not made anew under its former owner.
        body["metadata"]["uid"] = live["metadata"]["uid"]
        return await self._api.apply(resource, body)

    def _until_said(self, key: Key, raw: Raw) -> float:
        """In how many seconds a report says what the status says: it may be about to say something else."""
        status = raw.get("status") or {}
        said = status.get("observedGeneration") == raw["metadata"].get("generation") and status.get("compliance")
        if said:
            self._behind_since.pop(key, None)
            return 0.0
        now = asyncio.get_running_loop().time()
        # From when it was first seen behind, however often it is looked at.
        return self._behind_since.setdefault(key, now) + GRACE - now

    def _failed(self, key: Key, raw: Raw, name: str, error: ApiError) -> Result:
        if error.is_already_exists:
            return self._refused(key, raw, "is there and is not the operator's")
        # A server that is away is no news of this one sandbox; nor is a namespace that is going.
        if str(error) != self._trouble.get(key):
            logger.warning("report %s of %s was not written: %s", name, key, error)
        self._trouble[key] = str(error)
        self.told.failed += 1
        return Result(retry=True)

    def _refused(self, key: Key, raw: Raw, why: str) -> Result:
        """Of an earlier sandbox of the name the garbage collector takes it away: that is no news either."""
        name = f"{self.resource} {objects.file_name(key.name)}"
        message = f"{name} {why}, and is left alone: this sandbox has no report. Delete it, or give it another name."
        if self._trouble.get(key) != why and self.queue.failures(key) >= PATIENCE:
            self._trouble[key] = why
            self._tell(raw, "ReportNotWritten", message)
            self.told.refused += 1
        return Result(retry=True)


class _ForeignError(Exception):
    """An object of the name is not this sandbox's; the message says whose."""


async def served(api: Api, resource: Resource) -> bool:
    """Whether the cluster serves this version of the kind. Raises ApiError."""
    try:
        found: dict[str, Any] = await api.get_path(f"/apis/{resource.group}/{resource.version}")
    except ApiError as error:
        if error.is_not_found:
            return False
        raise
    return any(one.get("name") == resource.plural for one in found.get("resources") or ())
