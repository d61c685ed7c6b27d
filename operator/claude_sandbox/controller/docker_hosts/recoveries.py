"""Moving sandboxes away from hosts that are compromised, each with the last backup that was verified before.

Nothing is asked of the old host, and nothing is taken from it. So the move is one write: where the sandbox is from now
on, with which backup it begins there, which key was lost, and that nothing of it runs or was restored. Before it the
sandbox is where it was; after it, it is one that was placed on a host and has a workspace to be filled.

Theory of operation. Holds nothing but whom it told why they stay. The sandbox is read anew before it is moved: a former
leader may have moved it already. The keys that it had there are named by the host's own status first, or it would take
the only word of them along. Rooms are compared and taken under `choosing`, so that no two sandboxes get the same.
Called by the pass over the sandbox, and so once at a time. A crash before the write leaves all as it was, one after it
a sandbox on its new host; either is gone on with by the next pass.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from claude_sandbox.api.docker_hosts.status import StayReason
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import Placement
from claude_sandbox.api.status_fields.incident import LostKey
from claude_sandbox.api.status_fields.recovery import RecoveryStatus
from claude_sandbox.backends.docker.hosts.backends import Fleet
from claude_sandbox.backends.docker.hosts.placement import Candidate, PlacementRequest, Stay, elsewhere
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.backups.choice import Chosen, chosen
from claude_sandbox.controller.docker_hosts.compromised import CompromisedHosts
from claude_sandbox.controller.docker_hosts.drains import lost_of
from claude_sandbox.controller.docker_hosts.reconciler import HostReconciler
from claude_sandbox.controller.sandboxes.interfaces import Reporter, Stays
from claude_sandbox.controller.sandboxes.store import Key, Raw, key_of, placement_of

SOON, AGAIN = 0.5, 15.0
"""Seconds until it is worth another look: for what the operator itself is about to write, and for anything else."""


class Backups(Protocol):
    """The ClaudeSandboxBackups."""

    async def known(self, namespace: str) -> str: ...

    def of(self, sandbox: Key) -> Iterable[Raw]: ...


class Recoveries:
    """Of one operator. `choosing` is held while a host is chosen and stored; `wake_host` has a host looked at."""

    def __init__(
        self,
        reporter: Reporter,
        fleet: Fleet,
        hosts: HostReconciler,
        compromised: CompromisedHosts,
        backups: Callable[[], Backups | None],
        choosing: asyncio.Lock,
        wake_host: Callable[[str], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC).replace(microsecond=0),
    ) -> None:
        self._reporter = reporter
        self._fleet = fleet
        self._hosts = hosts
        self._compromised = compromised
        self._backups = backups
        self._choosing = choosing
        self._wake_host = wake_host
        self._clock = clock

    async def leave(
        self,
        raw: Raw,
        identity: Identity,
        spec: ClaudeSandboxSpec,
        wish: PlacementRequest,
        store: Callable[[Raw, Placement, Mapping[str, object]], Awaitable[Raw | None]],
    ) -> Raw | Stays | None:
        """The sandbox on another host, or why it stays; None where it is gone. Raises ApiError.

        `store` writes its placement and more into its status. `raw` is the sandbox as it is stored now.
        """
        current = placement_of(raw)
        assert current is not None  # noqa: S101 - it is on a compromised host
        moment = self._compromised.settled(raw)
        # What was not looked at yet may be the compromised engine under another name.
        if moment is None or self._hosts.unseen():
            return Stays("It leaves the host once that one's status names what was there.", SOON)
        backup = await self._backup(raw, moment)
        if not isinstance(backup, Chosen):
            return Stays(f"It can't begin anew elsewhere by itself: {backup}. {_BY_HAND}", AGAIN)
        async with self._choosing:
            target = elsewhere(wish, current.host, self._candidates(raw, current))
            if isinstance(target, Stay):
                return Stays(_nowhere(target), AGAIN)
            # Their names follow from the sandbox: the old host is not asked.
            names = self._fleet.of(target.host).kept_volumes(identity, home=spec.workspace.keep_home is not None)
            recovery = RecoveryStatus(
                host=current.host,
                engine_id=current.engine_id,
                at=self._clock(),
                backup=backup.name,
                snapshot=backup.snapshot,
                backed_up_at=backup.at,
                left=list(names),
            )
            moved = await store(raw, target, _written(recovery, self._compromised.key_of_lost(raw)))
        if moved is not None:
            self._tell(moved, target, recovery)
            for host in (current.host, target.host):
                self._wake_host(host)
        return moved

    async def _backup(self, raw: Raw, moment: datetime) -> Chosen | str:
        backups, key = self._backups(), key_of(raw)
        if backups is None:
            return "the operator does not know of backups yet"
        if why := await backups.known(key.namespace):
            return why.removesuffix(".")
        return chosen(raw, backups.of(key), moment)

    def _candidates(self, raw: Raw, current: Placement) -> list[Candidate]:
        """Those that may take it: no engine that is compromised, by whatever name, nor the one that it left before."""
        before = ((raw.get("status") or {}).get("recovery") or {}).get("engineId")
        found = self._hosts.candidates()
        # By engine, since one machine may be made known under several names.
        lost = self._compromised.engines() | {current.engine_id, before}
        return [one for one in found if one.engine_id not in lost]

    def _tell(self, raw: Raw, target: Placement, recovery: RecoveryStatus) -> None:
        left = f" Left there, and used by nothing: {', '.join(recovery.left)}.{lost_of(raw)}"
        message = (
            f"Moved from DockerHost {recovery.host}, which is compromised, to {target.host}. It begins with"
            f" ClaudeSandboxBackup {recovery.backup}, of {recovery.backed_up_at:%Y-%m-%dT%H:%M:%SZ}.{left}"
        )
        self._reporter.tell(raw, "Moved", message, warning=True)
        self._hosts.tell(
            recovery.host, "SandboxMoved", f"{key_of(raw)} was moved to DockerHost {target.host}, with a backup."
        )


_BY_HAND = "Delete the sandbox, and make it anew, with spec.restoreFrom of a backup that was kept somewhere else."


def _nowhere(why: Stay) -> str:
    remedy = "Have an administrator make another host known, or give it room"
    if why.reason is StayReason.NO_IMAGE:
        remedy = "Have an administrator allow the image on another host"
    return f"It can't begin anew elsewhere now: {why.message}. {remedy}; it leaves as soon as one takes it."


def _written(recovery: RecoveryStatus, lost: LostKey | None) -> dict[str, object]:
    """What is stored with the new placement, as a merge patch."""
    key = None if lost is None else lost.model_dump(mode="json", by_alias=True, exclude_none=True)
    told = recovery.model_dump(mode="json", by_alias=True, exclude_none=True)
    # None takes a field away in a merge patch: what these said was of the old host.
    nothing: dict[str, object] = dict.fromkeys(("workload", "endpoints", "restore"))
    return nothing | {"recovery": told} | ({} if key is None else {"lostKey": key})
