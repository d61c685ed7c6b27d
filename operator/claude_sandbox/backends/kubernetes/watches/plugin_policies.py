"""Following the policies that network plugins have beside NetworkPolicies, of whichever kinds the cluster serves.

Theory of operation. Holds one informer, and its task, for each kind that was served at the last look, of the whole
cluster: what is not of a namespace is about all of them. Each minute it is asked anew which kinds those are; a kind
that is gone takes its informer along. A kind that is served and can't be listed leaves everything open (`of` says why),
as does that nothing was found out yet: such policies widen what a sandbox may do.

Once it knows them, a failed look changes nothing: the informers go on, and say how old their picture is. For one event
loop. A crash loses all; the next start asks and lists.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.kubernetes.evidence.plugin_kinds import served_kinds
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.informers.cache_limits import MIB, CacheLimit, CacheLimits
from claude_sandbox.kubernetes_api.informers.informer import Informer, Timings
from claude_sandbox.kubernetes_api.informers.transforms import Projection
from claude_sandbox.kubernetes_api.resources import Resource
from claude_sandbox.kubernetes_api.unstructured import Object

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a start waits for what is known of them."""
LOOK_EVERY = 60.0
"""Seconds between two looks at which kinds the cluster serves."""
_PROJECTION = Projection(("spec", "specs"))
_LIMIT = CacheLimit(namespace=2 * MIB)
"""They are a page long each, and all that may select a pod are compared in each pass."""
_NOT_YET = "which kinds of them the cluster serves is not known yet"


class PluginPolicies:
    """`wake`: have the sandboxes of this namespace looked at; None: all of them."""

    def __init__(self, api: Api, wake: Callable[[str | None], None], pace: Timings) -> None:
        self._api = api
        self._wake = wake
        self._pace = pace
        self._informers: dict[Resource, Informer] = {}
        self._tasks: dict[Resource, asyncio.Task[None]] = {}
        self._why = _NOT_YET
        self._looked = asyncio.Event()

    def __iter__(self) -> Iterator[Informer]:
        yield from tuple(self._informers.values())

    async def run(self) -> None:
        """Follow them until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    kinds = await served_kinds(self._api)
                except Exception as error:  # noqa: BLE001 - extension API servers say what they like
                    logger.warning("which policies of network plugins the cluster serves is not known: %s", error)
                    self._why = self._why and f"{_NOT_YET}: {mishap(error)}"
                else:
                    self._follow(kinds, group)
                self._looked.set()
                await asyncio.sleep(LOOK_EVERY)

    async def settled(self) -> None:
        """Wait until everything that is served was listed once, or can't be; not for ever, since an extension API
        server that is away must not keep sandboxes from being looked after."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._looked.wait()
                for informer in self:
                    await informer.settled.wait()

    def of(self, namespace: str) -> Reading[tuple[Object, ...]] | Unread:
        """Those of the namespace, and those of the whole cluster."""
        if self._why:
            return Unread(self._why)
        for informer in self:
            if not informer.readable:
                return Unread(f"the operator may not list {informer.resource}")
            if not informer.synced.is_set():
                return Unread(f"{informer.resource} were not listed yet")
        spaces = dict.fromkeys((namespace, ""))
        found = tuple(one for informer in self for space in spaces for one in informer.store.by_namespace(space))
        walls = [informer.last_contact.wall for informer in self]
        # Where none is served there is nothing that could grow old.
        seen = datetime.fromtimestamp(int(min(walls)), UTC) if walls else datetime.now(UTC)
        return Reading(found, EvidenceSource.LIVE_OBJECT, seen)

    def _follow(self, kinds: tuple[Resource, ...], group: asyncio.TaskGroup) -> None:
        for gone in self._informers.keys() - set(kinds):
            self._tasks.pop(gone).cancel()
            del self._informers[gone]
        for kind in set(kinds) - self._informers.keys():
            logger.info("policies of the network plugin are followed: %s", kind)
            informer = Informer(
                self._api,
                kind,
                transform=_PROJECTION,
                on_change=self._changed,
                pace=self._pace,
                limits=CacheLimits(kind, _LIMIT),
            )
            self._informers[kind] = informer
            self._tasks[kind] = group.create_task(informer.run(), name=f"informer {kind}")
        if self._why or set(kinds) != self._informers.keys():
            self._wake(None)
        self._why = ""

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        live = new or old or {"metadata": {}}
        if old is not None and new is not None and _said(old) == _said(new):
            return
        self._wake(live["metadata"].get("namespace"))


def _said(policy: Obj) -> tuple[object, object]:
    return policy.get("spec"), policy.get("specs")
