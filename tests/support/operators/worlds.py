"""Namespaces with an operator each, made as a test asks for them, and ended together."""

import uuid
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from gate import Gate
from ledger import OF_GATEWAYS, Ledger
from nursery import Nursery
from world import World

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials
from claude_sandbox.kubernetes_api.errors import ApiError


class Worlds:
    """Makes worlds, and ends them all."""

    def __init__(self, api: Api, credentials: Credentials, directory: Path, nursery: Nursery) -> None:
        self.worlds: list[World] = []
        self._api = api
        self._credentials = credentials
        self._directory = directory
        self._nursery = nursery
        self._stack = AsyncExitStack()

    async def __call__(
        self, *, secret: bool = True, upstream: Credentials | None = None, gateways: bool = False
    ) -> World:
        """A new namespace, with a key in it unless said otherwise; `upstream` is what the operator logs in with, and
        with `gateways` what belongs to the namespace's gateway is followed too."""
        name = f"t-{uuid.uuid4().hex[:8]}"
        await self._api.create(r.NAMESPACES, {"metadata": {"name": name}})
        ledger = await self._stack.enter_async_context(Ledger(self._api, name, OF_GATEWAYS if gateways else ()))
        gate = await self._stack.enter_async_context(Gate(upstream or self._credentials))
        world = World(self._api, name, ledger, gate, self._directory, self._nursery)
        self._stack.push_async_callback(world.close)
        self.worlds.append(world)
        if secret:
            await world.add_secret()
        return world

    async def gate(self) -> Gate:
        """A further way to the server."""
        return await self._stack.enter_async_context(Gate(self._credentials))

    async def close(self) -> None:
        """End the operators, show what they said, and give the namespaces back."""
        await self._stack.aclose()
        for world in self.worlds:
            for process in world.operators:
                print(f"--- {process.log.name}\n{process.said()[-60000:]}")
            with suppress(ApiError):
                await self._api.delete(r.NAMESPACES, world.namespace)
