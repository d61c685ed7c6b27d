"""Where keys come from, as a backend asks for them."""

from typing import Protocol

from claude_sandbox.backends.base import KeyState
from claude_sandbox.backends.docker.keys.delivery import Key
from claude_sandbox.blueprint.model import Identity


class KeySource(Protocol):
    """Where keys come from: the Secrets of the control plane."""

    async def state(self, identity: Identity, secret: str, key: str) -> KeyState:
        """What is known of the Secret that a sandbox names, without its data."""

    async def read(self, identity: Identity, secret: str, key: str) -> Key:
        """The key and its generation, read now. Raises KeyUnavailableError, never with the key in it."""
