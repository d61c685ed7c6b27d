"""Reads a sandbox's key out of its Secret, at the moment that it is needed."""

import base64
import binascii
from collections.abc import Awaitable, Callable

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import KeyState
from claude_sandbox.backends.docker.keys.delivery import Key, KeyUnavailableError
from claude_sandbox.backends.kubernetes.watches import secret_opt_in as secret_states
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.gateway.config.follow import secret_text
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SECRETS

KeyStates = Callable[[Identity, str, str], Awaitable[KeyState]]
"""Whether a Secret may be used and which generation it has: as for sandboxes on Kubernetes."""


class SecretKeys:
    """The keys of one control plane's Secrets. Keeps none."""

    def __init__(self, api: Api, states: KeyStates) -> None:
        self._api = api
        self._states = states

    async def state(self, identity: Identity, secret: str, key: str) -> KeyState:
        """What is known of the Secret, without its data."""
        return await self._states(identity, secret, key)

    async def read(self, identity: Identity, secret: str, key: str) -> Key:
        """The key as it is now, with the generation that it has. Raises KeyUnavailableError.

        The document that is read is the one that has to have opted in: what was known of it before may be of another.
        """
        where = f"Secret {identity.namespace}/{secret}"
        try:
            live = await self._api.get(SECRETS, secret, identity.namespace)
        except ApiError as error:
            if error.is_not_found:
                missing = secret_states.not_found(identity.namespace, secret, key)
                raise KeyUnavailableError(Reason.SECRET_NOT_FOUND, missing.message) from None
            raise KeyUnavailableError(Reason.RETRYING, f"{where} could not be read: {error.reason}.") from None
        if not secret_states.has_opted_in(live):
            allowed = await self._states(identity, secret, key)
            # Where its own word can't be followed, an administrator's counts: the namespace's, asked for after reading.
            if allowed.problem is not None or allowed.generation is not None:
                refused = secret_states.not_opted_in(identity.namespace, secret)
                raise KeyUnavailableError(Reason.SECRET_NOT_OPTED_IN, refused.message)
        encoded = (live.get("data") or {}).get(key)
        try:
            value = bytearray(base64.b64decode(encoded or "", validate=True))
        except (binascii.Error, ValueError):
            value = bytearray()
        # What could not be in a header is none either: a gateway that is told of it would go on with the one before.
        if secret_text(bytes(value)) is None:
            raise KeyUnavailableError(
                Reason.SECRET_KEY_MISSING,
                f"{where} has no API key and no token under the key {key}: put it there as it was given, on one line, "
                "or name another key in spec.credentials.",
            )
        return Key(str(live["metadata"]["resourceVersion"]), value)
