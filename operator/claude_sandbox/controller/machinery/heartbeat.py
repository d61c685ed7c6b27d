"""An operator that stands for no election says all the same that it runs.

It does so by the Lease of those that stand for one, every ten seconds: who reads a status has to know whether anybody
keeps it. Nothing rests on it here: no write is permitted or refused by it, and while the API server is away or says no,
the work goes on. Of another operator that renews the Lease nothing is taken.

Holds the Lease as it was last written or read. A crash leaves it, and the next operator renews it at once where it has
the same identity, and else when it has run out.
"""

import asyncio
import logging
import time

from claude_sandbox.controller.machinery import election
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import LEASES

logger = logging.getLogger(__name__)

INTERVAL = 10.0
LASTS = 40.0
"""In seconds; those of a kubelet's Lease of its node."""


class Heartbeat:
    """Of one process; `run` is called once. `lasts`: for how many seconds a renewal speaks."""

    def __init__(self, api: Api, namespace: str, name: str, identity: str, *, lasts: float = LASTS) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lasts = lasts
        self._lease: Obj | None = None
        self._trouble = ""

    async def run(self) -> None:
        """Renew it until cancelled."""
        while True:
            started = time.monotonic()
            await self.beat()
            await asyncio.sleep(max(0.0, started + INTERVAL - time.monotonic()))

    async def beat(self) -> None:
        """Renew it once, unless another holds it. What stands in the way is logged once."""
        trouble = ""
        try:
            await self._renew()
        except ApiError as error:
            self._lease = None  # read it before the next try
            # Somebody else wrote it meanwhile: what it is then, the next read says.
            trouble = "" if error.is_conflict or error.is_already_exists else str(error)
        if trouble and trouble != self._trouble:
            logger.warning("reports can't tell that this operator runs: %s", trouble)
        self._trouble = trouble

    async def _renew(self) -> None:
        if self._lease is None:
            self._lease = await self._found()
        if self._lease is None:
            spec = election.renewed({}, self._identity, self._lasts)
            wanted = election.new(self._name, self._namespace, spec)
            self._lease = await self._api.create(LEASES, wanted, self._namespace)
            return
        before = self._lease.get("spec") or {}
        if before.get("holderIdentity") not in (None, "", self._identity):
            # Another's: ours once it is not renewed any more. What tells is that its version stays the same.
            await asyncio.sleep(max(self._lasts, before.get("leaseDurationSeconds") or 0))
            again = await self._found()
            if again is None or again["metadata"]["resourceVersion"] != self._lease["metadata"]["resourceVersion"]:
                self._lease = again
                return
        renewed = election.renewed(before, self._identity, self._lasts)
        self._lease = await self._api.replace(LEASES, {**self._lease, "spec": renewed})

    async def _found(self) -> Obj | None:
        try:
            return await self._api.get(LEASES, self._name, self._namespace)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
