"""Looking after backups, put together: what they are kept in, who is woken, who works, who writes."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.backends.backups import Helpers, NotNowError
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.backups.reconciler import BackupReconciler
from claude_sandbox.controller.backups.scheduling import Schedules
from claude_sandbox.controller.backups.status import under_way
from claude_sandbox.controller.machinery.events import EventRecorder
from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.machinery.status_writer import as_stored, write_status
from claude_sandbox.controller.machinery.workers import Result, run_workers
from claude_sandbox.controller.sandboxes.store import Key, Raw
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.informers.informer import Informer, Timings
from claude_sandbox.kubernetes_api.resources import BACKUPS, SANDBOXES

logger = logging.getLogger(__name__)

WORKERS = 8
"""Backups looked at a time; the work itself is the helpers'."""
_KEPT = ("apiVersion", "kind", "spec")
_OF_METADATA = ("name", "namespace", "labels", "annotations")


_BY_SANDBOX = "sandbox"
_PATIENCE = 20.0
"""Seconds for the first list of backups, which a process that starts waits for."""


def _sandboxes(obj: Obj) -> tuple[tuple[str, str], ...]:
    name = (obj.get("spec") or {}).get("sandboxName")
    return ((obj["metadata"]["namespace"], name),) if isinstance(name, str) else ()


def _told(obj: Obj) -> list[tuple[Any, Any]]:
    """What of a backup its sandbox tells."""
    status = obj.get("status") or {}
    conditions = [(one.get("type"), one.get("reason")) for one in status.get("conditions") or ()]
    return [*conditions, ("completedAt", status.get("completedAt"))]


