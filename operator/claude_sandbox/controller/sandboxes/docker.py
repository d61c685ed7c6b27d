"""What a sandbox on Docker needs around the loop: a host, and an end that leaves nothing on it.

Theory of operation. The finalizer and the placement are stored before anything is asked of the engine, so that at
whatever moment the operator ends it is known where to look for what it made. On the way down it is the other way round:
the finalizer goes when the host has confirmed that nothing is left.

Holds, in memory, where each sandbox was placed (`placements.py`) and of which namespace it is (`namespace_uids.py`),
and a lock under which one host at a time is chosen. Called by the passes of sandboxes, which may run side by side, and
by what tells of hosts; all on the event loop. A crash forgets it: the status and the engines tell it again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.meta import FINALIZER
from claude_sandbox.api.spec import ClaudeSandboxSpec, Retention
from claude_sandbox.api.status import Placement
from claude_sandbox.api.status_fields.incident import LostKey
from claude_sandbox.backends.base import Failure, KeyState
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.hosts.backends import Fleet
from claude_sandbox.backends.docker.hosts.placement import (
    PlacementRequest,
    Refusal,
    Refused,
    keep,
    place,
    placement_request,
)
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.controller.docker_hosts.compromised import CompromisedHosts
from claude_sandbox.controller.docker_hosts.drains import Drains
from claude_sandbox.controller.docker_hosts.reconciler import HostReconciler
from claude_sandbox.controller.docker_hosts.recoveries import Backups, Recoveries
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes.interfaces import Moving, Reporter, Stays
from claude_sandbox.controller.sandboxes.namespace_uids import NamespaceUIDs
from claude_sandbox.controller.sandboxes.placements import Placements
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes, is_held, key_of, placement_of, workspace_of
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

logger = logging.getLogger(__name__)

NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})
REMOVED_AGAIN = 10.0
"""Seconds until what could not be removed from a host is tried again."""


class DockerSandboxes:
    """The sandboxes that are containers on the hosts of a fleet.

    `labels_of` gives the labels of a namespace, None where they are not known. `namespaces` are those that the operator
    works for; none for all. `wake` has a sandbox looked at after so many seconds, `wake_host` a host.
    """

    def __init__(
        self,
        api: Api,
        sandboxes: Sandboxes,
        reporter: Reporter,
        fleet: Fleet,
        hosts: HostReconciler,
        labels_of: Callable[[str], Mapping[str, str] | None],
        wake: Callable[[Key, float], None],
        wake_host: Callable[[str], None],
        compromised: CompromisedHosts,
        namespaces: tuple[str, ...] = (),
        backups: Callable[[], Backups | None] = lambda: None,
    ) -> None:
        self._api = api
        self._compromised = compromised
        self._sandboxes = sandboxes
        self._reporter = reporter
        self._fleet = fleet
        self._hosts = hosts
        self._labels_of = labels_of
        self._namespaces = namespaces
        self._namespace_uids = NamespaceUIDs(api)
        self._placements = Placements()
        self._wake = wake
        self._wake_host = wake_host
        self._choosing = asyncio.Lock()
        self.drains = Drains(
            sandboxes, reporter, fleet, hosts, labels_of, self._namespace_uids.known, self._choosing, wake, wake_host
        )
        self._recoveries = Recoveries(reporter, fleet, hosts, compromised, backups, self._choosing, wake_host)

    def waits(self, raw: Raw) -> bool:
        """Whether nothing can be said of the sandbox before a host was looked at for the first time."""
        # One without a host waits for all of them: the one that was not looked at yet may be where it belongs.
        unseen, placement = self._hosts.unseen(), placement_of(raw)
        return bool(unseen) if placement is None else placement.host in unseen

    def backend(self, raw: Raw) -> DockerBackend | None:
        """Of the host that was chosen; None before."""
        placement = placement_of(raw)
        return None if placement is None else self._fleet.of(placement.host)

    def lost_with(self, raw: Raw) -> str | None:
        """The compromised host that the sandbox is on; None where it is on none."""
        return self._compromised.holding(raw)

    async def leave(self, raw: Raw, identity: Identity, spec: ClaudeSandboxSpec) -> Raw | Stays | None:
        """Have it begin anew on another host than the compromised one that it is on: the sandbox as it is then.

        Or why it stays, or None where it is gone. Raises ApiError.
        """
        restored = await self._restored(raw)
        if restored is not raw:
            return restored
        held = raw if is_held(raw) else await self._hold(raw)
        if held is None:
            return None
        namespace = identity.namespace
        wish = placement_request(namespace, self._labels_of(namespace), spec, identity.namespace_uid)
        left = await self._recoveries.leave(held, identity, spec, wish, self._store)
        if isinstance(left, Mapping):
            self._placements.learn(left)
        return left

    def judged(self, namespace: str, secret: str, key: KeyState) -> tuple[KeyState, LostKey | None]:
        """The state of a key, which may not be used where it was on a compromised host: then on which."""
        return self._compromised.judged(namespace, secret, key)

    def no_room_beside(self, raw: Raw) -> str:
        """Why its host has no room for what is tried beside it, which counts already; empty where it has."""
        placement = placement_of(raw)
        here = (one for one in self._hosts.candidates() if placement is not None and one.name == placement.host)
        if (host := next(here, None)) is None:
            return ""
        short = [what for what in ("cpu", "memory") if (left := getattr(host.free, what)) is not None and left < 0]
        return f"DockerHost {host.name} has too little {' and '.join(short)} left for that." if short else ""

    async def fresh(self, raw: Raw) -> Raw | None:
        """The sandbox as it is stored now, where another host may have been stored than the one that is known here.

        What is known may be behind: it must not be made anew where it was before it was moved. None: it is gone.
        """
        if not self.drains.concern(raw) and self._compromised.holding(raw) is None:
            return raw
        metadata = raw["metadata"]
        try:
            live: Raw = await self._api.get(SANDBOXES, metadata["name"], metadata["namespace"])
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        if live["metadata"]["uid"] != metadata["uid"]:
            return None
        self._sandboxes.learn(live)
        return live

    async def namespace_of(self, raw: Raw) -> str | Failure | None:
        """The UID of the sandbox's namespace, or why it can't be told; None where the sandbox is gone.

        Raises ApiError.
        """
        try:
            return await self._namespace_uids.of(raw)
        except ApiError as error:
            if not error.is_forbidden:
                raise
            message = (
                f"The operator may not read the Namespace {raw['metadata']['namespace']}, by whose UID a workspace on a"
                " Docker host is told from that of a former namespace of the name: give its account the role of"
                " manifests/rbac."
            )
            return Failure(Reason.PERMISSION_DENIED, message, permanent=True)

    async def settle(self, raw: Raw, blueprint: Blueprint, spec: ClaudeSandboxSpec) -> Raw | Failure | Moving | None:
        """Hold the sandbox and choose its host, where that was not done before or the host is being drained.

        The sandbox as it is then, why there is no host, what its move waits for, or None where the sandbox itself is
        gone. Raises ApiError.
        """
        restored = await self._restored(raw)
        if restored is None:
            return None
        settled = await self._settle(restored, blueprint, spec)
        if isinstance(settled, Mapping):
            self._placements.learn(settled)
        return settled

    async def _restored(self, raw: Raw) -> Raw | None:
        """The sandbox with the placement that was stored, whatever its status says since; None where it is gone."""
        stored, current = self._placements.stored(raw), placement_of(raw)
        if stored == current or (current is not None and self.drains.expects(key_of(raw), current)):
            return raw
        # This process has seen none before: what the status tells is all that there is.
        if stored is None:
            return raw
        message = f"status.placement was changed by somebody else; it is {stored.host} again, where the sandbox is."
        self._reporter.tell(raw, "Restored", message, warning=True)
        return await self._store(raw, stored)

    async def _store(self, raw: Raw, placement: Placement, more: Mapping[str, Any] = NOTHING_MORE) -> Raw | None:
        with self._sandboxes.writing(raw):
            told = placement.model_dump(mode="json", by_alias=True)
            placed = await self._reporter.write_status(raw, {"placement": told, **more})
            if placed is not None:
                self._sandboxes.learn(placed)
        return placed

    async def _settle(self, raw: Raw, blueprint: Blueprint, spec: ClaudeSandboxSpec) -> Raw | Failure | Moving | None:
        namespace = raw["metadata"]["namespace"]
        wish = placement_request(namespace, self._labels_of(namespace), spec, blueprint.identity.namespace_uid)
        current = placement_of(raw)
        if current is None:
            # One at a time: the room that one takes is counted once its placement is stored.
            async with self._choosing:
                return await self._choose(raw, wish)
        host = self._hosts.host_info(current.host)
        # Asked in each pass: an administrator may have closed the host to this namespace, or changed its engine.
        kept = keep(wish, host, current)
        drained = host is not None and host.spec.drain and not isinstance(kept, Refused)
        if not drained:
            self.drains.forget(key_of(raw))
        if isinstance(kept, Refused):
            if kept.refusal is Refusal.HOST_GONE and (found := await self._found(blueprint.identity)) is not None:
                # What the status tells leads nowhere, and the sandbox is on another host.
                return await self._store(raw, found)
            return _failure(kept)
        held = raw if is_held(raw) else await self._hold(raw)
        return held if held is None or not drained else await self.drains.move(held, current, blueprint, spec, wish)

    async def _choose(self, raw: Raw, wish: PlacementRequest) -> Raw | Failure | None:
        # Within the lock the sums are those that the last choice left.
        chosen = place(wish, self._hosts.candidates())
        if isinstance(chosen, Refused):
            return _failure(chosen)
        held = raw if is_held(raw) else await self._hold(raw)
        if held is None:
            return None
        # After the finalizer: a crash in between holds a sandbox that has nothing, which the next pass places or lets
        # go.
        placed = await self._store(held, chosen)
        if placed is not None:
            # Its DockerHost's status tells what is allocated.
            self._wake_host(chosen.host)
        return placed

    async def finish(self, raw: Raw) -> Result:
        """Remove what a sandbox that is being deleted has on its host, then let it go. Raises ApiError."""
        placement, metadata = self._placements.stored(raw), raw["metadata"]
        self.drains.forget(key_of(raw))
        if placement is None or not self._hosts.exists(placement.host):
            # A status may tell of another host, or of none, than the one that the sandbox is on.
            identity = Identity(metadata["namespace"], metadata["name"], metadata["uid"])
            placement = await self._found(identity) or placement
        if placement is not None:
            gone = not self._hosts.exists(placement.host)
            if gone or placement.host in self._compromised:
                # The documented way out: who removes the DockerHost says that nothing of it is to be waited for.
                state = "gone" if gone else "compromised"
                message = f"DockerHost {placement.host} is {state}; what the sandbox has on it is left there."
                self._reporter.tell(raw, "Abandoned", message, warning=True)
            elif problem := await self._remove(raw, placement):
                self._reporter.tell(raw, "Failed", problem, warning=True)
                return Result(requeue_after=REMOVED_AGAIN)
        left = [one for one in metadata.get("finalizers") or () if one != FINALIZER]
        try:
            written = await self._finalizers(raw, left)
        except ApiError as error:
            if not error.is_not_found:
                raise
            left = []
        if left:
            self._sandboxes.learn(written)
            return Result()
        # What held it last was ours. Before its watch has told so, what was removed would wake it once more.
        self._sandboxes.lose(raw)
        if placement is not None:
            self._wake_host(placement.host)
            self._offer_room()
        return Result(requeue_after=0)

    async def _found(self, identity: Identity) -> Placement | None:
        """The host on which the sandbox has a container, of those that answer."""
        for host in self._hosts.candidates():
            if not host.answers or host.engine_id is None:
                continue
            try:
                if await self._fleet.of(host.name).has(identity):
                    return Placement(host=host.name, engine_id=host.engine_id)
            except EngineError:
                continue
        return None

    async def host_changed(self, host: str, answers: bool) -> None:
        """A host came, went, was changed, fell silent or answers again."""
        host_info = self._hosts.host_info(host)
        if host_info is None or not host_info.spec.drain:
            self.drains.forget_host(host)
        if not self._hosts.exists(host) or host in self._compromised:
            await self._fleet.forget(host)
        elif answers:
            await self.collect(host)

    async def collect(self, host: str) -> None:
        """Remove what is left on a host of sandboxes that are gone, let go while it was not known, or on another host.

        Their workspaces stay: nobody can be asked any more whether they were to be kept.
        """
        known = (self._sandboxes.get(key) for key in self._sandboxes)
        # Of all namespaces, whatever this operator works for: what it does not know it must not take for gone.
        living = frozenset(raw["metadata"]["uid"] for raw in known if raw is not None and not self._is_left(raw, host))
        backend = self._fleet.of(host)
        try:
            for identity in await backend.orphans(living):
                # Another operator's, which may share the engine.
                if self._namespaces and identity.namespace not in self._namespaces:
                    continue
                now = self._sandboxes.get(Key(identity.namespace, identity.name))
                if now is not None and now["metadata"]["uid"] == identity.uid and not self._is_left(now, host):
                    continue  # it was moved here meanwhile
                removal = await backend.remove(identity, retain=True)
                if removal.removed:
                    what = ", ".join(removal.removed)
                    logger.info("%s/%s is not on %s; removed: %s", identity.namespace, identity.name, host, what)
        except EngineError as error:
            logger.debug("what is left on %s could not be looked for: %s", host, error)

    async def kept(self, host: str, is_gone: Callable[[str, str], bool]) -> tuple[str, ...] | None:
        """The volumes of workspaces on a host that no sandbox can have any more; None where it can't be asked.

        `is_gone` tells by its name and UID whether a namespace is certainly there no more. Of one that this operator
        does not work for nothing is said.
        """
        try:
            found = await self._fleet.of(host).workspaces()
        except EngineError:
            return None
        mine = (one for one in found if not self._namespaces or one[1] in self._namespaces)
        return tuple(sorted(volume for volume, namespace, uid in mine if is_gone(namespace, uid)))

    async def forget(self, namespace: str, name: str) -> None:
        """The sandbox is gone."""
        self.drains.forget(Key(namespace, name))
        self._namespace_uids.forget(Key(namespace, name))
        self._placements.forget(Key(namespace, name))
        self._offer_room()
        # All of them: a sandbox that was moved is remembered by its former host's backend as well.
        for backend in self._fleet:
            await backend.forget(namespace, name, last=False)

    def _offer_room(self) -> None:
        """A sandbox gave back its room. Who waits for it would else be overtaken by whoever comes next."""
        for key in self._sandboxes.unplaced():
            self._wake(key, 0)

    def _is_left(self, raw: Raw, host: str) -> bool:
        """Whether what this host may have of the sandbox is a leftover: the sandbox is on another engine for certain.

        A DockerHost that was given another name, or an engine with a new identifier, makes nothing a leftover.
        """
        placement, here = placement_of(raw), self._hosts.host_info(host)
        if placement is None or placement.host == host or here is None or here.engine_id is None:
            return False
        there = self._hosts.host_info(placement.host)
        return there is not None and there.engine_id == placement.engine_id != here.engine_id

    async def _remove(self, raw: Raw, placement: Placement) -> str:
        """Why not everything could be removed; empty where it was."""
        where = f"What the sandbox has on DockerHost {placement.host} can't be removed"
        remedy = "If the host is gone for good, delete the DockerHost."
        host = self._hosts.host_info(placement.host)
        # The same address, another engine: a container of that name there would be somebody else's.
        if host is not None and host.engine_id not in (None, placement.engine_id):
            return f"{where}: it stands for another engine now. {remedy}"
        metadata = raw["metadata"]
        try:
            namespace = await self._namespace_uids.of(raw)
        except ApiError as error:
            return f"{where}: its namespace can't be asked for: {error}"
        identity = Identity(
            metadata["namespace"], metadata["name"], metadata["uid"], namespace or "", workspace_of(raw)
        )
        workspace = (raw.get("spec") or {}).get("workspace") or {}
        # Of which namespace it is has to be known of what is to be removed for good.
        retain = namespace is None or workspace.get("retention", Retention.RETAIN) == Retention.RETAIN
        removal = await self._fleet.of(placement.host).remove(identity, retain=retain)
        if removal.removed:
            self._reporter.tell(raw, "Removed", f"Removed {', '.join(removal.removed)}.", warning=False)
        return "" if removal.done else f"{where}: {removal.problem}. {remedy}"

    async def _hold(self, raw: Raw) -> Raw | None:
        with self._sandboxes.writing(raw):
            try:
                held = await self._finalizers(raw, [*(raw["metadata"].get("finalizers") or ()), FINALIZER])
            except ApiError as error:
                if error.is_not_found:
                    return None
                raise
            self._sandboxes.learn(held)
        return held

    async def _finalizers(self, raw: Raw, wanted: list[str]) -> dict[str, Any]:
        """Lists are replaced whole, so nobody may have changed the object meanwhile."""
        metadata = raw["metadata"]
        patch = {"metadata": {"finalizers": wanted, "resourceVersion": metadata["resourceVersion"]}}
        return await self._api.patch(SANDBOXES, metadata["name"], metadata["namespace"], patch)


def _failure(refused: Refused) -> Failure:
    reason = Reason.IMAGE_NOT_ALLOWED if refused.refusal is Refusal.NO_IMAGE else Reason.NO_HOST
    return Failure(reason, refused.message, permanent=not refused.passes)
