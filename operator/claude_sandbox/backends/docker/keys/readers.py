"""What of a sandbox's secrets is read while one pass of it is carried out. None of it is kept."""

import asyncio
from dataclasses import replace
from functools import partial

from claude_sandbox.backends.docker.keys.delivery import Key
from claude_sandbox.backends.docker.keys.gateway_secrets import GatewayCredentials, with_generations
from claude_sandbox.backends.docker.keys.gateway_texts import GatewayTexts
from claude_sandbox.backends.docker.keys.placeholder import placeholder_of
from claude_sandbox.backends.docker.keys.source import KeySource
from claude_sandbox.blueprint.model import Blueprint, Gateway


class Readers:
    """Of one pass over one sandbox. Each raises KeyUnavailableError."""

    def __init__(self, blueprint: Blueprint, secrets: KeySource, gateway_secrets: GatewayCredentials) -> None:
        self._blueprint = blueprint
        self._secrets = secrets
        self._gateway_secrets = gateway_secrets

    async def key(self) -> Key:
        """What the sandbox itself is to have: its key, or where it has a gateway a placeholder."""
        key = await self.credential()
        if self._blueprint.gateway is None:
            return key
        try:
            return await asyncio.to_thread(placeholder_of, key, self._blueprint.identity.uid)
        finally:
            key.wipe()

    async def credential(self) -> Key:
        """The key, for the sandbox's gateway."""
        reference = self._blueprint.key
        return await self._secrets.read(self._blueprint.identity, reference.secret, reference.key)

    async def others(self) -> GatewayTexts:
        """What opens the sandbox's services and repositories, for its gateway."""
        return await self._gateway_secrets.read(self._blueprint.identity, self._blueprint.gateway or Gateway())


def told_of_secrets(blueprint: Blueprint, gateway_secrets: GatewayCredentials) -> Blueprint:
    """With which Secrets of services and repositories there are now, so that the gateway is told of others."""
    if blueprint.gateway is None:
        return blueprint
    generation = partial(gateway_secrets.generation, blueprint.identity.namespace)
    return replace(blueprint, gateway=with_generations(blueprint.gateway, generation))