class BackupsOperator:
    """Everything that one process holds of backups. Built inside a running event loop."""

    def __init__(
        self,
        api: Api,
        events: EventRecorder,
        namespaces: Sequence[str],
        sandbox_of: Callable[[Key], Raw | None],
        helpers_of: Callable[[Raw], tuple[Helpers, Identity]],
        resync: float,
        wake: Callable[[Key], None],
    ) -> None:
        self._api = api
        self._wake = wake
        self._events = events
        self.queue: WorkQueue[Key] = WorkQueue()
        self._informers = {
            scope: Informer(
                api,
                BACKUPS,
                namespace=scope,
                on_change=self._changed,
                pace=Timings(resync=resync * 2),
                indexes={_BY_SANDBOX: _sandboxes},
            )
            for scope in (tuple(namespaces) or (None,))
        }
        self.reconciler = BackupReconciler(self.backup, self.backups_in, sandbox_of, helpers_of, self._manifest, self)
        self.schedules = Schedules(self)

    def following(self) -> list[Coroutine[Any, Any, None]]:
        """What follows the API server, for ever."""
        return [informer.run() for informer in self._informers.values()]

    async def work(self) -> None:
        """Look after backups until `stop`. Only the replica that leads does."""
        await run_workers(self.queue, WORKERS, self._reconcile)

    def stop(self) -> None:
        """Hand out no more work."""
        self.queue.shutdown()

    async def write_status(self, raw: Raw, patch: Mapping[str, Any], *, as_seen: bool = False) -> Raw | None:
        """Merge the patch into the backup's status; None where the backup is gone. Raises ApiError, a conflict where
        it is another than was seen, if it must not be."""
        written = await write_status(self._api, BACKUPS, raw, patch, as_seen=as_seen)
        if written is not None:
            self._of(raw["metadata"]["namespace"]).learn(dict(written))
        return written

    async def as_stored(self, raw: Raw) -> Raw | None:
        """The backup as the server has it now, whatever was seen of it; None where it is gone. Raises ApiError."""
        return await as_stored(self._api, BACKUPS, raw)

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event about the backup, and a line in the log."""
        metadata = raw["metadata"]
        level = logging.WARNING if warning else logging.INFO
        logger.log(level, "backup %s/%s: %s: %s", metadata["namespace"], metadata["name"], reason, message)
        # Of a list the server leaves out what every object is.
        known = {"apiVersion": BACKUPS.api_version, "kind": BACKUPS.kind, "metadata": metadata}
        self._events.tell(known, reason, message, warning=warning)

    async def _reconcile(self, key: Key) -> Result:
        return await self.reconciler(key)

    def _changed(self, before: Obj | None, now: Obj | None) -> None:
        live = now or before
        assert live is not None  # noqa: S101 - one of them is there
        key = Key(live["metadata"]["namespace"], live["metadata"]["name"])
        if before is not None and (now is None or now["metadata"]["uid"] != before["metadata"]["uid"]):
            # The informer has it no more, and its helper is found by what is in it.
            self.reconciler.gone[key] = before
        self.queue.add(key)
        # By another state, not by how far a helper is: its pass has nothing to do with that.
        if before is None or now is None or _told(before) != _told(now):
            for namespace, name in _sandboxes(live):
                self._wake(Key(namespace, name))

    async def known(self, namespace: str) -> str:
        """Once it is known which backups there are: why it can't be, where it can't."""
        informer = self._of(namespace)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await informer.settled.wait()
        if informer.readable and informer.settled.is_set():
            return ""
        return f"Which backups there are is not known: {informer.why_not or 'the API server does not answer'}."

    def of(self, sandbox: Key) -> Sequence[Raw]:
        """The backups of a sandbox, as last seen."""
        return self._of(sandbox.namespace).store.by_index(_BY_SANDBOX, tuple(sandbox))

    async def create(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Make a backup, and know it. Raises ApiError."""
        made = await self._api.create(BACKUPS, body, namespace)
        # Before the pass goes on, or it would plan the same backup once more.
        self._of(namespace).learn(dict(made))
        self.queue.add(Key(namespace, body["metadata"]["name"]))

    async def read(self, key: Key) -> Raw:
        """A backup as it is now, known from then on. Raises ApiError."""
        live = await self._api.get(BACKUPS, key.name, key.namespace)
        self._of(key.namespace).learn(dict(live))
        return live

    async def delete(self, raw: Raw) -> None:
        """Remove this very backup; its snapshot stays. Raises ApiError."""
        metadata = raw["metadata"]
        await self._api.delete(BACKUPS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        self._of(metadata["namespace"]).unlearn(dict(raw))

    def under_way(self, namespace: str) -> frozenset[str]:
        """UIDs of the backups that are not over."""
        return under_way(self.backups_in(namespace))

    def backups_in(self, namespace: str) -> Sequence[Raw]:
        """Those of a namespace, as last seen."""
        return self._of(namespace).store.by_namespace(namespace)

    def backup(self, key: Key) -> Raw | None:
        """A backup as last seen."""
        return self._of(key.namespace).store.get(key.namespace, key.name)

    def _of(self, namespace: str) -> Informer:
        return self._informers.get(namespace) or self._informers[None]

    async def _manifest(self, sandbox: Raw) -> Mapping[str, Any]:
        """The sandbox as one would apply it again. Raises NotNowError."""
        metadata = sandbox["metadata"]
        try:
            live = await self._api.get(SANDBOXES, metadata["name"], metadata["namespace"])
        except ApiError as error:
            raise NotNowError(
                BackupReason.SANDBOX_NOT_FOUND, f"The sandbox could not be read: {error.reason}."
            ) from None
        kept = {name: live["metadata"][name] for name in _OF_METADATA if live["metadata"].get(name)}
        # What the operator and kubectl noted of the object is not part of what was asked for.
        annotations = {
            name: text
            for name, text in (kept.get("annotations") or {}).items()
            if name not in (meta.ANNOTATION_ACTIVE_AT, "kubectl.kubernetes.io/last-applied-configuration")
        }
        kept = {name: value for name, value in kept.items() if name != "annotations"}
        return {name: live[name] for name in _KEPT if name in live} | {
            "metadata": kept | ({"annotations": annotations} if annotations else {})
        }
