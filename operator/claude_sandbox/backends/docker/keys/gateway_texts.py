"""What opens a sandbox's services and repositories, on its way from their Secrets to the gateway. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from claude_sandbox.gateway.services.declared import Unopened

Texts = dict[str, bytearray]
"""Bytes by their names; in no repr of what has them."""


@dataclass
class GatewayTexts:
    """What was read; to be wiped by who has asked for it.

    `services`: by their names; each was read for the service's own host, and is for no other. `unopened`: the others,
    and why there is none. `git`: by Secret, the keys that git's credentials are in.
    """

    services: Texts = field(default_factory=dict, repr=False)
    unopened: Mapping[str, Unopened] = field(default_factory=dict)
    git: dict[str, Texts] = field(default_factory=dict, repr=False)

    def wipe(self) -> None:
        """Overwrite all of it."""
        for value in chain(self.services.values(), *(one.values() for one in self.git.values())):
            value[:] = bytes(len(value))
