"""Quarantine on one Docker host: frozen and cut off, kept as evidence, removed. Holds nothing."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status_fields.incident import MOST_MISSING, KeptEvidence
from claude_sandbox.backends.base import Failure
from claude_sandbox.backends.containment import ROOM, Containment, Kept, as_kept, packed
from claude_sandbox.backends.docker.containment.freezing import contain, release
from claude_sandbox.backends.docker.containment.gathering import LARGEST, gather
from claude_sandbox.backends.docker.containment.keeping import keep
from claude_sandbox.backends.docker.containment.memory import TURNS, clear, keep_memory
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.threads import of_tenant
from claude_sandbox.blueprint.model import Identity, Image


class DockerQuarantine:
    """Of one host. `limit`: seconds that the engine may take over what one call asks of it. `recipient`: who the memory
    of agents is kept for; None: it is not kept."""

    def __init__(
        self,
        engine: Engine,
        cluster: str,
        host: str,
        helper: Image | None,
        limit: float,
        now: Callable[[], datetime],
        recipient: str | None = None,
    ) -> None:
        self._engine = engine
        self._cluster = cluster
        self._host = host
        self._helper = helper
        self._limit = limit
        self._now = now
        self._recipient = recipient

    async def contain(self, identity: Identity) -> Containment:
        """Freeze the sandbox and cut it off, whatever state it is in; what it was can still be kept then."""
        try:
            async with asyncio.timeout(self._limit):
                with of_tenant(identity.namespace):
                    return await contain(self._engine, self._cluster, identity)
        except (TimeoutError, EngineError) as error:
            message = f"Docker host {self._host} could not be asked: {self._why(error)}"
            return Containment(ConditionStatus.UNKNOWN, message)

    async def keep_evidence(self, identity: Identity, since: datetime, more: Mapping[str, bytes]) -> Kept:
        """Gather what a frozen sandbox was, with `more` files, and keep it on its host."""
        if self._helper is None:
            message = "Evidence is kept by a container of the operator's own image, and none is set (--operator-image)."
            return Failure(Reason.REJECTED, message, permanent=True)
        if self._recipient is not None and not TURNS.left:
            message = "The memory of other sandboxes is being kept; the evidence of this one is kept after theirs."
            return Failure(Reason.RETRYING, message, permanent=False)
        try:
            # At once, and not when all else is kept: until then others would find the same turn free.
            with TURNS.one() if self._recipient is not None else nullcontext():
                # What a crash left of an earlier try, whether or not there is a recipient now.
                await clear(self._engine, self._cluster, identity)
                with ROOM.share(LARGEST) as most:
                    kept = await self._gathered(self._helper, identity, since, more, most)
                if self._recipient is None:
                    return kept
                return await self._with_memory(self._helper, identity, since, kept, self._recipient)
        except (TimeoutError, EngineError) as error:
            message = f"Evidence could not be kept on Docker host {self._host} yet: {self._why(error)}."
            return Failure(Reason.RETRYING, message, permanent=False)

    async def _gathered(
        self, helper: Image, identity: Identity, since: datetime, more: Mapping[str, bytes], most: int
    ) -> KeptEvidence:
        async with asyncio.timeout(self._limit):
            found = await gather(self._engine, self._cluster, identity, most)
            found.files |= more
            whole = await asyncio.to_thread(packed, found, since)
            place = await keep(self._engine, self._cluster, identity, helper, since, whole)
        return as_kept(found, whole, place, self._now())

    async def _with_memory(
        self, helper: Image, identity: Identity, since: datetime, kept: KeptEvidence, recipient: str
    ) -> KeptEvidence:
        # After all else was kept: CRIU reaches into the processes, and takes as long as they have memory.
        memory = await keep_memory(self._engine, self._cluster, identity, helper, since, recipient)
        missing = [*memory.missing, *kept.missing][:MOST_MISSING]
        return kept.model_copy(update={"checkpoint": memory.checkpoint, "missing": missing})

    async def release(self, identity: Identity) -> Failure | None:
        """Remove what was frozen, so that another may be made; why it can't be, where it can't."""
        try:
            async with asyncio.timeout(self._limit):
                await clear(self._engine, self._cluster, identity)
                await release(self._engine, self._cluster, identity)
        except (TimeoutError, EngineError) as error:
            message = f"What was in quarantine could not be removed from Docker host {self._host}: {self._why(error)}."
            return Failure(Reason.RETRYING, message, permanent=False)
        return None

    def _why(self, error: Exception) -> str:
        return str(error) or f"it did not do within {self._limit:.0f} s what it was asked"
