"""Follows one object by asking for it now and then, where a role can't grant watching it.

A Role can let an account get its own Namespace, but not list or watch it: RBAC sees those as requests about the whole
cluster.

Theory of operation. As an informer, with a look instead of a list, and no watch: a change is told at the next look,
some SECONDS later, and of several changes between two looks only the sum.
"""

import asyncio
import random

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.informers.informer import Informer, OnChange, Timings
from claude_sandbox.kubernetes_api.resources import Resource

SECONDS = 60.0


class Poller(Informer):
    """An informer of the one object of this name that the cluster may have."""

    def __init__(self, api: Api, resource: Resource, name: str, on_change: OnChange, pace: Timings) -> None:
        super().__init__(api, resource, field_selector=f"metadata.name={name}", on_change=on_change, pace=pace)
        self._name = name

    async def run(self) -> None:
        """Ask until cancelled."""
        failures = 0
        pause = min(SECONDS, self._pace.resync)
        while True:
            try:
                await self._ask()
                failures = 0
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
            except ApiError as error:
                failures += 1
                await self._rest(error, failures)

    async def _ask(self) -> None:
        found = []
        try:
            found.append(self._arrived(await self._api.get(self.resource, self._name)))
        except ApiError as error:
            # That there is none is an answer, here; of a list it would mean that the kind does not exist.
            if not error.is_not_found:
                raise
        for old, new in self.store.replace(found):
            self._tell(old, new)
        self.readable = True
        self._touch()
        self.synced.set()
        self.settled.set()
